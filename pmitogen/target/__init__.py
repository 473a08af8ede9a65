"""The code that runs on targets: Python 2.7 and every 3.x, with the standard library only.

``boot.py`` forks the first interpreter: one process becomes the agent (``agent/``), which speaks to the hub, the other the
runner of the login account. ``runner.py`` reads a runner's frames, ``dispatch.py`` does what they request, ``fork.py`` forks.
``payload/`` runs Ansible's modules from memory. ``library/`` has functions that the library calls on hosts.

Of pmitogen it imports ``protocol/framing.py`` and ``become/`` only, which travel with it.
"""
