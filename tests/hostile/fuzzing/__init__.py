"""Fuzzing of all parsers of peers' data and of files: ``python -m tests.hostile.fuzzing [--seconds N] [TARGET...]``.

``targets`` lists the parsers, ``mutation`` makes inputs without a tool, ``__main__`` runs both, with atheris (coverage-guided)
if it is installed.
"""
