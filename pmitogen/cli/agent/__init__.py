"""``pmitogen agent`` and ``pmitogen add``: a key agent for machines without OpenSSH, and the command that adds keys to it."""
