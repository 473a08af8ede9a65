"""The directory for ``connection_plugins`` in ansible.cfg."""
