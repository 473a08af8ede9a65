"""``pmitogen agent`` and ``pmitogen add``: a key agent for machines without OpenSSH, and what loads keys into it."""
