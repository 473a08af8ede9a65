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
* **No thread is needed to read** while a connection has little to do: shared_reader.py.

One thread reads (the transport's); any thread writes: packets/outbound.py.
"""

from __future__ import annotations

import contextlib
import os
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

from pmitogen.transport.paramiko_ext.inbound_budget import ReadingTime, UselessMessages
from pmitogen.transport.paramiko_ext.keepalive import KeepaliveAction, KeepaliveTimer
from pmitogen.transport.paramiko_ext.packets.ciphers import MIN_PADDING
from pmitogen.transport.paramiko_ext.packets.outbound import OutboundPackets
from pmitogen.transport.pipe_stream import PipeStream
from pmitogen.util.overrides import require_methods

READ_SIZE = 64 * 1024  # bytes; two of OpenSSH's packets: the buffer of a connection with a lot to read
IDLE_READ_SIZE = 4 * 1024  # bytes; the buffer of every other connection
MAX_PACKET = 256 << 10  # bytes in a packet's length field; OpenSSH's PACKET_MAX_SIZE
MIN_PACKET = 1 + MIN_PADDING  # bytes
MAX_RECV_TIMEOUT = 60.0  # seconds
QUIET_AFTER = 1.0  # seconds without data after which a transfer counts as finished
# sshd leaves Nagle's algorithm on until a session begins: its second small packet waits for the acknowledgement of its first.
# The kernel delays that by 40 ms by default, so TCP_QUICKACK is set before each read, for this many bytes of a login.
QUICKACK_BYTES = 16 << 10
KEX_METHOD_MESSAGES = range(30, 50)  # numbers that belong to the key exchange method (RFC 4250)


class InvalidLength(SSHException):
    """A packet whose length no packet can have."""


class QuietException(Exception):
    """Nothing has arrived for a time, and no packet is half read."""


class FastPacketizer(OutboundPackets, ReadingTime):
    """One connection's packets. *sock* is a socket, a program's PipeStream, or a channel of another connection."""

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self._sock = sock
        self._is_stream = isinstance(sock, (socket.socket, PipeStream))  # not a channel
        self._scratch: memoryview | None = None
        self._is_bulk = False  # a read has filled its buffer
        self._length: int | None = None  # of the first packet in the inbox
        self._closed = False
        self._closing = threading.Event()
        self._inbox = bytearray()
        self._recv_timeout: float | None = None  # the socket's timeout as it was last set here
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
        self.limit_writes(self._handshake_deadline)

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

    def read_message(self, until: float | None = None) -> tuple[int, Message]:
        """Return the next message of a known type: its number and its fields. Raises TimeoutError at *until*."""
        while True:
            sequence = self._sequence_in
            message_type, fields = self._read_packet(until)
            message = self.message_of(sequence, message_type, fields)
            if message is not None:
                return message_type, message

    def message_of(self, sequence: int, message_type: int, fields: bytes) -> Message | None:
        """Return the message of a packet; None if its type is unknown, which the server is told."""
        if message_type in (MSG_IGNORE, MSG_UNIMPLEMENTED):
            self.useless.count(MSG_NAMES[message_type], time.monotonic(), len(fields))
        elif message_type not in MSG_NAMES and message_type not in KEX_METHOD_MESSAGES:
            if not message_type or self.in_kex():
                raise SSHException(f"the server sent an unexpected message (number {message_type})")
            self.useless.count(f"number {message_type}", time.monotonic(), len(fields))
            self.on_unknown(sequence)
            return None
        message = Message(fields)
        message.seqno = sequence
        return message

    def _read_packet(self, until: float | None = None) -> tuple[int, bytes]:
        """Read one packet, decrypt and decompress it, and return its message's number and fields.

        Raises SSHException, EOFError, NeedRekeyException, and TimeoutError at *until*; a later call reads on.
        """
        opener = self._opener
        while (length := self._packet_length()) is None:
            self._receive(until, not self._inbox)
        if not MIN_PACKET <= length <= MAX_PACKET or (4 - opener.uncounted + length) % opener.block_size:
            raise InvalidLength(f"the server sent a packet of an invalid length ({length})")
        total = 4 + length + opener.tag_size
        while len(self._inbox) < total:
            self._receive(until)
        with memoryview(self._inbox) as view:
            plaintext = opener.open(self._sequence_in, view[:total])
        self._remove(total)
        self._length = None
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
            if sleep := self.account(now):
                self._closing.wait(sleep)
            self._set_recv_timeout(now, until)
            try:
                count = self._recv()
            except TimeoutError:
                # Only now: had the peer sent anything while this thread was busy, it would have been there to read.
                action = self.keepalive.next_action(time.monotonic())
                if action is not KeepaliveAction.WAIT:
                    self.on_keepalive(action)
                self._set_bulk(False)
                if check_rekey and self._handshake_deadline is None:
                    raise QuietException from None
                continue
            except OSError:
                if self.closed:
                    raise EOFError from None
                raise
            self.bytes_received += count
            return

    # Reading on a shared thread (shared_reader.py) --------------------------------------------------------------------------

    def release_buffer(self) -> None:
        """Free the buffer of the thread, which reads no more."""
        self._scratch = None

    @property
    def is_quiet(self) -> bool:
        """True if no thread has to read at the moment: no packet, transfer or pause is under way."""
        return not (self._is_bulk or self.is_throttled or self.has_packet)

    def receive_available(self, buffer: memoryview) -> None:
        """Add the bytes that have arrived to the inbox, at most as many as the buffer takes. Does not wait. Raises EOFError."""
        if self._closed:
            raise EOFError
        try:
            count = os.readv(self._sock.fileno(), (buffer,))
        except BlockingIOError:
            return
        if not count:
            raise EOFError
        self.bytes_received += count
        self._append(buffer[:count])
        self._is_bulk = count == len(buffer)
        if self.bytes_received < QUICKACK_BYTES:
            self._acknowledge_at_once()

    def take_packet(self) -> tuple[int, int, bytes] | None:
        """Return sequence number, type and fields of the next message, if all of it has arrived."""
        if not self.has_packet:
            return None
        sequence = self._sequence_in
        return (sequence, *self._read_packet())

    @property
    def has_packet(self) -> bool:
        """True if a whole packet, or an invalid length, is in the inbox."""
        length = self._packet_length()
        return length is not None and (length > MAX_PACKET or len(self._inbox) >= 4 + length + self._opener.tag_size)

    def has_input(self) -> bool:
        """Return whether a packet, or data that may be one, has arrived. Does not wait. Raises EOFError after :meth:`close`."""
        if self.has_packet:
            return True
        try:
            if not isinstance(self._sock, socket.socket):
                return bool(self._sock.recv_ready())
            poller = select.poll()
            poller.register(self._sock, select.POLLIN)
            return bool(poller.poll(0))
        except (OSError, ValueError):  # closed by another thread
            raise EOFError from None

    def _packet_length(self) -> int | None:
        """Return the length field of the first packet in the inbox; None if it has not arrived.

        It is decrypted once: some ciphers cannot do it again.
        """
        opener = self._opener
        if self._length is None and len(self._inbox) >= opener.head_size:
            with memoryview(self._inbox) as view:
                self._length = opener.length(self._sequence_in, view[: opener.head_size])
        return self._length

    def wait_for_data(self) -> None:
        """Wait for data, or until a timer is due, and do what it asks for. Raises as :meth:`read_message`."""
        with contextlib.suppress(QuietException, NeedRekeyException):
            self._receive(None, True)

    def next_deadline(self, now: float) -> float | None:
        """Return when :meth:`wait_for_data` has something to do, in ``time.monotonic()`` seconds; None: only if data arrives."""
        quiet = self.keepalive.seconds_until_action(now)
        times = (self._rekey_at, self.next_timer, None if quiet is None else now + quiet)
        return min((moment for moment in times if moment is not None), default=None)

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
        if self._is_stream:
            if self.bytes_received < QUICKACK_BYTES:
                self._acknowledge_at_once()
            if self._scratch is None:
                self._scratch = memoryview(bytearray(READ_SIZE if self._is_bulk else IDLE_READ_SIZE))
            count = int(self._sock.recv_into(self._scratch))
            self._append(self._scratch[:count])
            if count == len(self._scratch):
                self._set_bulk(True)
        else:
            chunk = self._sock.recv(READ_SIZE)
            count = len(chunk)
            self._append(chunk)
        if not count:
            raise EOFError
        return count

    def _set_bulk(self, is_bulk: bool) -> None:
        if self._is_bulk != is_bulk:
            self._is_bulk, self._scratch = is_bulk, None

    def _acknowledge_at_once(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # a program's stream has no options, nor macOS this one
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _set_recv_timeout(self, now: float, until: float | None) -> None:
        ends = [QUIET_AFTER if self._is_bulk else MAX_RECV_TIMEOUT]
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
        if not self._is_stream:
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
