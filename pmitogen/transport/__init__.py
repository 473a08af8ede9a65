"""One SSH connection, on Paramiko. It knows neither Mitogen nor Ansible.

``connect.py`` makes a connection, ``connection.py`` is one, and ``sessions/`` runs commands and copies files over it.
"""
