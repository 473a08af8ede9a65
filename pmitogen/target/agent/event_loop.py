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

MYPY = False
if MYPY:
    from typing import Callable, Deque, Dict, List, Optional, Tuple  # noqa: F401

READ_SIZE = 1 << 16  # bytes in one read
MAX_BACKLOG = 8 << 20  # bytes that wait for one peer before the peers that forward to it are no longer read
now = getattr(time, "monotonic", time.time)


class Peer(object):
    """A descriptor to read and one to write. They may be the same; *out_fd* may be None and set later.

    *on_data*: called with the data that was read.
    *on_end*: called once when the connection has ended: by the other end, an error or ``close``. Both may be replaced later.
    *borrowed*: True if ``close`` must not close the descriptors.
    """

    def __init__(self, loop, in_fd, out_fd, on_data, on_end, borrowed=False):
        # type: (Loop, int, Optional[int], Callable[[bytes], object], Callable[[], object], bool) -> None
        self.in_fd, self.out_fd = in_fd, out_fd
        self.on_data, self.on_end = on_data, on_end
        self.ended = False
        self.forwards_to = None  # type: Optional[Peer] # gets the data that is read here; while too much waits there, do not read
        self.pending_bytes = 0  # bytes that are not yet written
        self._loop, self._borrowed = loop, borrowed
        self._pending = collections.deque()  # type: Deque[memoryview]
        for fd in set((in_fd, out_fd)):
            if fd is not None:
                set_nonblocking(fd)
                set_cloexec(fd)
        loop.peers.append(self)

    def write(self, data):
        # type: (bytes) -> None
        """Queue *data* and send what can be sent at once. Calls no callbacks."""
        if not self.ended:
            self._pending.append(memoryview(data))
            self.pending_bytes += len(data)
            if len(self._pending) == 1:
                self.flush()

    def has_pending(self):
        # type: () -> bool
        """Return True if data waits to be written."""
        return bool(self._pending)

    def flush(self):
        # type: () -> None
        """Write as much as possible without blocking."""
        while self._pending and self.out_fd is not None:
            data = self._pending[0]
            try:
                count = os.write(self.out_fd, data)
            except OSError as exc:
                if exc.errno not in (errno.EAGAIN, errno.EINTR):
                    self._discard_pending()
                    self._loop.defer(self.close)  # later, because the caller of write() expects no callbacks
                return
            self.pending_bytes -= count
            if count < len(data):
                self._pending[0] = data[count:]
            else:
                self._pending.popleft()

    def _discard_pending(self):
        # type: () -> None
        self._pending.clear()
        self.pending_bytes = 0

    def can_read(self):
        # type: () -> bool
        """Return True if the data read can be forwarded."""
        return self.forwards_to is None or self.forwards_to.pending_bytes < MAX_BACKLOG

    def read(self):
        # type: () -> None
        """Read the available data."""
        try:
            data = os.read(self.in_fd, READ_SIZE)
        except OSError as exc:
            if exc.errno in (errno.EAGAIN, errno.EINTR):
                return
            data = b""  # EIO: the last process has closed the terminal
        if data:
            self.on_data(data)
        else:
            self.close()

    def close(self):
        # type: () -> None
        """End the connection and discard pending data."""
        if self.ended:
            return
        self.ended = True
        self._discard_pending()
        self._loop.peers.remove(self)
        if not self._borrowed:
            for fd in set((self.in_fd, self.out_fd)):
                if fd is not None:
                    os.close(fd)
        self.on_end()


class Loop(object):
    """The event loop: see the module's docstring."""

    def __init__(self):
        # type: () -> None
        self.peers = []  # type: List[Peer]
        self._deferred = []  # type: List[Callable[[], object]]
        self._timers = []  # type: List[Tuple[float, Callable[[], object]]]

    def defer(self, work):
        # type: (Callable[[], object]) -> None
        """Call *work* in the next iteration."""
        self._deferred.append(work)

    def call_later(self, seconds, work):
        # type: (float, Callable[[], object]) -> None
        """Call *work* after *seconds*."""
        self._timers.append((now() + seconds, work))

    def run_once(self):
        # type: () -> None
        """Run the callbacks that are due. If there are none, wait for an event. Then handle the events."""
        moment = now()
        ready, self._deferred = self._deferred + [work for when, work in self._timers if when <= moment], []
        self._timers = [item for item in self._timers if item[0] > moment]
        for work in ready:
            work()
        poller = select.poll()
        owners = {}  # type: Dict[int, Peer]
        for peer in self.peers:
            wanted = {peer.in_fd: select.POLLIN} if peer.can_read() else {}
            if peer.has_pending() and peer.out_fd is not None:
                wanted[peer.out_fd] = wanted.get(peer.out_fd, 0) | select.POLLOUT
            for fd, events in wanted.items():
                owners[fd] = peer
                poller.register(fd, events)
        try:
            ready_fds = poller.poll(0 if ready else self._poll_timeout())
        except (OSError, select.error) as exc:
            if exc.args[0] != errno.EINTR:
                raise
            return
        for fd, events in ready_fds:
            peer = owners[fd]
            try:
                if fd == peer.out_fd and not peer.ended and peer.has_pending():
                    peer.flush()
                if fd == peer.in_fd and not peer.ended and events & ~select.POLLOUT:
                    peer.read()
            except Exception:  # it must not affect other peers
                sys.excepthook(*sys.exc_info())
                peer.close()

    def _poll_timeout(self):
        # type: () -> Optional[int]
        """Return the milliseconds until the next callback, None if there is none."""
        if self._deferred:
            return 0
        if not self._timers:
            return None
        return max(0, int((min(when for when, _ in self._timers) - now()) * 1000) + 1)
