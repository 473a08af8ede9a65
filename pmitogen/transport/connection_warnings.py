"""Warnings about the host key and the algorithms of a connection that is made nevertheless.

They appear where OpenSSH prints a line, and under the same LogLevel. Each is about one host and of one kind, so that a program
that makes the same connection several times can show it once.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import NamedTuple


class Severity(str, enum.Enum):
    """Severity of a warning. LogLevel ERROR and below hide all but the first, and LogLevel FATAL and QUIET all."""

    ERROR = "error"  # another machine may be at the other end
    WARNING = "warning"
    NOTICE = "notice"  # the user's own option makes it happen with every new host

    __str__ = str.__str__


class ConnectionWarning(NamedTuple):
    """One line for the user.

    *host* is the host's name and port. *kind* is ``changed``, ``address``, ``added``, ``unrecorded`` or ``weak``. *text* is the
    line, without the word "Warning".
    """

    host: str
    kind: str
    severity: Severity
    text: str


Warn = Callable[[ConnectionWarning], None]


def ignore(warning: ConnectionWarning) -> None:
    """Show nothing."""


def visible(warnings: Iterable[ConnectionWarning], loglevel: str) -> tuple[ConnectionWarning, ...]:
    """Return those of *warnings* that this LogLevel shows."""
    if loglevel in ("QUIET", "SILENT", "FATAL"):
        return ()
    return tuple(each for each in warnings if each.severity is Severity.ERROR or loglevel != "ERROR")
