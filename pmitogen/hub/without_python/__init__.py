"""Requests that are served by the login shell and SFTP: the host has no Python, or does not need it yet.

``shell_requests.py`` is the entry. ``simple_commands.py`` says which requests need no Python; ``simple_request.py`` runs one such
command and ``download.py`` reads one file, each in its own session. ``shell_request.py`` serves any other request on a thread.
"""
