"""Session channels: commands, subsystems, and files over SFTP.

``exec_command.py`` runs commands and subsystems; ``file_transfer.py`` copies a file, by SFTP (``sftp_client.py``) if possible.
"""
