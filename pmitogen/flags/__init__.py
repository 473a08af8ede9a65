"""Text in, meaning out: ssh command lines and files, become flags. No Paramiko, no Mitogen."""
