"""Options of ssh: an argument vector in, :class:`~pmitogen.flags.ssh.settings.Settings` out.

``resolve.py`` is the entry. ``command_line.py`` and ``config_file.py`` parse, by the table in ``keywords.py``; ``values/`` has
the types of values, and ``report/`` explains the result to users.
"""
