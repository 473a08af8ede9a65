"""Forwarded ports and sockets, and the forwarded agent.

``local.py`` is ssh's ``-L`` and ``-D``, ``remote.py`` is ``-R``, and ``agent_forwarding.py`` is ``-A``.
"""
