"""The plugin's options: their registration with Ansible, and the table that is generated from their documentation.

``table.py`` has the options; ``generate.py`` makes it from the plugin's DOCUMENTATION.
"""
