"""What is set on a descriptor, and several that belong together."""

import fcntl
import os
import struct
import termios


def set_nonblocking(fd):
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)


def set_cloexec(fd):
    fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.fcntl(fd, fcntl.F_GETFD) | fcntl.FD_CLOEXEC)


def set_window_size(fd, lines, columns):
    """Set the size of a terminal, in characters."""
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


class FdGuard(object):
    """Descriptors for a child, while it is made: if one cannot be had, or the child cannot, all are closed again."""

    def __init__(self):
        self._fds = []

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            for fd in self._fds:
                os.close(fd)

    def pipe(self):
        """(to read from, to write to)."""
        return self._track(os.pipe())

    def pty(self):
        """(ours, the child's)."""
        return self._track(os.openpty())

    def devnull(self):
        """Nothing to read."""
        return self._track((os.open(os.devnull, os.O_RDONLY),))[0]

    def _track(self, fds):
        self._fds += fds
        return fds
