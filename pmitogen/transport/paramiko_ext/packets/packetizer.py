"""The binary packets of RFC 4253 section 6: Paramiko's Packetizer with limits, timers and less overhead.

Changes to upstream's, with their reasons:

* **Reading.** Upstream asks the kernel for sixteen bytes, then for the rest of the packet, and wakes ten times a second to see
  whether it was closed. Here one ``recv`` reads all available data, packets are cut from that buffer, and the thread sleeps
  until there is a reason to wake: data, the peer's silence (keepalive.py), a channel's (idle_timeout.py), a rekey that is due by
  time, or ``close``, which shuts the socket down so that the sleeper wakes at once.
* **Limits.** Every length is checked against OpenSSH's limits before anything is collected, before the first key exchange too.
  version_exchange.py limits the lines before the version, packets/inflate.py the decompressed data, and inbound_budget.py the
  processor time of the reading thread.
* **Ciphers** are packets/ciphers.py's, with few copies: AES-GCM, which is our default, takes a third of upstream's time.
* **Rekeying** follows ``RekeyLimit``: see packets/cipher_keys.py.
* **Handshake limit** is a comparison, not one ``threading.Timer`` thread per connection.
* **Keepalives** are sent without waiting for the send lock: its holder sends them next, so a writer that is stuck in a full
  socket cannot stop the peer's silence from being noticed.

One thread reads (the transport's); any thread writes.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from paramiko.common import MSG_IGNORE, MSG_NAMES, MSG_UNIMPLEMENTED
from paramiko.message import Message
from paramiko.packet import NeedRekeyException, Packetizer
from paramiko.ssh_exception import SSHException

from pmitogen.transport.paramiko_ext.inbound_budget import ProcessorBudget, UselessMessages
from pmitogen.transport.paramiko_ext.keepalive import KeepaliveAction, KeepaliveTimer
from pmitogen.transport.paramiko_ext.packets.cipher_keys import PacketKeys
from pmitogen.transport.paramiko_ext.packets.ciphers import MIN_PADDING
from pmitogen.transport.pipe_stream import PipeStream
from pmitogen.util.overrides import require_methods

READ_SIZE = 64 * 1024  # bytes; two of OpenSSH's packets: the buffer of a connection with a lot to read
IDLE_READ_SIZE = 4 * 1024  # bytes; the buffer of every other connection
MAX_PACKET = 256 << 10  # bytes in a packet's length field; OpenSSH's PACKET_MAX_SIZE
MIN_PACKET = 1 + MIN_PADDING  # bytes
MAX_RECV_TIMEOUT = 60.0  # seconds
# sshd leaves Nagle's algorithm on until a session begins: its second small packet waits for the acknowledgement of its first.
# The kernel delays that by 40 ms by default, so TCP_QUICKACK is set before each read, for this many bytes of a login.
QUICKACK_BYTES = 16 << 10
MAX_TRIED = 1 << 10  # bytes of a message that may be sent only if that does not block
FIRST_USER_MESSAGE = 80  # RFC 4250: from here on a message belongs to the connection protocol and may not be sent during a kex
KEX_METHOD_MESSAGES = range(30, 50)  # numbers that belong to the key exchange method (RFC 4250)


class InvalidLength(SSHException):
    """A packet whose length no packet can have."""


class FastPacketizer(PacketKeys):
    """One connection's packets. *sock* is a socket, a program's PipeStream, or a channel of another connection."""

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self._sock = sock
        self._scratch = memoryview(bytearray(IDLE_READ_SIZE)) if isinstance(sock, (socket.socket, PipeStream)) else None
        self._closed = False
        self._closing = threading.Event()
        self._inbox = bytearray()
        self._recv_timeout: float | None = -1.0  # the socket's timeout as it was last set here
        self._sending = threading.RLock()
        self._queued_keepalive: Message | None = None
        self._handshake_deadline: float | None = None
        self.keepalive = KeepaliveTimer(0, 1, time.monotonic())
        self.on_keepalive: Callable[[KeepaliveAction], None] = lambda _verdict: None
        self.next_timer: float | None = None  # when to call on_look, which returns the next time; time.monotonic() seconds
        self.on_timer: Callable[[float], float | None] = lambda _now: None
        self.on_unknown: Callable[[int], None] = lambda _sequence: None  # called for a message of an unknown type
        self.in_kex: Callable[[], bool] = lambda: False
        self._compress: Callable[[bytes], bytes] | None = None
        self._decompress: Callable[[bytes], bytes] | None = None
        self.bytes_received = self.bytes_sent = 0
        self.budget: ProcessorBudget | None = None  # the reading thread's, from its first read on
        self.useless = UselessMessages(time.monotonic())

    def set_outbound_compressor(self, compressor: Any) -> None:
        super().set_outbound_compressor(compressor)
        self._compress = compressor

    def set_inbound_compressor(self, compressor: Any) -> None:
        super().set_inbound_compressor(compressor)
        self._decompress = compressor

    # The handshake's limit ----------------------------------------------------------------------------------------------

    def start_handshake(self, timeout: float) -> None:
        """Limit the handshake to *timeout* seconds."""
        self._handshake_deadline = time.monotonic() + timeout

    def handshake_timed_out(self) -> bool:
        return self._handshake_deadline is not None and time.monotonic() >= self._handshake_deadline

    def complete_handshake(self) -> None:
        """End the limit after the whole first key exchange. Paramiko calls this after the first message already."""
        if self._initial_kex_done:
            self._handshake_deadline = None

    # Reading (transport thread) -----------------------------------------------------------------------------------------

    def read_line(self, limit: int, until: float | None) -> bytes | None:
        """Read one line of the version exchange, without its line feed; None if it is longer than *limit* bytes.

        Raises TimeoutError at *until* (``time.monotonic()`` seconds), EOFError where the connection ends.
        """
        while (end := self._inbox.find(b"\n", 0, limit + 1)) < 0:
            if len(self._inbox) > limit:
                return None
            self._receive(until)
        line = bytes(self._inbox[:end])
        del self._inbox[: end + 1]
        return line

    def unread(self) -> bytes:
        """Return the data that has arrived and was not read yet."""
        return bytes(self._inbox)

    def read_message(self) -> tuple[int, Message]:
        """Return the next message of a known type: its number and its fields."""
        while True:
            sequence = self._sequence_in
            message_type, fields = self._read_packet()
            if message_type in (MSG_IGNORE, MSG_UNIMPLEMENTED):
                self.useless.count(MSG_NAMES[message_type], time.monotonic(), len(fields))
            elif message_type not in MSG_NAMES and message_type not in KEX_METHOD_MESSAGES:
                if not message_type or self.in_kex():
                    raise SSHException(f"the server sent an unexpected message (number {message_type})")
                self.useless.count(f"number {message_type}", time.monotonic(), len(fields))
                self.on_unknown(sequence)
                continue
            message = Message(fields)
            message.seqno = sequence
            return message_type, message

    def _read_packet(self) -> tuple[int, bytes]:
        """Read one packet, decrypt and decompress it, and return its message's number and fields.

        Raises SSHException, EOFError, NeedRekeyException.
        """
        opener = self._opener
        size = opener.head_size
        while len(self._inbox) < size:
            self._receive(None, not self._inbox)
        with memoryview(self._inbox) as view:
            length = opener.length(self._sequence_in, view[:size])
        if not MIN_PACKET <= length <= MAX_PACKET or (4 - opener.uncounted + length) % opener.block_size:
            raise InvalidLength(f"the server sent a packet of an invalid length ({length})")
        total = 4 + length + opener.tag_size
        while len(self._inbox) < total:
            self._receive(None)
        with memoryview(self._inbox) as view:
            plaintext = opener.open(self._sequence_in, view[:total])
        self._remove(total)
        self._count_in(total)
        self.keepalive.activity(time.monotonic())  # whole packets count, as with ssh: a wrong length may wait forever
        padding = plaintext[0]
        if padding < MIN_PADDING or padding >= length - 1:
            raise SSHException(f"the server sent a packet with invalid padding ({padding} of {length} bytes)")
        if self._decompress is None:
            return plaintext[1], plaintext[2 : length - padding]
        payload = self._decompress(plaintext[1 : length - padding])
        if not payload:
            raise SSHException("the server sent an empty packet")
        return payload[0], payload[1:]

    def _receive(self, until: float | None, check_rekey: bool = False) -> None:
        """Wait for bytes and add them to the inbox; check the timers meanwhile."""
        while True:
            now = time.monotonic()
            if self.closed or self.handshake_timed_out():
                raise EOFError
            if until is not None and now >= until:
                raise TimeoutError
            if self.next_timer is not None and now >= self.next_timer:
                self.next_timer = self.on_timer(now)
            if check_rekey and self.need_rekey() and not self.in_kex():
                raise NeedRekeyException  # the transport begins one and comes back
            self._throttle(now)
            self._set_recv_timeout(now, until)
            try:
                count = self._recv()
            except TimeoutError:
                # Only now: had the peer sent anything while this thread was busy, it would have been there to read.
                action = self.keepalive.next_action(time.monotonic())
                if action is not KeepaliveAction.WAIT:
                    self.on_keepalive(action)
                self._set_read_size(IDLE_READ_SIZE)
                continue
            except OSError:
                if self.closed:
                    raise EOFError from None
                raise
            self.bytes_received += count
            return

    def _throttle(self, now: float) -> None:
        """Sleep if this thread has used more than its share of the processor."""
        used = time.thread_time()
        if self.budget is None:
            self.budget = ProcessorBudget(now, used)
        sleep = self.budget.throttle(now, used)
        if sleep:
            self._closing.wait(sleep)

    def deliver(self, nbytes: int) -> None:
        """Account for channel data that arrived within its window. Transport thread."""
        if self.budget is not None:
            self.budget.deliver(nbytes)

    # A profiler or debugger that holds a frame of this thread holds its view of the inbox, which then cannot change its size.

    def _append(self, data: bytes | memoryview) -> None:
        try:
            self._inbox += data
        except BufferError:
            self._inbox = self._inbox + data

    def _remove(self, count: int) -> None:
        try:
            del self._inbox[:count]
        except BufferError:
            self._inbox = self._inbox[count:]

    def _recv(self) -> int:
        if self._scratch is not None:
            if self.bytes_received < QUICKACK_BYTES:
                self._acknowledge_at_once()
            count = int(self._sock.recv_into(self._scratch))
            self._append(self._scratch[:count])
            if count == len(self._scratch):
                self._set_read_size(READ_SIZE)
        else:
            chunk = self._sock.recv(READ_SIZE)
            count = len(chunk)
            self._append(chunk)
        if not count:
            raise EOFError
        return count

    def _set_read_size(self, size: int) -> None:
        if self._scratch is not None and len(self._scratch) != size:
            self._scratch = memoryview(bytearray(size))

    def _acknowledge_at_once(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # a program's stream has no options, nor macOS this one
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _set_recv_timeout(self, now: float, until: float | None) -> None:
        ends = [MAX_RECV_TIMEOUT]
        for moment in (until, self._handshake_deadline, self._rekey_at, self.next_timer):
            if moment is not None:
                ends.append(moment - now)
        look = self.keepalive.seconds_until_action(now)
        if look is not None:
            ends.append(look)
        timeout = max(0.001, min(ends))
        # Setting a timeout costs more than leaving one that is about right.
        if self._recv_timeout is None or not timeout <= self._recv_timeout <= timeout * 1.01 + 0.001:
            self._recv_timeout = timeout
            self._sock.settimeout(timeout)

    # Writing (any thread) -----------------------------------------------------------------------------------------------

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

    def try_send(self, payload: bytes) -> bool:
        """Send a short message that needs no answer, unless another thread sends, or the socket is nearly full."""
        if len(payload) > MAX_TRIED or self._closed or not self._sending.acquire(blocking=False):
            return False
        try:
            if self._queued_keepalive is not None or not self._has_room():
                return False
            self._send_payload(payload)
            return True
        finally:
            self._sending.release()

    def _has_room(self) -> bool:
        """Return whether the socket takes MAX_TRIED bytes at once: it is writable while a good part of its buffer is free."""
        if self._scratch is None:  # a channel of a jump host, whose window may be closed
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

    def write_all(self, out: Any) -> None:
        rest: Any = memoryview(out) if self._scratch is not None else out
        while len(rest):
            if self.closed:
                raise EOFError
            try:
                count = self._sock.send(rest)
            except TimeoutError:
                # The reader may be waiting for this thread, so it cannot check.
                if self.keepalive.expired(time.monotonic()):
                    self.on_keepalive(KeepaliveAction.GIVE_UP)
                continue
            except OSError as error:
                raise EOFError(str(error)) from None
            if not count:
                raise EOFError
            self.bytes_sent += count
            rest = rest[count:]

    @property
    def closed(self) -> bool:
        """True after :meth:`close`."""
        return self._closed

    def close(self) -> None:
        """End the connection and wake the threads that read or write. Any thread; idempotent.

        A socket is shut down, not closed: its number could be another connection's before the reader looks at it again. The
        transport's thread closes it when it has done reading.
        """
        if self._closed:
            return
        self._closed = True
        self._closing.set()
        if self._scratch is None:
            self._sock.close()
        else:
            with contextlib.suppress(OSError):  # never connected, or closed already
                self._sock.shutdown(socket.SHUT_RDWR)


require_methods(
    Packetizer,
    "set_outbound_compressor(self, compressor)",
    "set_inbound_compressor(self, compressor)",
    "start_handshake(self, timeout)",
    "handshake_timed_out(self)",
    "complete_handshake(self)",
    "read_message(self)",
    "send_message(self, data)",
    "write_all(self, out)",
    "close(self)",
)
