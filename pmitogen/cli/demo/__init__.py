"""``pmitogen demo``: a playbook against an SSH server on loopback.

The command begins in ``play.py``; ``server.py`` is the server, which ``pmitogen.testing`` uses as well.
"""
