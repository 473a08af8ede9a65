"""Progress of a long transfer: a line every few seconds, with ``-v`` and if the output of ``ansible-playbook`` is a terminal.

A transfer that ends within the interval prints nothing, and its size is not determined.
"""

from __future__ import annotations

import os
import time
from typing import IO

from ansible.utils.display import Display

from pmitogen.util.peer_text import one_line
from pmitogen.util.sizes import progress

INTERVAL = 5.0  # seconds between two lines, and before the first


class Progress:
    """A file that is read or written while its bytes are counted. Not thread-safe.

    :param stream: the file.
    :param transfer: the transfer, such as ``PUT /etc/motd``.
    :param host: the host's name, for the line.
    :param size: bytes of the whole; None: unknown.
    """

    def __init__(self, stream: IO[bytes], transfer: str, host: str, size: int | None = None) -> None:
        self._stream, self._transfer, self._host, self._size = stream, transfer, host, size
        self._moved, self._started = 0, time.monotonic()
        self._next = self._started + INTERVAL

    def read(self, size: int) -> bytes:
        """Read from the file. Raises OSError."""
        data = self._stream.read(size)
        self._add(len(data))
        return data

    def write(self, data: bytes) -> int:
        """Write to the file. Raises OSError."""
        self._add(len(data))
        return self._stream.write(data)

    def _add(self, count: int) -> None:
        self._moved += count
        now = time.monotonic()
        if now >= self._next and count:
            self._next = now + INTERVAL
            _show(one_line(f"{self._transfer}: {progress(self._moved, self._size, now - self._started)}"), self._host)


def name_transfer(verb: str, path: str, no_log: bool) -> str:
    """Return the name of a transfer, without the path in a task with no_log."""
    return verb if no_log else f"{verb} {path}"


def _show(line: str, host: str) -> None:
    display = Display()
    if display.verbosity >= 1:
        display.v(line, host=host)
    elif _is_watched():
        display.display(f"<{host}> {line}")


def _is_watched() -> bool:
    """Return True if the standard output of ansible-playbook is a terminal."""
    try:
        return os.readlink(f"/proc/{os.getppid()}/fd/1").startswith(("/dev/pts/", "/dev/tty"))
    except OSError:
        return False
