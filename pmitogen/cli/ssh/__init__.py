"""``pmitogen ssh``: an ssh client for machines without OpenSSH, with ssh's own command line, streams and exit status."""
