"""Explanations of resolved options for users: a verdict on each, the output of ``ssh -G``, and docs/ssh-options.md.

``verdicts.py`` makes the report that Settings contain; ``explain.py`` is ``pmitogen explain ssh``.
"""
