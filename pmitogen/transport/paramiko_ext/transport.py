"""The SSH transport: Paramiko's Transport with overrides.

key_exchange.py has the key exchange, server_messages.py handles the server's messages outside of channels, and
channel_messages.py those about a channel. Changed here:

* **Each failed channel has its own reason**, the server's text; upstream has one slot for the whole connection.
* **The reason for the end is stored**: the peer's disconnect message, its silence, or the socket's error. Callbacks get it once.
* **The memory of all channels together is limited** by the windows that are granted.
* The order of algorithms is pmitogen's; host key algorithms are offered as configured.

A part can be removed when tests/integration/test_keepalive.py and tests/hostile pass with upstream's method.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

import paramiko
from paramiko.common import (
    CONNECTION_FAILED_CODE,
    cMSG_CHANNEL_OPEN,
)
from paramiko.message import Message

from pmitogen.transport import log_file
from pmitogen.transport.keys.wire import DecodeError, PacketReader
from pmitogen.transport.paramiko_ext import channel_messages
from pmitogen.transport.paramiko_ext.channel import Channel
from pmitogen.transport.paramiko_ext.global_requests import GlobalRequests
from pmitogen.transport.paramiko_ext.host_key_policy import HostKeyPolicy
from pmitogen.transport.paramiko_ext.idle_timeout import IdleTimeouts
from pmitogen.transport.paramiko_ext.incoming_channels import ChannelAcceptor, IncomingChannels
from pmitogen.transport.paramiko_ext.keepalive import KeepaliveAction, KeepaliveTimer
from pmitogen.transport.paramiko_ext.key_exchange import KeyExchange
from pmitogen.transport.paramiko_ext.message_loop import MessageLoop
from pmitogen.transport.paramiko_ext.packets.packetizer import FastPacketizer
from pmitogen.transport.paramiko_ext.server_messages import IssuedChannels, ServerMessages
from pmitogen.transport.pipe_stream import PipeStream
from pmitogen.util import peer_text
from pmitogen.util.overrides import require_methods

WINDOW = 16 << 20  # bytes that the peer may have in flight, per channel: 90 MB/s at 180 ms
MAX_PACKET_SIZE = 32 << 10  # bytes; what OpenSSH takes and sends
MAX_TOTAL_WINDOW = 22 << 20  # bytes in flight or unread on all sessions of a connection; tunnels, read at once, do not count
MIN_SESSION_WINDOW = 256 << 10  # bytes; of a session, even if others use the whole limit


class Settable(Protocol):
    """The part of threading.Event that the transport calls."""

    def set(self) -> None:
        """Report that the awaited event has happened. Must neither block nor raise."""


class ClientTransport(
    MessageLoop, KeyExchange, IncomingChannels, GlobalRequests, ServerMessages, HostKeyPolicy, paramiko.Transport
):
    """One SSH connection, client side, over *sock*, owned by a Connection. message_loop.py has its threads."""

    packetizer: FastPacketizer
    # Upstream's, in no stub:
    remote_mac: str | None
    remote_compression: str | None
    _channel_handler_table = channel_messages.HANDLERS

    def __init__(self, sock: Any, name: str, alive_interval: float = 0, alive_count: int = 3, log: str = log_file.NAME) -> None:
        super().__init__(
            sock, default_window_size=WINDOW, default_max_packet_size=MAX_PACKET_SIZE, packetizer_class=FastPacketizer
        )
        self.endpoint = name
        self.name = f"ssh {name}"
        self.set_log_channel(log)
        logger: Any = log_file.PeerLogger(log, name)
        self.logger = logger
        self.packetizer.set_log(logger)
        self.packetizer.on_keepalive = self._on_keepalive
        self.packetizer.on_unknown = self._answer_unknown
        self.packetizer.keepalive = KeepaliveTimer(alive_interval, alive_count, time.monotonic())
        self._end_lock = threading.Lock()
        self._end_callbacks: list[Callable[[str], None]] = []  # not called after close()
        self._at_end: list[Callable[[], None]] = []
        self._closed_by_us = self._finished = False
        self.end_reason: str | None = None  # set once, when the connection is over
        self.is_silent = False  # ended because of that
        self._pending_reason: str | None = None  # the known reason of an end that is still to come
        # Upstream holds channels by weak references: the garbage collector closes one without other references, on any thread.
        self._channels_by_id: dict[int, Channel] = {}
        self.channels_seen = IssuedChannels(self)  # type: ignore[assignment]
        self.channel_acceptors: dict[bytes, ChannelAcceptor] = {}  # by the kind of channel that the server may open
        self.rekey_limit = (0, 0)  # RekeyLimit: bytes and seconds; see set_rekey_limit of packets/cipher_keys.py
        self._init_requests()
        self.channel_closed = threading.Condition()
        self.close_count = 0  # how often a place became free; guarded by channel_closed

    # Channels -----------------------------------------------------------------------------------------------------------

    def request_channel(self, kind: str, fields: bytes, window: int, timeout: float | None) -> Channel:
        """Open a channel. *fields*: those of this kind of channel, encoded. Each failure has its own reason.

        Raises ChannelException (with the server's text), TimeoutError, SSHException when the connection is over.
        """
        opened = threading.Event()
        channel = self.begin_channel(kind, fields, window, opened)
        if not opened.wait(timeout):
            channel.abandoned = True
            if channel.active:  # it was opened at the last moment
                channel.close()
            raise TimeoutError
        if channel.open_failure is not None:
            raise paramiko.ChannelException(*channel.open_failure)
        if not channel.active or not self.active:
            raise paramiko.SSHException(self.end_reason or "the connection is closed")
        return channel

    def _window(self, kind: str, wanted: int) -> int:
        """Return the window for another channel: all share MAX_TOTAL_WINDOW, and each gets MIN_SESSION_WINDOW at least."""
        if kind != "session":
            return wanted
        taken = sum(channel.window for channel in list(self._channels_by_id.values()) if channel.kind == "session")
        return max(MIN_SESSION_WINDOW, min(wanted, MAX_TOTAL_WINDOW - taken))

    def begin_channel(
        self, kind: str, fields: bytes, window: int, opened: Settable, submit: Callable[[Callable[[], None]], None] | None = None
    ) -> Channel:
        """Ask for a channel. Its answer, or the end of the connection, sets *opened* at least once, on any thread.

        :param submit: calls a function on a thread that may wait; where there is one, this method does not wait.
        """
        with self.lock:
            window = self._window(kind, window)
            channel = self._new_channel(kind, window)
            self.channel_events[channel.chanid] = opened  # type: ignore[assignment]
        message = Message()
        message.add_byte(cMSG_CHANNEL_OPEN)
        message.add_string(kind)
        message.add_int(channel.chanid)
        message.add_int(window)
        message.add_int(MAX_PACKET_SIZE)
        message.add_bytes(fields)

        def send() -> None:
            try:
                self._send_user_message(message)
            finally:
                if not self.active:
                    opened.set()

        def send_later() -> None:
            with contextlib.suppress(EOFError, OSError, paramiko.SSHException):  # the connection has ended, or is about to
                send()

        if submit is None:
            send()
        elif not self.try_send(message):
            submit(send_later)
        return channel

    def _new_channel(self, kind: str, window: int) -> Channel:
        """Make a channel and register it. Call with the lock held."""
        channel_id = self._next_channel()  # type: ignore[attr-defined]
        channel = Channel(channel_id)
        channel.kind = kind
        channel.last_used = time.monotonic()
        self._channels_by_id[channel_id] = channel
        self._channels.put(channel_id, channel)  # type: ignore[attr-defined]
        channel._set_transport(self)
        channel.logger = self.logger
        channel._set_window(window, MAX_PACKET_SIZE)
        return channel

    def _channel_being_opened(self, reader: PacketReader) -> Channel:
        """Return the channel whose opening the server answers. Raises SSHException if it is not being opened."""
        channel_id = reader.u32()
        channel = self._channels_by_id.get(channel_id)
        if channel is None or channel.active or channel_id not in self.channel_events:
            raise paramiko.SSHException(f"unexpected answer from the server for channel {channel_id}")
        return channel

    def _parse_channel_open_success(self, m: Message) -> None:
        reader = PacketReader(m.asbytes())
        channel = self._channel_being_opened(reader)
        with self.lock:
            channel._set_remote_channel(reader.u32(), reader.u32(), reader.u32())
            opened = self.channel_events.pop(channel.chanid)
        opened.set()
        if channel.abandoned:
            channel.close()

    def _parse_channel_open_failure(self, m: Message) -> None:
        reader = PacketReader(m.asbytes())
        channel = self._channel_being_opened(reader)
        code, description = reader.u32(), peer_text.escape(reader.string())
        channel.open_failure = (code, description or CONNECTION_FAILED_CODE.get(code, "refused"))
        with self.lock:
            self._channels.delete(channel.chanid)  # type: ignore[attr-defined]
            opened = self.channel_events.pop(channel.chanid)
        self._channels_by_id.pop(channel.chanid, None)
        opened.set()

    def forget(self, channel: Channel) -> None:
        """Forget *channel*, which is closed on both sides; its slot is free."""
        self._channels_by_id.pop(channel.chanid, None)
        with self.channel_closed:
            self.close_count += 1
            self.channel_closed.notify_all()

    @property
    def sessions(self) -> int:
        """Session channels that the server counts against MaxSessions."""
        return sum(1 for channel in list(self._channels_by_id.values()) if channel.kind == "session" and channel.active)

    def set_idle_timeouts(self, session: float, all_channels: float) -> None:
        """Set ChannelTimeout, in seconds (see idle_timeout.py); 0: no limit. Call it before the start."""
        if session or all_channels:
            clock = IdleTimeouts(session, all_channels)
            self.packetizer.on_timer = lambda now: self._close_idle(clock, now)
            self.packetizer.next_timer = 0.0

    def _close_idle(self, clock: IdleTimeouts, now: float) -> float:
        """Close the channels that are due, and return the time of the next check (transport thread)."""
        used = [channel for channel in list(self._channels_by_id.values()) if channel.active and not channel.closed]
        due, reason, again = clock.expired_channels(used, now)
        for channel in due:
            channel.close_idle(reason)
        return again

    def _auth_trigger(self) -> None:
        """Apply RekeyLimit too, from the login on. Transport thread."""
        super()._auth_trigger()  # type: ignore[misc]
        self.packetizer.set_rekey_limit(*self.rekey_limit)

    # End ----------------------------------------------------------------------------------------------------------------

    def _on_keepalive(self, action: KeepaliveAction) -> None:
        if not self.is_authenticated():
            self.packetizer.keepalive.activity(time.monotonic())  # a login has its own limit, and may wait for the user
        elif action is KeepaliveAction.SEND_REQUEST:
            self.probe()
        else:
            self.is_silent = True
            self.end(f"no answer for {self.packetizer.keepalive.limit:.3g} s")

    def end(self, reason: str) -> None:
        """End the connection now, for this *reason*. Any thread; does not wait."""
        if self._pending_reason is None:
            self._pending_reason = reason
        self.packetizer.close()

    def begin_close(self) -> None:
        """Begin to close; the transport's thread does the rest. Any thread; idempotent; takes no lock of a channel."""
        self._closed_by_us = True
        self.end("closed by pmitogen")

    def close(self) -> None:
        """End the connection. Any thread; idempotent; does not wait."""
        self.begin_close()
        self.active = False
        for channel in list(self._channels.values()):  # type: ignore[attr-defined]
            channel._unlink()
        if not self._is_reading:
            self.sock.close()
        self._finish()

    @property
    def is_ending(self) -> bool:
        """True if nothing can be sent any more."""
        return self.packetizer.closed

    @property
    def is_tunnelled(self) -> bool:
        """True if the connection passes through a channel of another one."""
        return isinstance(self.sock, Channel)

    def final_reason(self) -> str:
        """Return the reason for the end, and determine it if necessary: it is set before any channel looks ended."""
        if self.end_reason is None:
            self.end_reason = self.end_reason_for(self.saved_exception)
        return self.end_reason

    def end_reason_for(self, error: BaseException | None) -> str:
        """Return the reason for the failure: the server's message, or the text of *error*, which ended the transport's thread."""
        return self._pending_reason or self._jump_host_failure() or _error_text(error)

    def _jump_host_failure(self) -> str:
        """Return why the jump host's connection ended, if this one passes through one that has ended."""
        carrier = self.sock.transport if isinstance(self.sock, Channel) else None
        if carrier is None or carrier.end_reason is None:
            return ""
        return f"the connection to the jump host {carrier.endpoint} ended: {carrier.end_reason}"

    def _finish(self) -> None:
        with self._end_lock:
            if self._finished:
                return
            self._finished = True
            self.active = False
            reason = self.final_reason()
            waiting, self._end_callbacks = self._end_callbacks, []
            at_end, self._at_end = self._at_end, []
        for opened in list(self.channel_events.values()):
            opened.set()
        if self.completion_event is not None:
            self.completion_event.set()
        with self.channel_closed:
            self.close_count += 1
            self.channel_closed.notify_all()
        with self._answered:
            self._answered.notify_all()
        self._channels_by_id.clear()
        for each in at_end:
            each()
        if not self._closed_by_us:
            for callback in waiting:
                callback(reason)

    def abandon(self) -> None:
        """In a forked child: drop the copy of the connection without sending anything. There is no thread; locks may be held."""
        self.active = False
        self._closed_by_us = True
        for channel in list(self._channels_by_id.values()):
            channel.lock = threading.Lock()
            channel.closed = True
        sock: Any = self.sock
        if isinstance(sock, socket.socket):
            sock.close()  # the descriptor; the parent's stays open
        elif isinstance(sock, PipeStream):
            sock.abandon()

    def at_end(self, callback: Callable[[], None]) -> None:
        """Call *callback* once when the connection ends, by either side."""
        with self._end_lock:
            if not self._finished:
                self._at_end.append(callback)
                return
        callback()

    def on_end(self, callback: Callable[[str], None]) -> None:
        """Call *callback* once with the reason when the connection ends, unless by :meth:`close`."""
        with self._end_lock:
            if not self._finished:
                self._end_callbacks.append(callback)
                return
        if not self._closed_by_us:
            callback(self.final_reason())


def _error_text(error: BaseException | None) -> str:
    """Describe the error that ended the transport's thread. A reset is a normal end: it occurs if the server had unread data."""
    if error is None or isinstance(error, (EOFError, ConnectionResetError, BrokenPipeError)):
        return "the server closed the connection"
    if isinstance(error, OSError):
        return str(error.strerror or error)
    if isinstance(error, paramiko.SSHException):
        return peer_text.escape(str(error)) or type(error).__name__
    text = peer_text.escape(str(error))
    if not isinstance(error, DecodeError):
        text = f"{type(error).__name__}: {text}".rstrip(": ")
    return f"the server sent a malformed message ({text})"


require_methods(
    paramiko.Transport,
    "_verify_key(self, host_key, sig)",
    "_check_banner(self)",
    "_send_kex_init(self)",
    "_negotiate_keys(self, m)",
    "_parse_kex_init(self, m)",
    "_parse_newkeys(self, m)",
    "_send_message(self, data)",
    "_send_user_message(self, data)",
    "_parse_disconnect(self, m)",
    "_parse_debug(self, m)",
    "_parse_ext_info(self, msg)",
    "_parse_global_request(self, m)",
    "_parse_request_success(self, m)",
    "_parse_request_failure(self, m)",
    "_parse_channel_open(self, m)",
    "_parse_channel_open_success(self, m)",
    "_parse_channel_open_failure(self, m)",
    "_auth_trigger(self)",
    "run(self)",
    "close(self)",
)
