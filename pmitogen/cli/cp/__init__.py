"""``pmitogen cp``: copy files between machines over SFTP, with the command line of scp(1)."""
