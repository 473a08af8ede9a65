"""Running simple commands, which simple_commands.py defines. ``request.py`` is the entry."""
