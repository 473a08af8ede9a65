"""``pmitogen keygen``: make, show and change SSH keys, and edit known_hosts, with ssh-keygen's command line."""
