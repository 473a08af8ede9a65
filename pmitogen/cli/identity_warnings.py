"""Warn about identity files that do not exist, with ssh's own line."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from pmitogen.flags.ssh.command_line import identity_problem
from pmitogen.flags.ssh.lexer import ConfigValueError
from pmitogen.flags.ssh.local_host import LocalHost
from pmitogen.util.peer_text import one_line


def warn_of_inaccessible(paths: Iterable[str]) -> None:
    """Print a line on stderr for each value of ``-i`` that names no accessible file: as ssh, even with ``-q``."""
    local = LocalHost.detect()
    for path in paths:
        try:
            problem = identity_problem(path, local)
        except ConfigValueError:  # an unknown user, which the login reports
            continue
        if problem is not None:
            sys.stderr.write(one_line(f"Warning: Identity file {problem[0]} not accessible: {problem[1]}.") + "\n")
    sys.stderr.flush()
