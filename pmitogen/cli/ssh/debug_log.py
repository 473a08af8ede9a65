"""Debug lines on standard error for ``-v`` and LogLevel, as ssh prints them: ``debug1: ...``.

Programs that start ssh recognise them by that form. The lines are Paramiko's, and a few of this client, without transferred data.
"""

from __future__ import annotations

import logging
import sys

from pmitogen.transport.connection import Connection
from pmitogen.transport.log_file import NAME
from pmitogen.util.peer_text import one_line

_LEVELS = {"DEBUG": 1, "DEBUG1": 1, "DEBUG2": 2, "DEBUG3": 3}
_OWN = "pmitogen.cli.ssh"
_LEVEL = "ssh_debug_level"  # attribute of a record


def enable(loglevel: str, has_file: bool = False) -> None:
    """Print debug lines from now on, if *loglevel* has them and no log file takes them (-E). Idempotent."""
    level = 0 if has_file else _LEVELS.get(loglevel, 0)
    for name in (_OWN, NAME):
        logger = logging.getLogger(name)
        if level and not any(isinstance(each, _Handler) for each in logger.handlers):
            logger.addHandler(_Handler(level))
            logger.setLevel(logging.DEBUG if level > 1 else logging.INFO)


def debug(text: str, level: int = 1) -> None:
    """Print one line, if lines of *level* (1 to 3) are printed."""
    logging.getLogger(_OWN).log(logging.INFO if level == 1 else logging.DEBUG, "%s", text, extra={_LEVEL: level})


def debug_attempts(connection: Connection) -> None:
    """Print how a login went."""
    for attempt in connection.auth_report.attempts:
        debug(f"Authentication: {attempt}")


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]  # Python 3.10 cannot subscript it
    """Writes the lines up to *verbosity*, from 1 to 3."""

    terminator = "\r\n"

    def __init__(self, verbosity: int) -> None:
        super().__init__(sys.stderr)
        self._verbosity = verbosity

    def filter(self, record: logging.LogRecord) -> bool:
        return _level_of(record) <= self._verbosity

    def format(self, record: logging.LogRecord) -> str:
        return f"debug{_level_of(record)}: {one_line(record.getMessage())}"


def _level_of(record: logging.LogRecord) -> int:
    own: int | None = getattr(record, _LEVEL, None)
    if own is not None:
        return own
    if record.levelno >= logging.INFO:
        return 1
    return 3 if record.getMessage().startswith("[chan ") else 2
