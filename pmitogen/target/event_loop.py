"""The agent's event loop: one thread, poll(2), and nothing that blocks.

A *line* is a peer: what it says is read as it comes, what it is told waits until it takes it. The loop also calls what is due,
at its next turn (``defer``) or after a while (``later``). Whatever a line, a timer or a deferred call does, it may end lines and
make others.
"""

import collections
import errno
import os
import select
import sys
import time

from pmitogen.target.fds import set_cloexec, set_nonblocking

READ = 1 << 16  # bytes taken at once
BACKLOG = 8 << 20  # bytes that wait on one line before those that feed it are no longer read
now = getattr(time, "monotonic", time.time)


class Line(object):
    """A descriptor to read and one to write, which may be the same one or (*out_fd*) still to come.

    *on_data* is called with what was read; *on_end* once, when the line has ended: by its peer, by a failure or by ``close``.
    Both may be replaced at any time. Unless *borrowed*, the descriptors are the line's, and closed with it.
    """

    def __init__(self, loop, in_fd, out_fd, on_data, on_end, borrowed=False):
        self.in_fd, self.out_fd = in_fd, out_fd
        self.on_data, self.on_end = on_data, on_end
        self.ended = False
        self.ahead = None  # the line on which is passed on what is read here: while too much waits there, nothing is read
        self.waiting = 0  # bytes to be taken by the peer
        self._loop, self._borrowed = loop, borrowed
        self._waiting = collections.deque()
        for fd in set((in_fd, out_fd)) - set((None,)):
            set_nonblocking(fd)
            set_cloexec(fd)
        loop.lines.append(self)

    def write(self, data):
        """Send *data* behind what still waits. Never calls back."""
        if not self.ended:
            self._waiting.append(memoryview(data))
            self.waiting += len(data)
            if len(self._waiting) == 1:
                self.flush()

    def writes(self):
        """Whether something waits to be taken."""
        return bool(self._waiting)

    def flush(self):
        """Send what is taken at once."""
        while self._waiting:
            data = self._waiting[0]
            try:
                count = os.write(self.out_fd, data)
            except OSError as exc:
                if exc.errno not in (errno.EAGAIN, errno.EINTR):
                    self._drop()
                    self._loop.defer(self.close)  # whoever writes is in the middle of something
                return
            self.waiting -= count
            if count < len(data):
                self._waiting[0] = data[count:]
            else:
                self._waiting.popleft()

    def _drop(self):
        self._waiting.clear()
        self.waiting = 0

    def may_read(self):
        """Whether what is read can be passed on."""
        return self.ahead is None or self.ahead.waiting < BACKLOG

    def read(self):
        """Take what is there."""
        try:
            data = os.read(self.in_fd, READ)
        except OSError as exc:
            if exc.errno in (errno.EAGAIN, errno.EINTR):
                return
            data = b""  # EIO: the last process let go of the terminal
        if data:
            self.on_data(data)
        else:
            self.close()

    def close(self):
        """End the line; what still waits is lost."""
        if self.ended:
            return
        self.ended = True
        self._drop()
        self._loop.lines.remove(self)
        if not self._borrowed:
            for fd in set((self.in_fd, self.out_fd)):
                os.close(fd)
        self.on_end()


class Loop(object):
    """See the head of this file."""

    def __init__(self):
        self.lines = []
        self._soon = []
        self._due = []  # (when, work)

    def defer(self, work):
        """Have *work* called at the next turn."""
        self._soon.append(work)

    def later(self, seconds, work):
        """Have *work* called when *seconds* have passed."""
        self._due.append((now() + seconds, work))

    def turn(self):
        """Do what is due; if nothing is, wait until something happens. See to that."""
        moment = now()
        ready, self._soon = self._soon + [work for when, work in self._due if when <= moment], []
        self._due = [item for item in self._due if item[0] > moment]
        for work in ready:
            work()
        poller, owners = select.poll(), {}
        for line in self.lines:
            wanted = {line.in_fd: select.POLLIN} if line.may_read() else {}
            if line.writes():
                wanted[line.out_fd] = wanted.get(line.out_fd, 0) | select.POLLOUT
            for fd, events in wanted.items():
                owners[fd] = line
                poller.register(fd, events)
        try:
            found = poller.poll(0 if ready else self._patience())
        except (OSError, select.error) as exc:
            if exc.args[0] != errno.EINTR:
                raise
            return
        for fd, events in found:
            line = owners[fd]
            try:
                if fd == line.out_fd and not line.ended and line.writes():
                    line.flush()
                if fd == line.in_fd and not line.ended and events & ~select.POLLOUT:
                    line.read()
            except Exception:  # whatever it was, the others have no part in it
                sys.excepthook(*sys.exc_info())
                line.close()

    def _patience(self):
        """Milliseconds until something is due; None: for ever."""
        if self._soon:
            return 0
        if not self._due:
            return None
        return max(0, int((min(when for when, _ in self._due) - now()) * 1000) + 1)
