"""``pmitogen agent`` and ``pmitogen add``: a key agent for machines without OpenSSH, and the command that adds keys to it.

``server.py`` has the agent's socket, ``protocol.py`` answers its messages, and ``keyring.py`` stores the keys.
"""
