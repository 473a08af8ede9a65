"""The hub, which owns every connection of a run, and its client.

``registry.py`` has the hosts (the library uses it in its own process), ``host/`` is one of them, ``login.py`` makes its SSH
connection, ``agent_channel.py`` has the frames to its agent, and ``shell_requests.py`` serves it without Python. ``daemon/``
makes the hub a process that serves Ansible's workers on a private socket. Workers import only ``client.py`` and what that needs.
"""
