"""Fuzzing of everything that reads what a peer or a file says: ``python -m tests.hostile.fuzzing [--seconds N] [TARGET...]``.

``targets`` lists what is fuzzed, ``mutation`` makes inputs without a tool, ``__main__`` runs both, with atheris (coverage-guided)
where it is installed.
"""
