"""One channel of a connection: Paramiko's Channel with its omissions added.

* **The window is counted at our end**, as OpenSSH does: a server that sends more than it may ends its connection. Upstream takes
  any amount of data, and stores it until it is read. The length field of every message is checked.
* ``exit-signal`` (RFC 4254 section 6.10) is stored: upstream drops it, so a killed command looks like one without a status.
* A refused request sets :attr:`Channel.refusal_reason` instead of only closing the channel, so that a request can be sent
  without waiting for its reply.
* Nothing is sent on a channel after ``close``, even if other threads have data ready: for the server its number is then
  invalid, or another channel's, and OpenSSH ends the whole connection.
* Reading is split in two: :meth:`Channel.drain` takes the data that has arrived and neither blocks nor sends;
  :meth:`Channel.grant_window` lets the peer send as much again, and may block. An event loop calls the first, a writer thread
  the second.
* ``pty-req`` carries terminal modes (no echo, no CR before LF).

Never use ``makefile`` or ``exec_command``: a file object's destructor takes the channel's locks on the thread on which the
garbage collector happens to run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import paramiko
from paramiko.buffered_pipe import PipeTimeout
from paramiko.common import (
    cMSG_CHANNEL_CLOSE,
    cMSG_CHANNEL_DATA,
    cMSG_CHANNEL_EOF,
    cMSG_CHANNEL_FAILURE,
    cMSG_CHANNEL_REQUEST,
    cMSG_CHANNEL_SUCCESS,
    cMSG_CHANNEL_WINDOW_ADJUST,
)
from paramiko.message import Message

from pmitogen.transport.keys.wire import encode_string
from pmitogen.transport.paramiko_ext.input_buffer import InputBuffer
from pmitogen.util.overrides import require_methods

if TYPE_CHECKING:
    from pmitogen.transport.paramiko_ext.transport import ClientTransport

# RFC 4254 section 8: opcode, value; 0 ends the list.
TTY_OP_END = 0
ECHO = 53
ONLCR = 72
RAW_MODES = ((ECHO, 0), (ONLCR, 0))
MAX_SENT = 64 << 10  # bytes of data sent in one message, even if the server allows more


class ExitSignal(NamedTuple):
    """The signal that killed a command: its name without SIG, and the server's message."""

    name: str
    message: str


class ChannelMessage(Message):
    """A message on *channel*; the packetizer drops it after the channel's close."""

    def __init__(self, channel: Channel, kind: bytes, *rest: bytes | memoryview) -> None:
        self.channel = channel
        self.closes = kind == cMSG_CHANNEL_CLOSE
        self._bytes = b"".join((kind, channel.remote_chanid.to_bytes(4, "big"), *rest))

    def asbytes(self) -> bytes:
        return self._bytes


class Channel(paramiko.Channel):
    """A channel of a :class:`ClientTransport`, which creates it."""

    transport: ClientTransport
    kind = "session"
    exit_signal: ExitSignal | None = None
    refusal_reason: str | None = None  # why the peer closed it or refused a request
    timeout_reason: str | None = None  # the reason if ChannelTimeout closed it
    abandoned = False  # the request for it has timed out
    close_sent = False  # the transport's, under its clear_to_send_lock
    last_used = 0.0  # when data last passed either way; time.monotonic() seconds
    open_failure: tuple[int, str] | None = None  # RFC 4254 section 5.1: reason code and the server's text
    is_cut = False  # the connection ended before the channel's output did
    window_excess = 0  # bytes that the server sent beyond its window
    # Upstream's, in no stub:
    logger: Any
    in_buffer: InputBuffer
    in_stderr_buffer: InputBuffer
    in_window_size: int
    _wait_for_send_window: Callable[[int], int]
    _event_pending: Callable[[], None]
    _set_transport: Callable[[paramiko.Transport], None]
    _set_closed: Callable[[], None]
    _request_success: Callable[[Message], None]
    _request_failed: Callable[[Message], None]
    _handle_eof: Callable[[Message], None]
    _handle_close: Callable[[Message], None]

    def __init__(self, channel_id: int) -> None:
        super().__init__(channel_id)
        self.on_exit: Callable[[], object] = lambda: None  # called after the exit status or signal. Transport thread
        self.in_buffer = InputBuffer()
        self.in_stderr_buffer = InputBuffer()

    def _set_window(self, window_size: int, max_packet_size: int) -> None:
        """Set the window of the server (overrides Paramiko's)."""
        super()._set_window(window_size, max_packet_size)  # type: ignore[misc]
        self.window = window_size

    def _set_remote_channel(self, channel_id: int, window_size: int, max_packet_size: int) -> None:
        """Set the server's channel number and limits (overrides Paramiko's)."""
        super()._set_remote_channel(channel_id, window_size, min(max_packet_size, MAX_SENT))  # type: ignore[misc]

    def receive(self, data: bytes, buffer: InputBuffer | None) -> None:
        """Add *data* from the server to *buffer*; None: discard it. Transport thread.

        Raises SSHException if the channel's window or packet size is exceeded.
        """
        size = len(data)
        if size > self.in_max_packet_size:
            raise paramiko.SSHException(
                f"the server sent {size} bytes of data in one packet; at most {self.in_max_packet_size} are allowed"
            )
        with self.lock:
            self.in_window_size -= size
            if self.in_window_size < 0:
                self.window_excess -= self.in_window_size
                self.in_window_size = 0
                if self.window_excess > self.window // 10:  # OpenSSH's grace
                    raise paramiko.SSHException("the server exceeded the window of a channel")
            else:
                self.window_excess = 0
            is_over = self.closed or self.eof_received
        if not size:
            self.transport.count_useless("empty data")
        elif buffer is not None and not is_over:  # the amount of data on a closed channel is limited by its window
            self.last_used = time.monotonic()
            self.transport.packetizer.deliver(size)
            buffer.feed(data)

    def _check_add_window(self, nbytes: int) -> int:
        """Return how many window bytes to grant now after *nbytes* were read (overrides Paramiko's)."""
        granted = int(super()._check_add_window(nbytes))  # type: ignore[misc]
        if granted:
            with self.lock:
                self.in_window_size += granted
        return granted

    def drain(self, limit: int | None = None) -> tuple[bytes, int]:
        """Return the data that has arrived, at most *limit* bytes (None: all). Any one thread; never blocks.

        Returns the data, and the window bytes to :meth:`grant_window` for it (mostly 0). ``(b"", 0)`` when nothing is there; see
        :attr:`ended` for the end, and :attr:`has_input` for more.
        """
        data = self.in_buffer.take(limit)
        return data, self._check_add_window(len(data)) if data else 0

    def drain_stderr(self, limit: int | None = None) -> tuple[bytes, int]:
        """Return data of the error stream, as :meth:`drain`: both share one window."""
        data = self.in_stderr_buffer.take(limit)
        return data, self._check_add_window(len(data)) if data else 0

    @property
    def has_input(self) -> bool:
        """True if :meth:`drain` would return data now."""
        return self.in_buffer.read_ready()

    @property
    def ended(self) -> bool:
        """True if no more data will arrive (the buffer may still contain some)."""
        return bool(self.eof_received or self.closed)

    @property
    def exit_reported(self) -> bool:
        """True if the server has sent the exit status or signal of the command."""
        return self.exit_status >= 0 or self.exit_signal is not None

    def grant_window(self, nbytes: int) -> None:
        """Let the peer send *nbytes* more. May block, while keys change or the socket is full."""
        if nbytes <= 0 or self.closed:
            return
        self._send(cMSG_CHANNEL_WINDOW_ADJUST, nbytes.to_bytes(4, "big"))

    def recv(self, nbytes: int) -> bytes:
        """Wait for data and return at most *nbytes* of it; ``b""`` at the end. Raises TimeoutError."""
        try:
            data: bytes = self.in_buffer.read(nbytes, self.timeout)
        except PipeTimeout:
            raise TimeoutError from None
        self.grant_window(self._check_add_window(len(data)))
        return data

    def send(self, s: Any) -> int:
        """Send bytes of *s*, and return how many; 0: the channel is closed. Blocks while the window is closed. Copies once."""
        with self.lock:
            if self.closed:
                raise OSError("the channel is closed")
            size = self._wait_for_send_window(len(s))
        if size:
            self.last_used = time.monotonic()
            self._send(cMSG_CHANNEL_DATA, size.to_bytes(4, "big"), memoryview(s)[:size])
        return int(size)

    def try_send(self, data: bytes) -> bool:
        """Send *data*, unless that could wait for a thread, for new keys, or for the peer. Returns whether it was sent."""
        size = len(data)
        if not self.lock.acquire(blocking=False):
            return False
        try:
            if self.closed or self.eof_sent or size > min(self.out_window_size, self.out_max_packet_size - 64):
                return False
            if not self.transport.try_send(ChannelMessage(self, cMSG_CHANNEL_DATA, size.to_bytes(4, "big"), data)):
                return False
            self.out_window_size -= size
            self.last_used = time.monotonic()
            return True
        finally:
            self.lock.release()

    def sendall(self, s: Any) -> None:
        """Send all of *s*. Raises OSError if the channel is closed before."""
        rest = memoryview(s)
        while rest:
            sent = self.send(rest)
            if not sent:
                raise OSError("the channel is closed")
            rest = rest[sent:]

    def request(self, kind: str, *fields: bytes, want_reply: bool = True) -> None:
        """Send a channel request without waiting for an answer. *fields* are encoded already (see wire.encode_string)."""
        self._send(cMSG_CHANNEL_REQUEST, encode_string(kind), bytes((want_reply,)), *fields)

    def request_and_end(self, kind: str, *fields: bytes) -> None:
        """Send a channel request as :meth:`request` does, and the end of the data."""
        request = ChannelMessage(self, cMSG_CHANNEL_REQUEST, encode_string(kind), b"\1", *fields)
        with self.lock:
            eof = self._send_eof()
        self.transport.send_together(*(request, eof) if eof is not None else (request,))

    def reply(self, done: bool) -> None:
        """Answer a request of the server's."""
        self._send(cMSG_CHANNEL_SUCCESS if done else cMSG_CHANNEL_FAILURE)

    def _send(self, kind: bytes, *rest: bytes | memoryview) -> None:
        self.transport._send_user_message(ChannelMessage(self, kind, *rest))

    def _send_eof(self) -> ChannelMessage | None:
        """Return the EOF message if it was not sent yet (overrides Paramiko's; called with the channel's lock held)."""
        if self.eof_sent:
            return None
        self.eof_sent = True
        return ChannelMessage(self, cMSG_CHANNEL_EOF)

    def _close_internal(self) -> tuple[ChannelMessage | None, ChannelMessage | None]:
        """Return the messages that close the channel (overrides Paramiko's; called with the channel's lock held)."""
        if not self.active or self.closed:
            return None, None
        eof = self._send_eof()
        self._set_closed()
        return eof, ChannelMessage(self, cMSG_CHANNEL_CLOSE)

    def wait_for_reply(self, timeout: float) -> bool:
        """Wait for the answer to the only request that is outstanding: True granted, False refused or closed.

        Raises TimeoutError.
        """
        if not self.event.wait(max(0.0, timeout)):
            raise TimeoutError
        return bool(self.event_ready)

    def prepare_for_reply(self) -> None:
        """Forget the last reply. Call this before sending a request whose reply :meth:`wait_for_reply` waits for."""
        self._event_pending()

    def close(self) -> None:
        """Close the channel, and inform the peer if possible. Idempotent; raises nothing; may block like any send."""
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            super().close()

    def close_idle(self, reason: str) -> None:
        """Close the channel because it is idle (transport thread). *reason*: for messages.

        The result of a command that has ended stays valid.
        """
        if not self.exit_reported:
            self.timeout_reason = reason
        self.close()

    def _unlink(self) -> None:
        self.is_cut = not (self.closed or self.eof_received)
        self.transport.final_reason()
        super()._unlink()  # type: ignore[misc]

    def request_pty(self, term: str, width: int, height: int, modes: tuple[tuple[int, int], ...] = RAW_MODES) -> None:
        """Request a pseudo-terminal, without waiting for the reply."""
        coded = b"".join(bytes((code,)) + value.to_bytes(4, "big") for code, value in modes) + bytes((TTY_OP_END,))
        size = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes(8)
        self.request("pty-req", encode_string(term), size, encode_string(coded))


require_methods(
    paramiko.Channel,
    "_set_window(self, window_size, max_packet_size)",
    "_set_remote_channel(self, chanid, window_size, max_packet_size)",
    "_check_add_window(self, n)",
    "_send_eof(self)",
    "_close_internal(self)",
    "_unlink(self)",
)
