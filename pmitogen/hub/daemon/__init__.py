"""The hub as a process that serves the workers of one run on a private socket.

Workers begin in ``start_or_adopt.py``; the process begins in ``main.py``, and ``server.py`` has its socket.
"""
