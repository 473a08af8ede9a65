"""Entering another account of the target: sudo, su and doas through a terminal. Travels to targets: Python 2.7 and 3.x."""
