"""A Paramiko channel as a Mitogen stream, without a thread to read it and without ever blocking Mitogen's I/O thread.

Reading: Paramiko's transport thread fills the channel's buffer and sets an event; here that is a :class:`DrainEvent`, whose
``set`` schedules a drain on the I/O thread, once for all data before it runs. Each message's header is checked there, and only
so many messages are handled as the host's share of the turn allows (fair_shares.py); the window is granted again when all are.

Writing: the I/O thread appends to the queue of channel_writer.py, whose thread may wait for the SSH window.

The output before the bootstrap's marker is the preamble (a banner of ~/.bashrc, a motd); its end is stored for error messages.
After the marker, every byte belongs to Mitogen.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, cast

import mitogen.core

from pmitogen.errors import ConnectError
from pmitogen.hub.channel_writer import ChannelWriter
from pmitogen.hub.fair_shares import Share
from pmitogen.protocol.framing import TO_HUB_PACKED, TO_HUB_UNPACKED
from pmitogen.protocol.mitogen_messages import HUB, ChannelMessage, ChannelReader
from pmitogen.transport.paramiko_ext.channel import Channel
from pmitogen.util.overrides import require_methods
from pmitogen.util.peer_text import escape_lines

if TYPE_CHECKING:
    from pmitogen.hub.mitogen_router import Broker, Router
    from pmitogen.transport.paramiko_ext.input_buffer import InputBuffer

LOG = logging.getLogger("pmitogen.hub")
TAIL_SIZE = 2048  # bytes before the marker that are stored, more than a marker has
MAX_PREAMBLE = 16 << 20  # bytes before the marker: all of them pass through the I/O thread
MAX_STDERR = 16 << 20  # bytes that the interpreter itself writes on stderr; commands have their own pipes


class DrainEvent:
    """An object with the methods of threading.Event that Paramiko calls; ``set`` schedules *work* on the I/O thread."""

    def __init__(self, defer: Callable[..., object], work: Callable[[], None]) -> None:
        self._defer, self._work = defer, work
        self._pending = False

    def watch(self, buffer: InputBuffer) -> None:
        """Become the event of *buffer*. Any thread.

        If there is data already, Paramiko sets the event at once, under the buffer's lock. On the I/O thread that would also do
        the work at once, which waits for the same lock. So the first work is scheduled here, after the lock is released.
        """
        self._pending = True
        buffer.set_event(cast("threading.Event", self))
        self._defer(self._run)

    def set(self) -> None:
        """Schedule the work, once. The transport thread calls this with the buffer's lock held."""
        if not self._pending:
            self._pending = True
            self._defer(self._run)  # returns False if the loop has ended; then nothing is left to read

    def clear(self) -> None:
        """Do nothing: every feed of the buffer sets the event again."""

    def is_set(self) -> bool:
        return self._pending

    def _run(self) -> None:
        self._pending = False
        self._work()


class StreamGuard(Protocol):
    """Runs work about the host of a stream; see scheduler.Guard."""

    def run(self, work: Callable[..., object], *args: object) -> None:
        """Call *work* now. Raises nothing."""

    def defer(self, work: Callable[..., object], *args: object) -> bool:
        """Call *work* on the I/O thread."""


class ChannelProtocol(mitogen.core.MitogenProtocol):  # type: ignore[misc]
    """Mitogen's protocol, writing through the stream's writer thread."""

    stream: MitogenChannelStream

    def _send(self, msg: mitogen.core.Message) -> None:
        self.stream.writer.put(msg.pack())

    def deliver(self, message: ChannelMessage) -> None:
        """Route a message whose header was checked."""
        handle = TO_HUB_PACKED if message.packed else TO_HUB_UNPACKED
        agent = self.remote_id
        routed = mitogen.core.Message(dst_id=HUB, src_id=agent, auth_id=agent, handle=handle, data=message.data)
        self._router._async_route(routed, self.stream)

    def pending_bytes(self) -> int:
        return self.stream.writer.queued


class MitogenChannelStream(mitogen.core.Stream):  # type: ignore[misc]
    """A Mitogen stream over a Paramiko channel. I/O thread, except for the constructor.

    Data is handled under *guard*: a failure ends the host. *on_end* is called once, when the channel has ended.
    """

    def __init__(
        self,
        router: Router,
        channel: Channel,
        remote_id: int,
        name: str,
        marker: bytes,
        guard: StreamGuard,
        on_end: Callable[[], None],
    ) -> None:
        self.name = name
        self.channel = channel
        self._threads = router.writers
        self.writer = ChannelWriter(channel, router.writers)
        self._broker = router.broker
        self._marker = marker
        self._booted = False
        self._ended = False
        self._guard, self._on_end = guard, on_end
        self._reader = ChannelReader(remote_id)
        self._share = Share(router.broker.turns, lambda: guard.run(self._drain))
        self._grant = 0  # window bytes of data that is not yet handled
        self._paused = False
        self.preamble = b""
        self.stderr_tail = b""
        channel.in_buffer.limit, channel.in_buffer.limited = MAX_PREAMBLE, "output before Python started"
        channel.in_stderr_buffer.limit, channel.in_stderr_buffer.limited = MAX_STDERR, "output on stderr"
        self.set_protocol(ChannelProtocol(router, remote_id))

    def start(self) -> None:
        """Begin to read. Any thread."""
        DrainEvent(self._guard.defer, self._drain_stderr).watch(self.channel.in_stderr_buffer)
        DrainEvent(self._guard.defer, self._drain).watch(self.channel.in_buffer)

    def _drain(self) -> None:
        """Read the data that has arrived, and handle it as far as the host's share of this turn allows."""
        if self._share.is_waiting or self._paused or self._ended:
            return
        data, grant = self.channel.drain()
        self._grant += grant
        if data:
            self._receive(data)
        if self._handle() and self.channel.ended and not self.channel.in_buffer.read_ready():
            self.on_disconnect(self._broker)

    def _handle(self) -> bool:
        """Handle complete messages. Returns whether there is none left."""
        share, clock = self._share, time.perf_counter
        while not share.put_off_if_used_up():
            start = clock()
            message = self._reader.next()
            if message is None:
                if self._grant:
                    self.writer.put(self._grant)
                    self._grant = 0
                return True
            self.protocol.deliver(message)
            share.use(len(message.data), clock() - start)
            if self._paused or self._ended:
                return False
        return False

    def pause(self) -> None:
        """Stop reading, so that the SSH window makes the target wait. I/O thread."""
        self._paused = True

    def resume(self) -> None:
        """Continue reading in the next turn. I/O thread."""
        if self._paused:
            self._paused = False
            self._share.put_off()

    def _drain_stderr(self) -> None:
        data, grant = self.channel.drain_stderr()
        if grant:
            self.writer.put(grant)
        if data:
            for line in escape_lines(data):
                LOG.debug("stderr: %s", line, extra={"host": self.name})
        self.stderr_tail = (self.stderr_tail + data)[-TAIL_SIZE:]

    def _receive(self, data: bytes) -> None:
        if self._booted:
            self._reader.feed(data)
            return
        marker = self._marker + b"\n"
        before, marker_found, after = (self.preamble + data).partition(marker)
        self.preamble = before[-TAIL_SIZE:]
        if marker_found:
            self._booted = True
            self.channel.in_buffer.limit = None
            self._reader.feed(after)

    @property
    def booted(self) -> bool:
        """Return whether the loader has started on the target."""
        return self._booted

    @property
    def has_ended(self) -> bool:
        """Return whether the stream has ended; what still arrives is discarded."""
        return self._ended

    def on_disconnect(self, broker: Broker) -> None:
        """End the stream. I/O thread; idempotent."""
        if self._ended:
            return
        self._ended = True
        self._drain_stderr()
        mitogen.core.fire(self, "disconnect")
        self.writer.close()
        if not self.channel.transport.is_ending:  # else the channel ends with its connection
            with contextlib.suppress(ConnectError):  # no thread for it
                self._threads.submit(self._close_channel)
        self._guard.run(self._on_end)

    def _close_channel(self) -> None:
        """Close the channel. May block; an error means that the connection has ended already."""
        with contextlib.suppress(Exception):
            self.channel.close()


require_methods(mitogen.core.MitogenProtocol, "_send(self, msg)", "pending_bytes(self)")
require_methods(mitogen.core.Stream, "on_disconnect(self, broker)", "set_protocol(self, protocol)")
