"""The queue of messages to a host, and the thread that sends them.

A short item is sent at once if the queue is empty and sending does not block. While the queue holds something, a writer thread
sends it, waits for the SSH window, and grants window to the peer; idle connections have no thread. The producers bound the
queue: back_pressure.py pauses the clients of a host that does not read, transfers have a credit window end to end, and requests
are bounded by the protocol.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable

from pmitogen.hub.back_pressure import HIGH, LOW
from pmitogen.transport.paramiko_ext.channel import Channel
from pmitogen.transport.paramiko_ext.packets.outbound import MAX_TRIED
from pmitogen.util.worker_threads import WorkerThreads

COALESCE = 256 << 10  # bytes handed to Paramiko at once


class ChannelWriter:
    """Sends on a channel, in order, by one thread at a time. Items are bytes to send or a count of window bytes to grant.

    Thread-safe. Raises ConnectError (stage ``local``) if there is no writer thread and the system refuses one.
    """

    def __init__(self, channel: Channel, threads: WorkerThreads) -> None:
        self._channel, self._threads = channel, threads
        self._items: collections.deque[bytes | int] = collections.deque()
        self._lock = threading.Lock()
        self._sending = False  # a thread sends, or will
        self._closed = False
        self.queued = 0  # bytes not yet handed to the channel
        self._was_high = False
        self.on_low: Callable[[], object] = lambda: None  # called on the thread once little is queued, after a time of much
        threads.reserve()

    def put(self, item: bytes | int) -> None:
        """Send or queue without blocking."""
        with self._lock:
            if self._closed:
                return
            is_idle, self._sending = not self._sending, True
            if not is_idle:
                self._append(item)
                return
        is_sent = isinstance(item, bytes) and len(item) <= MAX_TRIED and self._channel.try_send(item)
        with self._lock:
            if not is_sent:
                self._append(item, first=True)
            self._sending = bool(self._items)
            if not self._sending:
                return
        self._threads.submit(self._run)

    def _append(self, item: bytes | int, first: bool = False) -> None:
        """Queue *item*. Call with the lock held."""
        (self._items.appendleft if first else self._items.append)(item)
        if isinstance(item, bytes):
            self.queued += len(item)
            self._was_high = self._was_high or self.queued > HIGH

    def close(self) -> None:
        """Stop accepting data; queued data is still sent. Does not block."""
        with self._lock:
            self._closed = True

    def _take(self) -> tuple[bytes, int] | None:
        """Return (bytes to send, window to grant), or None if there is nothing to do."""
        with self._lock:
            if not self._items:
                self._sending = False
                return None
            parts: list[bytes] = []
            size = grant = 0
            while self._items and size < COALESCE:
                item = self._items.popleft()
                if isinstance(item, int):
                    grant += item
                else:
                    parts.append(item)
                    size += len(item)
            self.queued -= size
            is_low_again = self._was_high and self.queued <= LOW
            self._was_high = self._was_high and not is_low_again
        if is_low_again:
            self.on_low()
        return (parts[0] if len(parts) == 1 else b"".join(parts)), grant

    def _run(self) -> None:
        try:
            while (work := self._take()) is not None:
                data, grant = work
                if grant:
                    self._channel.grant_window(grant)
                view = memoryview(data)
                while view:
                    sent = self._channel.send(view)
                    if not sent:
                        self._discard()
                        return
                    view = view[sent:]
        except Exception:  # the reading side reports the end of the channel
            self._discard()

    def _discard(self) -> None:
        with self._lock:
            self._closed = True
            self._items.clear()
            self.queued = 0
