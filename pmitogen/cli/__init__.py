"""The command line, ``pmitogen``. ``dispatch.py`` loads a subcommand when it is used.

A subcommand is a module (``ping.py``) or a package that begins in its ``main.py`` (``sftp/``; ``demo/`` in ``play.py``).
``errors.py``, ``colour.py``, ``prompt.py``, ``ssh_args.py`` and ``transfer/`` serve several of them.

``pmitogen plugin-path`` is run by scripts and shells at start-up; so nothing here loads Paramiko, Mitogen or Ansible at import.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv* (default: this process's own). Returns the exit code: 0, 1 for an error, 2 for wrong usage."""
    from pmitogen.cli import dispatch

    return dispatch.main(argv)
