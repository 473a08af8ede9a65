"""Types of keyword values: each parses the arguments of a line, merges, checks and renders the value.

``base.py`` has their interface; ``flags/ssh/keywords.py`` names the type of each keyword.
"""
