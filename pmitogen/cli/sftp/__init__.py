"""``pmitogen sftp``: list, copy and change the files of a server, with the command line and the commands of sftp(1)."""
