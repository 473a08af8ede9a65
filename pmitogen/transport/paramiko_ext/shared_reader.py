"""One thread that waits for the messages of all connections with little to do.

It handles what cannot block (message_loop.py). A connection that needs more gets a thread, and leaves; it may come back. So a
server that floods, stops reading or sends nonsense costs a thread of its own, and delays no other connection.
"""

from __future__ import annotations

import contextlib
import dataclasses
import heapq
import itertools
import os
import selectors
import threading
import time
from typing import TYPE_CHECKING

from pmitogen.errors import ConnectError
from pmitogen.util import threads
from pmitogen.util.worker_threads import WorkerThreads

if TYPE_CHECKING:
    from pmitogen.transport.paramiko_ext.message_loop import First, MessageLoop

BUFFER_SIZE = 64 << 10  # bytes, for all connections
LINGER = 1.0  # seconds that the thread, and those it hands connections to, wait for another one before they end
RETRY = 0.2  # seconds between attempts to get a thread where the system refuses one
MAX_WAIT = 2.0  # seconds of refusals after which the connections that need a thread end
SPARE_DEADLINES = 100  # of connections that have left, kept at most: each visit leaves one, which may be an hour away


@dataclasses.dataclass
class _Deadline:
    """A time at which a timer of *connection* may be due; None once the connection has left."""

    connection: MessageLoop | None


class SharedReader:
    """The thread and its connections. Other threads only add to ``_new``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._new: list[MessageLoop] = []
        self._thread: threading.Thread | None = None
        self._workers = WorkerThreads("pmitogen transport", LINGER)
        self._selector: selectors.BaseSelector | None = None
        self._wake_fds: tuple[int, int] | None = None
        # The thread's own:
        self._connections: dict[MessageLoop, _Deadline | None] = {}
        self._deadlines: list[tuple[float, int, _Deadline]] = []  # a heap
        self._numbers = itertools.count()
        self._without_thread: list[list[tuple[MessageLoop, First]]] = []
        self._refused_at: float | None = None  # when the system first refused a thread for these

    def add(self, connection: MessageLoop) -> bool:
        """Take *connection* over from the thread that handles its messages. Returns False if the system refuses a thread."""
        with self._lock:
            if self._thread is None:
                try:
                    self._open()
                    self._thread = threads.start(self._run, "pmitogen read")
                except (ConnectError, OSError):
                    return False
            connection.become_shared(self._thread.ident or 0)
            self._new.append(connection)
            assert self._wake_fds is not None
            with contextlib.suppress(BlockingIOError):  # the pipe is full, so the thread wakes anyway
                os.write(self._wake_fds[1], b"\0")
        return True

    def _open(self) -> None:
        if self._wake_fds is None:
            self._selector = selectors.DefaultSelector()
            self._wake_fds = os.pipe()
            for fd in self._wake_fds:
                os.set_blocking(fd, False)
            self._selector.register(self._wake_fds[0], selectors.EVENT_READ)

    def discard(self) -> None:
        """In a forked child: close the copies of the descriptors. The connections are the parent's."""
        if self._selector is not None:
            self._selector.close()
        for fd in self._wake_fds or ():
            os.close(fd)

    def _run(self) -> None:
        assert self._selector is not None and self._wake_fds is not None
        buffer = memoryview(bytearray(BUFFER_SIZE))
        while True:
            ready = self._selector.select(self._timeout())
            with self._lock:
                new, self._new = self._new, []
                if not (ready or new or self._connections or self._without_thread):
                    self._thread = None
                    return
            for connection in new:
                self._watch(connection)
            ended: list[tuple[MessageLoop, First]] = []
            for key, _ in ready:
                if key.data is None:
                    os.read(self._wake_fds[0], 4096)
                    continue
                handover = key.data.handle_available(buffer)
                if handover is not None and handover.ends:
                    self._forget(key.data)
                    ended.append((key.data, handover.first))
                elif handover is not None:
                    self._hand_over(key.data, handover.first)
            if ended:  # many may end at once, as when a hub is closed
                self._start_thread(ended)
            self._check_deadlines()
            self._retry()

    def _timeout(self) -> float | None:
        if self._without_thread:
            return RETRY
        if not self._connections:
            return LINGER
        return max(0.0, self._deadlines[0][0] - time.monotonic()) if self._deadlines else None

    def _watch(self, connection: MessageLoop) -> None:
        assert self._selector is not None
        try:
            self._selector.register(connection.sock, selectors.EVENT_READ, connection)
        except (ValueError, KeyError, OSError):  # no descriptor is left for it
            self._start_thread([(connection, connection.wait_for_data)])
            return
        self._connections[connection] = None
        self._set_deadline(connection)

    def _forget(self, connection: MessageLoop) -> None:
        assert self._selector is not None
        self._selector.unregister(connection.sock)
        deadline = self._connections.pop(connection)
        if deadline is not None:
            deadline.connection = None

    def _hand_over(self, connection: MessageLoop, first: First) -> None:
        """Continue with *connection* on a thread."""
        self._forget(connection)
        self._start_thread([(connection, first)])

    def _start_thread(self, connections: list[tuple[MessageLoop, First]]) -> None:
        """Continue with these connections, one after the other, on a thread."""

        def serve() -> None:
            with contextlib.ExitStack() as stack:  # the others end too if a callback of one raises
                for connection, first in reversed(connections):
                    stack.callback(connection.serve, first)

        try:
            self._workers.start(serve)  # not submit: the threads that exist may be busy for as long as a transfer lasts
        except ConnectError:
            self._without_thread.append(connections)

    def _retry(self) -> None:
        """Try again to get threads. After a time, end the connections on this thread instead, which does not block."""
        waiting, self._without_thread = self._without_thread, []
        for connections in waiting:
            self._start_thread(connections)
        if not self._without_thread:
            self._refused_at = None
            return
        now = time.monotonic()
        self._refused_at = self._refused_at or now
        if now - self._refused_at >= MAX_WAIT:
            refused, self._without_thread = self._without_thread, []
            for connection, _ in itertools.chain.from_iterable(refused):
                connection.end(threads.EXHAUSTED_MESSAGE)
                with contextlib.suppress(Exception):  # of a callback: this thread serves the other connections as well
                    connection.serve(lambda: False)

    def _set_deadline(self, connection: MessageLoop) -> None:
        when = connection.packetizer.next_deadline(time.monotonic())
        if when is not None:
            deadline = self._connections[connection] = _Deadline(connection)
            heapq.heappush(self._deadlines, (when, next(self._numbers), deadline))
        if len(self._deadlines) > 2 * len(self._connections) + SPARE_DEADLINES:
            self._deadlines = [each for each in self._deadlines if each[2].connection is not None]
            heapq.heapify(self._deadlines)

    def _check_deadlines(self) -> None:
        """Give a thread to connections that have to send a keepalive request, change keys or close a channel now."""
        now = time.monotonic()
        while self._deadlines and self._deadlines[0][0] <= now:
            connection = heapq.heappop(self._deadlines)[2].connection
            if connection is None:
                continue
            when = connection.packetizer.next_deadline(now)
            if when is not None and when <= now:
                self._hand_over(connection, connection.wait_for_data)
            else:
                self._set_deadline(connection)


_reader = SharedReader()


def add(connection: MessageLoop) -> bool:
    """Let the shared thread handle the messages of *connection*. Returns False if the system refuses a thread."""
    return _reader.add(connection)


def _after_fork_in_child() -> None:
    global _reader
    _reader.discard()
    _reader = SharedReader()


os.register_at_fork(after_in_child=_after_fork_in_child)
