"""The packets to the server: encrypted and sent in order, by any thread.

Missing upstream: a short message is sent only if that blocks nobody, where the caller must not wait. Keepalives are sent without
waiting for the send lock: its holder sends them next, so a writer that is stuck in a full socket cannot stop the peer's silence
from being noticed.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable
from typing import Any

from paramiko.message import Message

from pmitogen.transport.paramiko_ext.keepalive import KeepaliveAction, KeepaliveTimer
from pmitogen.transport.paramiko_ext.packets.cipher_keys import PacketKeys

MAX_TRIED = 1 << 10  # bytes of messages that may be sent only if that does not block
FIRST_USER_MESSAGE = 80  # RFC 4250: from here on a message belongs to the connection protocol and may not be sent during a kex


class OutboundPackets(PacketKeys):
    """The sending half of a packetizer."""

    _sock: Any
    _is_stream: bool
    _closed: bool
    _sending: threading.RLock
    _queued_keepalive: Message | None
    _recv_timeout: float | None
    _compress: Callable[[bytes], bytes] | None
    write_until: float | None = None  # see limit_writes
    keepalive: KeepaliveTimer
    on_keepalive: Callable[[KeepaliveAction], None]
    bytes_sent: int
    write_failed = False  # the connection has ended; the thread that reads determines the reason

    def send_message(self, data: Message, *more: Message) -> None:
        """Encrypt and send, *more* in the same write. Blocks while the socket is full; EOFError if the connection ended."""
        with self._sending:
            payload = data.asbytes()
            self._send_payload(payload, *(each.asbytes() for each in more))
            if self._queued_keepalive is not None and payload[0] >= FIRST_USER_MESSAGE:
                keepalive, self._queued_keepalive = self._queued_keepalive, None
                self.send_message(keepalive)

    def send_nowait(self, data: Message) -> None:
        """Send now, or have the thread that is sending do it. Never waits for the lock."""
        if self._sending.acquire(blocking=False):
            try:
                self.send_message(data)
            finally:
                self._sending.release()
        else:
            self._queued_keepalive = data

    def try_send(self, *payloads: bytes) -> bool:
        """Send short messages that need no answer, unless another thread sends, or the socket is nearly full."""
        if sum(map(len, payloads)) > MAX_TRIED or self._closed or not self._sending.acquire(blocking=False):
            return False
        try:
            if self._queued_keepalive is not None or not self._has_room():
                return False
            self._send_payload(*payloads)
            return True
        finally:
            self._sending.release()

    def _has_room(self) -> bool:
        """Return whether the socket takes MAX_TRIED bytes at once: it is writable while a good part of its buffer is free."""
        if not self._is_stream:  # a channel of a jump host, whose window may be closed
            return False
        try:
            poller = select.poll()
            poller.register(self._sock, select.POLLOUT)
            return any(events == select.POLLOUT for _, events in poller.poll(0))
        except (OSError, ValueError):  # closed meanwhile
            return False

    def _send_payload(self, *payloads: bytes) -> None:
        packets = []
        for payload in payloads:
            packets.append(self._sealer.seal(self._sequence_out, payload if self._compress is None else self._compress(payload)))
            self._next_sequence_out()
        self.write_all(packets[0] if len(packets) == 1 else b"".join(packets))
        for packet in packets:
            self._count_out(len(packet))

    def limit_writes(self, until: float) -> None:
        """Let writes give up at *until* (``time.monotonic()`` seconds), while no other thread watches the one that logs in."""
        self.write_until = until
        if self._recv_timeout is None:  # later, each read sets the socket's timeout
            self._recv_timeout = max(0.001, until - time.monotonic())
            self._sock.settimeout(self._recv_timeout)

    def write_all(self, out: Any) -> None:
        """Send *out*. Blocks; raises EOFError if the connection ended, and TimeoutError at ``write_until``."""
        rest: Any = memoryview(out) if self._is_stream else out
        while len(rest):
            if self.closed:
                raise EOFError
            try:
                count = self._sock.send(rest)
            except TimeoutError:
                if self.write_until is not None and time.monotonic() >= self.write_until:
                    raise
                # The reader may be waiting for this thread, so it cannot check.
                if self.keepalive.expired(time.monotonic()):
                    self.on_keepalive(KeepaliveAction.GIVE_UP)
                continue
            except OSError as error:
                self.write_failed = True
                raise EOFError(str(error)) from None
            if not count:
                raise EOFError
            self.bytes_sent += count
            rest = rest[count:]
