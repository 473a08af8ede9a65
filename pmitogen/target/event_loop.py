"""The agent's event loop: one thread, poll(2), and nothing that blocks.

Data from a :class:`Peer` is read as it arrives; data for it is queued until it can be written. The loop also runs callbacks: in
its next iteration (``defer``) or after a delay (``call_later``). Any callback may close peers and add others.
"""

import collections
import errno
import os
import select
import sys
import time

from pmitogen.target.fds import set_cloexec, set_nonblocking

READ_SIZE = 1 << 16  # bytes taken at once
MAX_BACKLOG = 8 << 20  # bytes that wait on one line before those that feed it are no longer read
now = getattr(time, "monotonic", time.time)


class Peer(object):
    """A descriptor to read and one to write, which may be the same one or (*out_fd*) still to come.

    *on_data* is called with what was read; *on_end* once, when the line has ended: by its peer, by a failure or by ``close``.
    Both may be replaced at any time. Unless *borrowed*, the descriptors are the line's, and closed with it.
    """

    def __init__(self, loop, in_fd, out_fd, on_data, on_end, borrowed=False):
        self.in_fd, self.out_fd = in_fd, out_fd
        self.on_data, self.on_end = on_data, on_end
        self.ended = False
        self.forwards_to = None  # the line on which is passed on what is read here: while too much waits there, nothing is read
        self.pending_bytes = 0  # bytes to be taken by the peer
        self._loop, self._borrowed = loop, borrowed
        self._pending = collections.deque()
        for fd in set((in_fd, out_fd)) - set((None,)):
            set_nonblocking(fd)
            set_cloexec(fd)
        loop.peers.append(self)

    def write(self, data):
        """Send *data* behind what still waits. Never calls back."""
        if not self.ended:
            self._pending.append(memoryview(data))
            self.pending_bytes += len(data)
            if len(self._pending) == 1:
                self.flush()

    def has_pending(self):
        """Whether something waits to be taken."""
        return bool(self._pending)

    def flush(self):
        """Send what is taken at once."""
        while self._pending:
            data = self._pending[0]
            try:
                count = os.write(self.out_fd, data)
            except OSError as exc:
                if exc.errno not in (errno.EAGAIN, errno.EINTR):
                    self._discard_pending()
                    self._loop.defer(self.close)  # whoever writes is in the middle of something
                return
            self.pending_bytes -= count
            if count < len(data):
                self._pending[0] = data[count:]
            else:
                self._pending.popleft()

    def _discard_pending(self):
        self._pending.clear()
        self.pending_bytes = 0

    def can_read(self):
        """Whether what is read can be passed on."""
        return self.forwards_to is None or self.forwards_to.pending_bytes < MAX_BACKLOG

    def read(self):
        """Take what is there."""
        try:
            data = os.read(self.in_fd, READ_SIZE)
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
        self._discard_pending()
        self._loop.peers.remove(self)
        if not self._borrowed:
            for fd in set((self.in_fd, self.out_fd)):
                os.close(fd)
        self.on_end()


class Loop(object):
    """See the head of this file."""

    def __init__(self):
        self.peers = []
        self._deferred = []
        self._timers = []  # (when, work)

    def defer(self, work):
        """Have *work* called at the next turn."""
        self._deferred.append(work)

    def call_later(self, seconds, work):
        """Have *work* called when *seconds* have passed."""
        self._timers.append((now() + seconds, work))

    def run_once(self):
        """Do what is due; if nothing is, wait until something happens. See to that."""
        moment = now()
        ready, self._deferred = self._deferred + [work for when, work in self._timers if when <= moment], []
        self._timers = [item for item in self._timers if item[0] > moment]
        for work in ready:
            work()
        poller, owners = select.poll(), {}
        for peer in self.peers:
            wanted = {peer.in_fd: select.POLLIN} if peer.can_read() else {}
            if peer.has_pending():
                wanted[peer.out_fd] = wanted.get(peer.out_fd, 0) | select.POLLOUT
            for fd, events in wanted.items():
                owners[fd] = peer
                poller.register(fd, events)
        try:
            found = poller.poll(0 if ready else self._poll_timeout())
        except (OSError, select.error) as exc:
            if exc.args[0] != errno.EINTR:
                raise
            return
        for fd, events in found:
            peer = owners[fd]
            try:
                if fd == peer.out_fd and not peer.ended and peer.has_pending():
                    peer.flush()
                if fd == peer.in_fd and not peer.ended and events & ~select.POLLOUT:
                    peer.read()
            except Exception:  # whatever it was, the others have no part in it
                sys.excepthook(*sys.exc_info())
                peer.close()

    def _poll_timeout(self):
        """Milliseconds until something is due; None: for ever."""
        if self._deferred:
            return 0
        if not self._timers:
            return None
        return max(0, int((min(when for when, _ in self._timers) - now()) * 1000) + 1)
