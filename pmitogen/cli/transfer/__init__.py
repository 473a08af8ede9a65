"""Copy files and trees between this machine and SFTP servers: the common part of ``pmitogen cp`` and ``pmitogen sftp``."""
