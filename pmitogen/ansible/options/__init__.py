"""The plugin's options: their registration with Ansible, a cache of their values, and what is generated from them.

``table.py`` has the options; ``generate.py`` makes it from the plugin's DOCUMENTATION.
"""
