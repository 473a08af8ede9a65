"""The binary packets of RFC 4253 section 6: Paramiko's Packetizer, made quick, bounded and watchful.

What it changes, and why:

* **Reading.** Upstream asks the kernel for sixteen bytes, then for the rest of the packet, and wakes ten times a second to see
  whether it was closed. Here one ``recv`` takes whatever is there, packets are cut from that buffer, and the thread sleeps
  until there is a reason to wake: data, the peer's silence (alive.py), a channel's (idle.py), a rekey that is due by time, or
  ``close``, which shuts the socket down so that the sleeper wakes at once.
* **AES-GCM**, our default (RFC 5647), is opened and sealed here with few copies. Other ciphers go through upstream's code.
* **Rekeying** follows ``RekeyLimit``: bytes and seconds.
* **Handshake limit** is a comparison, not one ``threading.Timer`` thread per connection.
* **Keepalives** are sent without waiting for the send lock: whoever holds it sends them next, so a writer that is stuck in a full
  socket cannot stop the peer's silence from being noticed.

One thread reads (the transport's); any thread writes.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidTag
from paramiko.message import Message
from paramiko.packet import NeedRekeyException, Packetizer
from paramiko.ssh_exception import SSHException

from pmitogen.transport.paramiko_ext.keepalive import Silence, Verdict

READ_SIZE = 64 * 1024  # bytes; two of OpenSSH's packets. Every connection has a buffer of this size
LONGEST_PACKET = 1 << 20  # bytes; OpenSSH stops at 256 KiB. More is garbage read as a length
LONGEST_NAP = 60.0  # seconds
# With a 128-bit block OpenSSH changes keys after 2**32 blocks (64 GiB); RFC 4344 wants it before 2**32 packets.
DEFAULT_REKEY_BYTES = 16 << 30
REKEY_PACKETS = 1 << 30
TAG = 16  # bytes of GCM tag
# sshd leaves Nagle's algorithm on until a session begins: its second small packet waits for the acknowledgement of its first,
# which the kernel delays by 40 ms unless told otherwise, again before each read. So while logging in, this many bytes long.
HASTE = 16 << 10
LENGTH = struct.Struct(">I")
FIRST_USER_MESSAGE = 80  # RFC 4250: from here on a message belongs to the connection protocol and may not be sent during a kex


class Packets(Packetizer):
    """One connection's packets. *sock* is a socket, or a channel of another connection."""

    REKEY_PACKETS = REKEY_PACKETS
    REKEY_BYTES = DEFAULT_REKEY_BYTES
    _trigger_rekey: Callable[[], None]  # upstream's; in no stub

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self._sock = sock
        self._scratch = memoryview(bytearray(READ_SIZE)) if isinstance(sock, socket.socket) else None
        self._closed = False
        self._inbox = bytearray()
        self._nap: float | None = -1.0  # the socket's timeout as we last set it
        self._sending = threading.RLock()
        self._owed: Message | None = None
        self._handshake_by: float | None = None
        self.silence = Silence(0, 1, time.monotonic())
        self.on_silence: Callable[[Verdict], None] = lambda _verdict: None
        self.look_at: float | None = None  # when to call on_look, which returns the next time; time.monotonic() seconds
        self.on_look: Callable[[float], float | None] = lambda _now: None
        self.in_kex: Callable[[], bool] = lambda: False
        self.rekey_seconds = 0
        self._rekey_at: float | None = None
        self._seal: tuple[Any, int, int] | None = None  # AES-GCM engine, fixed IV part, counter
        self._open: tuple[Any, int, int] | None = None
        self._squeeze: Callable[[bytes], bytes] | None = None
        self._expand: Callable[[bytes], bytes] | None = None
        self._sequence_in = 0
        self._fresh_in = self._fresh_out = 0  # bytes under the present keys
        self.bytes_received = self.bytes_sent = 0
        self.greeting: list[str] = []  # the lines before and with the version, which may say why we are turned away

    # Keys ---------------------------------------------------------------------------------------------------------------

    def set_outbound_cipher(self, block_engine: Any, *args: Any, **kwargs: Any) -> None:
        """New keys for what we send (transport thread, after our NEWKEYS)."""
        super().set_outbound_cipher(block_engine, *args, **kwargs)
        self._seal = _gcm(block_engine, kwargs.get("iv_out")) if kwargs.get("aead") else None
        self._fresh_out = 0

    def set_inbound_cipher(self, block_engine: Any, *args: Any, **kwargs: Any) -> None:
        """New keys for what we receive (transport thread, on the peer's NEWKEYS)."""
        super().set_inbound_cipher(block_engine, *args, **kwargs)
        self._open = _gcm(block_engine, kwargs.get("iv_in")) if kwargs.get("aead") else None
        self._fresh_in = 0
        self._rekey_at = time.monotonic() + self.rekey_seconds if self.rekey_seconds else None

    def set_outbound_compressor(self, compressor: Any) -> None:
        super().set_outbound_compressor(compressor)
        self._squeeze = compressor

    def set_inbound_compressor(self, compressor: Any) -> None:
        super().set_inbound_compressor(compressor)
        self._expand = compressor

    def reset_seqno_in(self) -> None:
        super().reset_seqno_in()
        self._sequence_in = 0

    def set_rekey_limit(self, limit: int, seconds: int) -> None:
        """RekeyLimit: *limit* bytes either way, *seconds* since the last change; 0 means our default, and never."""
        self.REKEY_BYTES = limit or DEFAULT_REKEY_BYTES
        self.rekey_seconds = seconds

    def need_rekey(self) -> bool:
        """Whether new keys are due, by volume or by time. Any thread."""
        if self._rekey_at is not None and time.monotonic() >= self._rekey_at:
            self._rekey_at = None
            self._trigger_rekey()
        return bool(super().need_rekey())

    # The handshake's limit ----------------------------------------------------------------------------------------------

    def start_handshake(self, timeout: float) -> None:
        """The handshake must be through in *timeout* seconds."""
        self._handshake_by = time.monotonic() + timeout

    def handshake_timed_out(self) -> bool:
        return self._handshake_by is not None and time.monotonic() >= self._handshake_by

    def complete_handshake(self) -> None:
        self._handshake_by = None

    # Reading (transport thread) -----------------------------------------------------------------------------------------

    def readline(self, timeout: float) -> str:
        """One line of the version exchange, without its end. Raises ``TimeoutError`` after *timeout* seconds."""
        until = time.monotonic() + timeout
        while (end := self._inbox.find(b"\n")) < 0:
            if len(self._inbox) > LONGEST_PACKET:
                raise SSHException("a line without end")
            self._receive(until)
        line = bytes(self._inbox[:end])
        del self._inbox[: end + 1]
        words = line.rstrip(b"\r").decode("utf-8", "replace")
        self.greeting.append(words)
        return words

    def read_all(self, n: int, check_rekey: bool = False) -> bytes:
        """The next *n* bytes; EOFError if the connection ends before."""
        while len(self._inbox) < n:
            self._receive(None, check_rekey and not self._inbox)
        with memoryview(self._inbox) as view:
            out = view[:n].tobytes()
        del self._inbox[:n]
        return out

    def read_message(self) -> tuple[int, Message]:
        """The next message: its number, and its fields."""
        if self._open is None:
            number, message = super().read_message()
            self._sequence_in = message.seqno + 1
            return number, message
        plain = self._read_sealed()
        if self._expand is None:
            number, message = plain[1], Message(plain[2 : len(plain) - plain[0]])
        else:
            payload = self._expand(plain[1 : len(plain) - plain[0]])
            number, message = payload[0], Message(payload[1:])
        message.seqno = self._sequence_in
        self._sequence_in = (self._sequence_in + 1) & 0xFFFFFFFF
        return number, message

    def _read_sealed(self) -> bytes:
        assert self._open is not None
        while len(self._inbox) < LENGTH.size:
            self._receive(None, not self._inbox)
        (length,) = LENGTH.unpack_from(self._inbox)
        if length > LONGEST_PACKET:
            raise SSHException(f"a packet of {length} bytes")
        total = LENGTH.size + length + TAG
        while len(self._inbox) < total:
            self._receive(None)
        engine, fixed, counter = self._open
        with memoryview(self._inbox) as view:
            try:
                plain: bytes = engine.decrypt(_iv(fixed, counter), view[4:total], view[:4])
            except InvalidTag:
                raise SSHException("Mismatched MAC") from None
        del self._inbox[:total]
        self._open = engine, fixed, counter + 1
        self._fresh_in += total
        if self._fresh_in >= self.REKEY_BYTES and not super().need_rekey():
            self._trigger_rekey()
        return plain

    def _receive(self, until: float | None, check_rekey: bool = False) -> None:
        """Wait for bytes and put them in the inbox; look after the clocks meanwhile."""
        while True:
            now = time.monotonic()
            if self.closed or self.handshake_timed_out():
                raise EOFError
            if until is not None and now >= until:
                raise TimeoutError
            if self.look_at is not None and now >= self.look_at:
                self.look_at = self.on_look(now)
            if check_rekey and self.need_rekey() and not self.in_kex():
                raise NeedRekeyException  # the transport begins one and comes back
            self._set_nap(now, until)
            try:
                count = self._recv()
            except TimeoutError:
                # Only now: had the peer spoken while this thread was busy, its words would have been there to read.
                verdict = self.silence.judge(time.monotonic())
                if verdict is not Verdict.WAIT:
                    self.on_silence(verdict)
                continue
            except OSError:
                if self.closed:
                    raise EOFError from None
                raise
            self.bytes_received += count
            self.silence.heard(time.monotonic())
            return

    def _recv(self) -> int:
        if self._scratch is not None:
            if self.bytes_received < HASTE:
                self._acknowledge_at_once()
            count = int(self._sock.recv_into(self._scratch))
            self._inbox += self._scratch[:count]
        else:
            chunk = self._sock.recv(READ_SIZE)
            count = len(chunk)
            self._inbox += chunk
        if not count:
            raise EOFError
        return count

    def _acknowledge_at_once(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # a socket pair has no such option, nor has macOS
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _set_nap(self, now: float, until: float | None) -> None:
        ends = [LONGEST_NAP]
        for moment in (until, self._handshake_by, self._rekey_at, self.look_at):
            if moment is not None:
                ends.append(moment - now)
        look = self.silence.next_look(now)
        if look is not None:
            ends.append(look)
        nap = max(0.001, min(ends))
        # Setting a timeout costs more than leaving one that is about right.
        if self._nap is None or not nap <= self._nap <= nap * 1.01 + 0.001:
            self._nap = nap
            self._sock.settimeout(nap)

    # Writing (any thread) -----------------------------------------------------------------------------------------------

    def send_message(self, data: Message) -> None:
        """Encrypt and send. Blocks while the socket is full; EOFError if the connection ended."""
        with self._sending:
            payload = data.asbytes()
            if self._seal is None:
                super().send_message(data)
            else:
                self._send_sealed(payload)
            if self._owed is not None and payload[0] >= FIRST_USER_MESSAGE:
                owed, self._owed = self._owed, None
                self.send_message(owed)

    def send_soon(self, data: Message) -> None:
        """Send now if nobody else is sending, else have the present sender do it: never waits for the lock."""
        if self._sending.acquire(blocking=False):
            try:
                self.send_message(data)
            finally:
                self._sending.release()
        else:
            self._owed = data

    def _send_sealed(self, payload: bytes) -> None:
        assert self._seal is not None
        if self._squeeze is not None:
            payload = self._squeeze(payload)
        padding = 19 - (len(payload) + 4) % 16  # at least four bytes, to a whole number of blocks
        plain = b"".join((bytes((padding,)), payload, os.urandom(padding)))
        head = LENGTH.pack(len(plain))
        engine, fixed, counter = self._seal
        self.write_all(head + engine.encrypt(_iv(fixed, counter), plain, head))
        self._seal = engine, fixed, counter + 1
        self._fresh_out += len(plain) + LENGTH.size + TAG
        if self._fresh_out >= self.REKEY_BYTES and not super().need_rekey():
            self._trigger_rekey()

    def write_all(self, out: Any) -> None:
        rest: Any = memoryview(out) if self._scratch is not None else out
        while len(rest):
            if self.closed:
                raise EOFError
            try:
                count = self._sock.send(rest)
            except TimeoutError:
                # The reader may be waiting for us, and then nobody else looks.
                if self.silence.over(time.monotonic()):
                    self.on_silence(Verdict.DEAD)
                continue
            except OSError as error:
                raise EOFError(str(error)) from None
            if not count:
                raise EOFError
            self.bytes_sent += count
            rest = rest[count:]

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed

    def close(self) -> None:
        """End the connection and wake whoever reads or writes. Any thread; idempotent.

        A socket is shut down, not closed: its number could be another connection's before the reader looks at it again. The
        transport's thread closes it when it has done reading.
        """
        if self._closed:
            return
        self._closed = True
        if self._scratch is None:
            self._sock.close()
        else:
            with contextlib.suppress(OSError):  # never connected, or gone already
                self._sock.shutdown(socket.SHUT_RDWR)


def _gcm(engine: Any, iv: bytes | None) -> tuple[Any, int, int]:
    assert iv is not None
    return engine, int.from_bytes(iv[:4], "big") << 64, int.from_bytes(iv[4:], "big")


def _iv(fixed: int, counter: int) -> bytes:
    """RFC 5647 section 7.1: four fixed bytes, then a 64-bit invocation counter."""
    return (fixed | (counter & 0xFFFFFFFFFFFFFFFF)).to_bytes(12, "big")
