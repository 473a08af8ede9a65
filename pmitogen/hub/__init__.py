"""The hub, which owns every connection of a run, and its client.

``registry.py`` has all hosts, and ``host/`` one of them. ``login.py`` makes a host's SSH connection, ``agent_channel.py`` sends
and receives the frames of its agent, and ``without_python/`` serves requests by the login shell and SFTP. The library uses these
in its own process. ``daemon/`` makes the hub a process that serves Ansible's workers on a private socket. Workers import
``client.py`` only.
"""
