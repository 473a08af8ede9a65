"""The command line, ``pmitogen``: one module per subcommand, loaded when it is asked for.

``pmitogen plugin-path`` is run by scripts and shells at start-up; so nothing here loads Paramiko, Mitogen or Ansible at import.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv* (default: this process's own). Returns the exit code: 0, 1 for an error, 2 for wrong usage."""
    from pmitogen.cli import dispatch

    return dispatch.main(argv)
