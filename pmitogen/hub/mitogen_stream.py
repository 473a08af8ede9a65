"""A Paramiko channel as a Mitogen stream, without a thread to read it and without ever blocking Mitogen's I/O thread.

Reading: Paramiko's transport thread fills the channel's buffer and "sets an event"; the event is ours, and its ``set`` only
schedules a drain on the I/O thread, once however much arrives before it runs. Writing: the I/O thread appends to a queue;
one writer thread per connection sends, waits for the SSH window, and returns window credit to the peer. What waits is
bounded by those who produce it: transfers have a credit window end to end, and a request is as long as what its worker
holds.

Until the marker that our bootstrap prints, what arrives is noise (a banner of ~/.bashrc, a motd); the last of it is kept
for error messages. After it, every byte belongs to Mitogen.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any

import mitogen.core

from pmitogen.errors import ConnectError
from pmitogen.transport.paramiko_ext.channel import Channel
from pmitogen.util import threads
from pmitogen.util.peer_text import escape_lines

LOG = logging.getLogger("pmitogen.hub")
NOISE_KEPT = 2048  # bytes
COALESCE = 256 << 10  # bytes handed to Paramiko at once
NOISE_LIMIT = 1 << 20  # bytes that may precede the marker


class _Scheduler:
    """Looks like a threading.Event to Paramiko; "setting" it schedules *work* on the I/O thread."""

    def __init__(self, defer: Callable[..., None], work: Callable[[], None]) -> None:
        self._defer, self._work = defer, work
        self._pending = False

    def watch(self, buffer: Any) -> None:
        """Begins to be *buffer*'s event. Any thread.

        Paramiko sets the event at once, under the buffer's lock, if there is data already; on the I/O thread
        that would do the work at once as well, and wait for that very lock. So the first work is scheduled here, after it.
        """
        self._pending = True
        buffer.set_event(self)
        with contextlib.suppress(mitogen.core.Error):
            self._defer(self._run)

    def set(self) -> None:
        """Called by the transport thread, holding the buffer's lock."""
        if not self._pending:
            self._pending = True
            # A loop that has ended has nobody left to read.
            with contextlib.suppress(mitogen.core.Error):
                self._defer(self._run)

    def clear(self) -> None:
        """Paramiko says that the buffer is empty: of no interest, since every feed sets again."""

    def is_set(self) -> bool:
        return self._pending

    def _run(self) -> None:
        self._pending = False
        self._work()


class Writer:
    """The one thread that sends on a channel. Thread-safe; items are bytes to send or a count of window bytes to grant."""

    def __init__(self, channel: Channel, name: str) -> None:
        self._channel = channel
        self._items: collections.deque[bytes | int] = collections.deque()
        self._wake = threading.Condition()
        self._closed = False
        self.queued = 0  # bytes not yet handed to the channel
        threads.start(self._run, f"pmitogen write {name}")

    def put(self, item: bytes | int) -> None:
        """Queue without blocking."""
        with self._wake:
            if not self._closed:
                self._items.append(item)
                if isinstance(item, bytes):
                    self.queued += len(item)
                self._wake.notify()

    def close(self) -> None:
        """Send what is queued, then end the thread; never blocks."""
        with self._wake:
            self._closed = True
            self._wake.notify()

    def _take(self) -> tuple[bytes, int] | None:
        """Wait for something to do: (bytes to send, window to grant), or None at the end."""
        with self._wake:
            while not self._items and not self._closed:
                self._wake.wait()
            if not self._items:
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
        return (parts[0] if len(parts) == 1 else b"".join(parts)), grant

    def _run(self) -> None:
        try:
            while (work := self._take()) is not None:
                data, grant = work
                if grant:
                    self._channel.grant(grant)
                view = memoryview(data)
                while view:
                    sent = self._channel.send(view)
                    if not sent:
                        return
                    view = view[sent:]
        except Exception:  # noqa: S110 - whatever ended the channel is told through its reading side
            pass
        finally:
            with self._wake:
                self._closed = True
                self._items.clear()


class ChannelProtocol(mitogen.core.MitogenProtocol):  # type: ignore[misc]
    """Mitogen's protocol, writing through the stream's writer thread."""

    stream: ChannelStream

    def _send(self, msg: Any) -> None:
        self.stream.writer.put(msg.pack())

    def pending_bytes(self) -> int:
        return self.stream.writer.queued


class ChannelStream(mitogen.core.Stream):  # type: ignore[misc]
    """See the head of this file. Lives on the I/O thread, but for its constructor.

    *on_boot* is called with True when the marker was seen. *on_end* is called once, when the channel has ended, with the
    noise and what stderr said last.
    """

    def __init__(
        self,
        router: Any,
        channel: Channel,
        remote_id: int,
        name: str,
        marker: bytes,
        on_boot: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        self.name = name
        self.channel = channel
        self.writer = Writer(channel, name)
        self._broker = router.broker
        self._marker = marker
        self._booted = False
        self._ended = False
        self._on_boot, self._on_end = on_boot, on_end
        self.noise = b""
        self.complaints = b""
        self.set_protocol(ChannelProtocol(router, remote_id))

    def start(self) -> None:
        """Begin to read. Any thread."""
        _Scheduler(self._broker.defer, self._drain_stderr).watch(self.channel.in_stderr_buffer)
        _Scheduler(self._broker.defer, self._drain).watch(self.channel.in_buffer)

    def _drain(self) -> None:
        data, grant = self.channel.drain()
        if grant:
            self.writer.put(grant)
        if data:
            try:
                self._receive(data)
            except Exception:
                mitogen.core.LOG.exception("%s: what the target sent cannot be read", self.name)
                self.on_disconnect(self._broker)
                return
        if self.channel.ended and not self.channel.in_buffer.read_ready():
            self.on_disconnect(self._broker)

    def _drain_stderr(self) -> None:
        data, grant = self.channel.drain_stderr()
        if grant:
            self.writer.put(grant)
        if data:
            for line in escape_lines(data):
                LOG.debug("stderr: %s", line, extra={"host": self.name})
        self.complaints = (self.complaints + data)[-NOISE_KEPT:]

    def _receive(self, data: bytes) -> None:
        if self._booted:
            self.protocol.on_receive(self._broker, data)
            return
        before, found, after = (self.noise + data).partition(self._marker + b"\n")
        if not found:
            self.noise = before if len(before) < NOISE_LIMIT else before[-NOISE_KEPT:]
            return
        self.noise = before[-NOISE_KEPT:]
        self._booted = True
        self._on_boot()
        if after:
            self.protocol.on_receive(self._broker, after)

    @property
    def booted(self) -> bool:
        """Whether our code runs at the other end."""
        return self._booted

    @property
    def over(self) -> bool:
        """Whether nobody wants what still arrives."""
        return self._ended

    def on_disconnect(self, broker: Any) -> None:
        """End the stream. I/O thread; idempotent."""
        if self._ended:
            return
        self._ended = True
        self._drain_stderr()
        mitogen.core.fire(self, "disconnect")
        self.writer.close()
        with contextlib.suppress(ConnectError):  # no thread for it: it ends with its connection
            threads.start(self._close_channel, "pmitogen close")
        self._on_end()

    def _close_channel(self) -> None:
        """May block, and fail where the connection is gone already."""
        with contextlib.suppress(Exception):
            self.channel.close()
