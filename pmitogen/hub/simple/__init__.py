"""Simple commands under way; simple_commands.py says what they are. ``request.py`` is the entry."""
