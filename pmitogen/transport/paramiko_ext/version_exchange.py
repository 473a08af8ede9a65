"""The version exchange (RFC 4253 section 4.2): the lines before a server's version, and the version itself.

A server may send lines of text first. OpenSSH's rules hold: 8 KiB for a line, 1024 lines, one time limit for all of them, no NUL,
a carriage return only before a line feed. Two lines from the start and two from the end are stored for messages.

Missing upstream (Paramiko 5.1): ``Transport._check_banner`` reads 100 lines of any length, waits two seconds for each after the
first, and calls a pause garbage. Upstream is fixed when it reads a version that comes three seconds after another line.
"""

from __future__ import annotations

import re
import time
from typing import Protocol

from paramiko.ssh_exception import SSHException

from pmitogen.util import peer_text

MAX_LINE = 8192  # bytes; SSH_MAX_BANNER_LEN of OpenSSH
MAX_LINES = 1024  # SSH_MAX_PRE_BANNER_LINES
QUOTED_LINES = 2  # from the start, and as many from the end
MAX_QUOTED = 100  # characters of a line in a message
_VERSION = re.compile(r"SSH-([0-9]{1,4})\.([0-9]{1,4})-(.+)")


class NotSSH(SSHException):
    """The peer is not an SSH server. The message quotes its data."""


class NoVersion(SSHException):
    """The peer sent no version in time."""


class LineSource(Protocol):
    """A source of lines, and of the data that is not read yet."""

    def read_line(self, limit: int, until: float | None) -> bytes | None:
        """See ``FastPacketizer.read_line``."""

    def unread(self) -> bytes:
        """See ``FastPacketizer.unread``."""


class VersionExchange:
    """Reads a server's lines. *lines*: their number before the version; *version*: empty until it was received."""

    def __init__(self) -> None:
        self.lines = 0
        self.version = ""
        self.received_at: float | None = None  # time.monotonic() seconds, of the version
        self._first: list[str] = []
        self._last: list[str] = []
        self._partial = ""

    def read(self, source: LineSource, until: float | None) -> str:
        """Read up to the version, and return it. Transport thread.

        :param until: ``time.monotonic()`` seconds; None: no limit.
        :raises: NotSSH, NoVersion at the time limit, EOFError if the connection ends before.
        """
        while self.lines < MAX_LINES:
            line = self._next_line(source, until)
            if line.startswith("SSH-") and len(line) > len("SSH-"):
                self.received_at = time.monotonic()
                self.version = _checked(line)
                return self.version
            self._keep(line)
        raise NotSSH(f"no SSH version in the first {MAX_LINES} lines")

    def _next_line(self, source: LineSource, until: float | None) -> str:
        try:
            raw = source.read_line(MAX_LINE + len("\r"), until)
        except TimeoutError:
            self._partial = self._quote(source.unread())
            raise NoVersion("no SSH version before the time limit") from None
        except EOFError:
            self._partial = self._quote(source.unread())
            raise
        line = raw.rstrip(b"\r") if raw is not None else source.unread()
        if len(line) > MAX_LINE:
            self._partial = self._quote(line)
            raise NotSSH(f"received a line of more than {MAX_LINE} bytes")
        if b"\0" in line or b"\r" in line:
            raise NotSSH(f"received {self._quote(line)!r}")
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError:
            if line.startswith(b"SSH-"):
                raise NotSSH(f"received {self._quote(line)!r}") from None
            return line.decode("utf-8", "replace")

    def _keep(self, line: str) -> None:
        self.lines += 1
        shown = self._quote(line)
        if len(self._first) < QUOTED_LINES:
            self._first.append(shown)
        else:
            self._last = [*self._last, shown][-QUOTED_LINES:]

    @staticmethod
    def _quote(line: str | bytes) -> str:
        return peer_text.escape(line, MAX_QUOTED)

    @property
    def received(self) -> str:
        """The lines before a version, or instead of it, as one line; "" if there are none."""
        left_out = self.lines - len(self._first) - len(self._last)
        between = [f"... {left_out} more lines ..."] if left_out else []
        partial = [self._partial] if self._partial else []
        return " | ".join(line for line in (*self._first, *between, *self._last, *partial) if line)


def _checked(line: str) -> str:
    """Return *line* if it is a supported version. Raises NotSSH."""
    match = _VERSION.fullmatch(line)
    if match is None:
        raise NotSSH(f"invalid version line {peer_text.escape(line, MAX_QUOTED)!r}")
    major, minor = int(match[1]), int(match[2])
    if major != 2 and (major, minor) != (1, 99):
        raise NotSSH(f"unsupported protocol version {major}.{minor} ({peer_text.escape(line, MAX_QUOTED)})")
    return line
