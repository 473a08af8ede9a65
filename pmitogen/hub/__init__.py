"""The process that owns every connection of a run, and its thin client.

``contexts.py`` keeps the hosts (the library uses it in-process), ``host.py`` is one of them, ``blobs.py`` what has been
read of payload archives; ``server.py`` serves them to Ansible's workers on a private socket, ``main.py`` is that process;
``client.py`` and ``paths.py`` are all that a worker imports.
"""
