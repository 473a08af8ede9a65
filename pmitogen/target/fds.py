"""File-descriptor helpers."""

import fcntl
import os
import struct
import termios

MYPY = False
if MYPY:
    from typing import List, Tuple  # noqa: F401


def set_nonblocking(fd):
    # type: (int) -> None
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)


def set_cloexec(fd):
    # type: (int) -> None
    fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.fcntl(fd, fcntl.F_GETFD) | fcntl.FD_CLOEXEC)


def set_window_size(fd, lines, columns):
    # type: (int, int, int) -> None
    """Set the size of a terminal, in characters."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


class FdGuard(object):
    """Opens the descriptors of a child. If one cannot be opened, or the child cannot be started, all are closed."""

    def __init__(self):
        # type: () -> None
        self._fds = []  # type: List[int]

    def __enter__(self):
        # type: () -> FdGuard
        return self

    def __exit__(self, kind, value, trace):
        # type: (object, object, object) -> None
        if kind is not None:
            for fd in self._fds:
                os.close(fd)

    def pipe(self):
        # type: () -> Tuple[int, int]
        """Open a pipe: (read end, write end)."""
        pair = os.pipe()
        self._fds += pair
        return pair

    def pty(self):
        # type: () -> Tuple[int, int]
        """Open a pseudo-terminal: (master, the child's end)."""
        pair = os.openpty()
        self._fds += pair
        return pair

    def devnull(self):
        # type: () -> int
        """Open /dev/null for reading."""
        fd = os.open(os.devnull, os.O_RDONLY)
        self._fds.append(fd)
        return fd
