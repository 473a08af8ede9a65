"""Functions that tests call on targets; they import nothing from the tests."""


def current_directory_on_path() -> list[str]:
    """Return the entries of the interpreter's path that name the current directory."""
    import os
    import sys

    here = os.getcwd()
    return [path for path in sys.path if path in ("", ".") or os.path.abspath(path) == here]
