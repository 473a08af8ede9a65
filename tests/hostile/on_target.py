"""Functions that tests call on targets: they import nothing of the tests."""


def current_directory_on_path() -> list[str]:
    """What the interpreter has of the current directory on its path."""
    import os
    import sys

    here = os.getcwd()
    return [path for path in sys.path if path in ("", ".") or os.path.abspath(path) == here]
