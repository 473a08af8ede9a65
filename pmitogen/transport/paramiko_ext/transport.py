"""The SSH transport: Paramiko's Transport, subclassed where it stalls, hides or polls.

What it changes, and why:

* **Rekeying never stalls.** Upstream's transport thread answers channel requests and closes through the same call that users
  send by, which waits for the running key exchange to end; only that thread can end it, so the connection dies after 30
  seconds. Here whatever the transport thread wants to send meanwhile is kept, and sent after NEWKEYS. Global-request replies,
  which upstream sends even in the middle of a key exchange (RFC 4253 section 7.1 forbids that), are kept as well.
  A key exchange is started by whichever thread notices that it is due, under a lock, so the reader need not poll for it.
* **The peer's offer is remembered**, so that "no common algorithm" can print both lists.
* **Each failed channel keeps its own reason**, in the server's words; upstream has one slot for the whole connection.
* **The reason for the end is kept**: the peer's disconnect message, its silence, or the socket's error; who asked is told once.
* Our own order of algorithms, host-key algorithms taken literally, ``curve25519-sha256`` under its standard name.

How one would know that a part can go: tests/integration/test_rekey.py and test_keepalive.py pass with upstream's method.
"""

from __future__ import annotations

import collections
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import paramiko
from paramiko.common import (
    CONNECTION_FAILED_CODE,
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_REQUEST,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_FAILED_RESOURCE_SHORTAGE,
    cMSG_CHANNEL_OPEN,
    cMSG_CHANNEL_OPEN_FAILURE,
    cMSG_CHANNEL_OPEN_SUCCESS,
    cMSG_GLOBAL_REQUEST,
)
from paramiko.message import Message

from pmitogen.transport import log_file
from pmitogen.transport.hostkeys.algorithm_order import HostKeyPolicy
from pmitogen.transport.paramiko_ext import channel as channels
from pmitogen.transport.paramiko_ext.channel import Channel, ChannelMessage
from pmitogen.transport.paramiko_ext.idle_timeout import IdleClock
from pmitogen.transport.paramiko_ext.keepalive import Silence, Verdict
from pmitogen.transport.paramiko_ext.packetizer import FIRST_USER_MESSAGE, Packets
from pmitogen.util.peer_text import escape

if TYPE_CHECKING:
    from pmitogen.transport.forwarding.agent import AgentForwarder

WINDOW = 16 << 20  # bytes that the peer may have in flight to us, per channel: 90 MB/s at 180 ms
LARGEST_PACKET = 32 << 10  # bytes; what OpenSSH takes and sends
AGENT_CHANNEL = "auth-agent@openssh.com"
AGENT_WINDOW = 64 << 10  # bytes; messages are small, and a target may open several channels


def _curve25519(known: dict[str, Any]) -> dict[str, Any]:
    """RFC 8731 gave the method its standard name; Paramiko knows the older one only."""
    old = known.get("curve25519-sha256@libssh.org")
    return {**known, **({"curve25519-sha256": old} if old else {})}


class ClientTransport(HostKeyPolicy, paramiko.Transport):
    """One SSH connection, client side, over *sock*. Daemon thread; owned by a Link."""

    packetizer: Packets
    # Upstream's, in no stub:
    remote_cipher: str
    remote_mac: str | None
    remote_compression: str | None
    clear_to_send_timeout: float
    _kex_info = _curve25519(paramiko.Transport._kex_info)  # type: ignore[attr-defined]
    _channel_handler_table = {
        **paramiko.Transport._channel_handler_table,  # type: ignore[attr-defined]
        MSG_CHANNEL_DATA: channels.on_data,
        MSG_CHANNEL_EXTENDED_DATA: channels.on_extended_data,
        MSG_CHANNEL_REQUEST: channels.on_request,
        MSG_CHANNEL_FAILURE: channels.on_failure,
        MSG_CHANNEL_CLOSE: channels.on_close,
    }

    def __init__(self, sock: Any, name: str, alive_interval: float = 0, alive_count: int = 3, log: str = log_file.NAME) -> None:
        super().__init__(sock, default_window_size=WINDOW, default_max_packet_size=LARGEST_PACKET, packetizer_class=Packets)
        self.name = f"ssh {name}"
        self.set_log_channel(log)
        logger: Any = log_file.PeerLogger(log, name)
        self.logger = logger
        self.packetizer.set_log(logger)
        self.packetizer.on_silence = self._on_silence
        self.packetizer.in_kex = lambda: self.in_kex
        self.packetizer.silence = Silence(alive_interval, alive_count, time.monotonic())
        self._kex_start = threading.RLock()  # above clear_to_send_lock
        self._held: collections.deque[Message] = collections.deque()
        self._end_lock = threading.Lock()
        self._on_end: list[Callable[[str], None]] = []
        self._closed_by_us = self._finished = False
        self.end_reason: str | None = None  # set once, when the connection is over
        self._why: str | None = None  # what is known to end it, until it has
        self.peer_offer: dict[str, list[str]] = {}
        self.agreed_kex = ""
        # Upstream keeps channels weakly: one that nobody holds is closed by the garbage collector, on any thread, under locks.
        self._kept: dict[int, Channel] = {}
        self.agent_channels: AgentForwarder | None = None  # None: the agent is not forwarded
        self.channel_closed = threading.Condition()
        self.closings = 0  # how often a place became free; guarded by channel_closed

    # Key exchange -------------------------------------------------------------------------------------------------------

    def _send_kex_init(self) -> None:
        with self._kex_start:
            if self.local_kex_init is None:
                super()._send_kex_init()  # type: ignore[misc]

    def _negotiate_keys(self, m: Message) -> None:
        self.peer_offer = _offer(m.asbytes())
        with self._kex_start:
            super()._negotiate_keys(m)  # type: ignore[misc]
        ours = self.preferred_kex
        self.agreed_kex = next((name for name in ours if name in self.peer_offer["kex"]), "")

    def _parse_newkeys(self, m: Message) -> None:
        super()._parse_newkeys(m)  # type: ignore[misc]
        with self.clear_to_send_lock:
            while self._held and self.clear_to_send.is_set():
                self._put(self._held.popleft())

    def _send_message(self, data: Message) -> None:
        """Upstream's call for "send at once", from the transport thread or before the connection is in use."""
        if data.asbytes()[0] >= FIRST_USER_MESSAGE and threading.current_thread() is self:
            self._send_or_hold(data)
        else:
            self._put(data)

    def _send_user_message(self, data: Message) -> None:
        """Send when no key exchange is running: wait for its end, or on the transport thread, keep the message until then."""
        if threading.current_thread() is self:
            self._send_or_hold(data)
            return
        try:
            super()._send_user_message(data)  # type: ignore[misc]
        except paramiko.SSHException:  # nobody will ever send again
            self.end(f"no new keys within {self.clear_to_send_timeout:g} s")
            raise
        if self.packetizer.need_rekey() and not self.in_kex:
            self._start_rekey()

    def _send_or_hold(self, data: Message) -> None:
        with self.clear_to_send_lock:
            if self.clear_to_send.is_set():
                self._put(data)
            else:
                self._held.append(data)

    def _put(self, data: Message) -> None:
        """Send. What belongs to a channel (then clear_to_send_lock is held) goes nowhere after that channel's close."""
        if isinstance(data, ChannelMessage):
            if data.channel.close_sent:
                return
            data.channel.close_sent = data.closes
        self.packetizer.send_message(data)

    def _start_rekey(self) -> None:
        with self._kex_start:
            if self.active and self.initial_kex_done and self.packetizer.need_rekey() and not self.in_kex:
                self._send_kex_init()

    # Channels -----------------------------------------------------------------------------------------------------------

    def open_channel(
        self,
        kind: str,
        dest_addr: tuple[str, int] | None = None,
        src_addr: tuple[str, int] | None = None,
        window_size: int | None = None,
        max_packet_size: int | None = None,
        timeout: float | None = None,
    ) -> Channel:
        """As upstream's, but each failure has its own reason.

        Raises ChannelException (with the server's text), TimeoutError, SSHException when the connection is over.
        """
        channel, opened = self._ask_for_channel(kind, dest_addr, src_addr, window_size or WINDOW)
        if not opened.wait(timeout):
            channel.given_up = True
            if channel.active:  # it was opened just now
                channel.close()
            raise TimeoutError
        if channel.open_failure is not None:
            raise paramiko.ChannelException(*channel.open_failure)
        if not channel.active or not self.active:
            raise paramiko.SSHException(self.end_reason or "the connection is closed")
        return channel

    def _ask_for_channel(
        self, kind: str, to: tuple[str, int] | None, origin: tuple[str, int] | None, window: int
    ) -> tuple[Channel, threading.Event]:
        opened = threading.Event()
        with self.lock:
            channel = self._new_channel(kind, window)
            self.channel_events[channel.chanid] = opened
        message = Message()
        message.add_byte(cMSG_CHANNEL_OPEN)
        message.add_string(kind)
        message.add_int(channel.chanid)
        message.add_int(window)
        message.add_int(LARGEST_PACKET)
        for address in (to, origin):
            if address is not None:
                message.add_string(address[0])
                message.add_int(address[1])
        self._send_user_message(message)
        if not self.active:
            opened.set()
        return channel, opened

    def _new_channel(self, kind: str, window: int) -> Channel:
        """Called with our lock held."""
        number = self._next_channel()  # type: ignore[attr-defined]
        channel = Channel(number)
        channel.kind = kind
        channel.last_used = time.monotonic()
        self._kept[number] = channel
        self._channels.put(number, channel)  # type: ignore[attr-defined]
        self.channels_seen[number] = True
        channel._set_transport(self)
        channel.logger = self.logger
        channel._set_window(window, LARGEST_PACKET)
        return channel

    def _parse_channel_open(self, m: Message) -> None:
        """The server asks for a channel. There is one kind that we may have invited: for a program that talks to our agent."""
        kind, theirs, window, packet = m.get_text(), m.get_int(), m.get_int(), m.get_int()
        agent = self.agent_channels if kind == AGENT_CHANNEL else None
        if agent is None:
            self._refuse_channel(theirs, OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED, "not invited")
            return
        if not agent.admit():
            self._refuse_channel(theirs, OPEN_FAILED_RESOURCE_SHORTAGE, "too many")
            return
        with self.lock:
            channel = self._new_channel(kind, AGENT_WINDOW)
            channel._set_remote_channel(theirs, window, packet)
        message = Message()
        message.add_byte(cMSG_CHANNEL_OPEN_SUCCESS)
        message.add_int(theirs)
        message.add_int(channel.chanid)
        message.add_int(AGENT_WINDOW)
        message.add_int(LARGEST_PACKET)
        self._send_user_message(message)
        agent.serve(channel)

    def _refuse_channel(self, theirs: int, code: int, reason: str) -> None:
        message = Message()
        message.add_byte(cMSG_CHANNEL_OPEN_FAILURE)
        message.add_int(theirs)
        message.add_int(code)
        message.add_string(reason)
        message.add_string("")
        self._send_user_message(message)

    def _parse_channel_open_success(self, m: Message) -> None:
        number = m.get_int()
        m.rewind()
        super()._parse_channel_open_success(m)  # type: ignore[misc]
        channel = self._kept.get(number)
        if channel is not None and channel.given_up:
            channel.close()

    def _parse_channel_open_failure(self, m: Message) -> None:
        number, code, words = m.get_int(), m.get_int(), escape(m.get_string())
        channel = self._channels.get(number)  # type: ignore[attr-defined]
        if isinstance(channel, Channel):
            channel.open_failure = (code, words or CONNECTION_FAILED_CODE.get(code, "refused"))
        with self.lock:
            self._channels.delete(number)  # type: ignore[attr-defined]
            opened = self.channel_events.pop(number, None)
        self._kept.pop(number, None)
        if opened is not None:
            opened.set()

    def forget(self, channel: Channel) -> None:
        """*channel* is closed on both sides: its place is free."""
        self._kept.pop(channel.chanid, None)
        with self.channel_closed:
            self.closings += 1
            self.channel_closed.notify_all()

    @property
    def sessions(self) -> int:
        """Session channels that the server counts against MaxSessions."""
        return sum(1 for channel in list(self._kept.values()) if channel.kind == "session" and channel.active)

    def limit_silence(self, session: float, all_channels: float) -> None:
        """ChannelTimeout, in seconds: see idle.py. Call it before the start; 0 and 0 is no limit."""
        if session or all_channels:
            clock = IdleClock(session, all_channels)
            self.packetizer.on_look = lambda now: self._close_idle(clock, now)
            self.packetizer.look_at = 0.0

    def _close_idle(self, clock: IdleClock, now: float) -> float:
        """Close what is due (transport thread); when to look again."""
        used = [channel for channel in list(self._kept.values()) if channel.active and not channel.closed]
        due, why, again = clock.judge(used, now)
        for channel in due:
            channel.expire(why)
        return again

    # Life and death -----------------------------------------------------------------------------------------------------

    def _on_silence(self, verdict: Verdict) -> None:
        if not self.is_authenticated():
            self.packetizer.silence.heard(time.monotonic())  # a login has its own limit, and may wait for a person
        elif verdict is Verdict.ASK:
            self._ask()
        else:
            self.end(f"no answer for {self.packetizer.silence.limit:.3g} s")

    def _ask(self) -> None:
        """Ask the peer for a sign of life. Never waits; not during a key exchange, whose messages are sign enough."""
        if self.clear_to_send.is_set():
            message = Message()
            message.add_byte(cMSG_GLOBAL_REQUEST)
            message.add_string("keepalive@openssh.com")
            message.add_boolean(True)
            self.packetizer.send_soon(message)

    def _parse_disconnect(self, m: Message) -> None:
        code, words = m.get_int(), escape(m.get_string())
        self._why = f"the server says: {words}" if words else f"the server disconnects (code {code})"

    def end(self, reason: str) -> None:
        """End the connection now, for this *reason*. Any thread; does not wait."""
        if self._why is None:
            self._why = reason
        self.packetizer.close()

    def hang_up(self) -> None:
        """Begin to close, and leave the rest to the transport's thread. Any thread; idempotent; takes no lock of a channel's."""
        self._closed_by_us = True
        self.end("closed by us")

    def close(self) -> None:
        """End the connection on our own wish. Any thread; idempotent; waits for nobody."""
        self.hang_up()
        self.active = False
        for channel in list(self._channels.values()):  # type: ignore[attr-defined]
            channel._unlink()
        if not self.is_alive():
            self.sock.close()
        self._finish()

    def run(self) -> None:
        try:
            super().run()
        finally:
            self._finish()

    def settle(self) -> str:
        """The reason for the end, found if it was not yet: it is known before any channel looks ended."""
        if self.end_reason is None:
            self.end_reason = self._why or _words(self.saved_exception)
        return self.end_reason

    def _finish(self) -> None:
        with self._end_lock:
            if self._finished:
                return
            self._finished = True
            self.active = False
            reason = self.settle()
            waiting, self._on_end = self._on_end, []
        for opened in list(self.channel_events.values()):
            opened.set()
        if self.completion_event is not None:
            self.completion_event.set()
        with self.channel_closed:
            self.closings += 1
            self.channel_closed.notify_all()
        self._kept.clear()
        if not self._closed_by_us:
            for callback in waiting:
                callback(reason)

    def abandon(self) -> None:
        """In a forked child: drop our copy of the connection without a word on it. It has no thread here; locks may be held."""
        self.active = False
        self._closed_by_us = True
        for channel in list(self._kept.values()):
            channel.lock = threading.Lock()
            channel.closed = True
        if isinstance(self.sock, socket.socket):
            self.sock.close()  # the descriptor; the parent's stays open

    def on_end(self, callback: Callable[[str], None]) -> None:
        """Have *callback* called once with the reason when the connection ends otherwise than by :meth:`close`."""
        with self._end_lock:
            if not self._finished:
                self._on_end.append(callback)
                return
        if not self._closed_by_us:
            callback(self.settle())


def _words(error: BaseException | None) -> str:
    """A reset is an end like another: it is what comes where the server had not read all that was sent."""
    if error is None or isinstance(error, (EOFError, ConnectionResetError, BrokenPipeError)):
        return "the server closed the connection"
    return escape(str(getattr(error, "strerror", None) or error)) or type(error).__name__


def _offer(raw: bytes) -> dict[str, list[str]]:
    """The lists of a KEXINIT (RFC 4253 section 7.1) that can fail to agree."""
    message = Message(raw)
    message.get_bytes(16)
    kex, host_key, cipher, _, mac, _, compression, _ = [message.get_list() for _ in range(8)]
    real = [word for word in kex if not word.startswith(("ext-info-", "kex-strict-"))]
    return {"kex": real, "host key": host_key, "cipher": cipher, "MAC": mac, "compression": compression}
