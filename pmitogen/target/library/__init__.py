"""Modules that travel to a target only when the library asks for them: Python 2.7 and 3.x, standard library only."""
