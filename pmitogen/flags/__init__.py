"""Parsers of ssh command lines, ssh configuration files and become flags. Import neither Paramiko nor Mitogen."""
