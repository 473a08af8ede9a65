"""What runs on targets: Python 2.7 and every 3.x, the standard library only, nothing else of pmitogen.

``boot.py`` splits the first interpreter in two; ``agent.py`` speaks Mitogen with the hub; ``runner.py``, ``child.py``,
``payload.py`` and ``files.py`` make the warm, single-threaded process of one account; ``frames.py`` is what they say to
each other.
"""
