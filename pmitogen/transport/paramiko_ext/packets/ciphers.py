"""Protection of single packets: what encrypts and authenticates them, one object for each direction and set of keys.

An :class:`Opener` checks and decrypts received packets, a :class:`Sealer` encrypts packets to send. They hold keys and
counters and do no I/O. RFC 4253 section 6 has the packet, RFC 5647 AES-GCM, OpenSSH's PROTOCOL the ``-etm`` MACs and
``chacha20-poly1305@openssh.com``.

Upstream's Packetizer does the same inside ``send_message`` and ``read_message``. It uses a length before it is
checked, so a server can make the client collect gigabytes, even before a key exchange.
"""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Callable
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from paramiko.ssh_exception import SSHException

from pmitogen.transport.keys.chacha20_poly1305 import ChaCha20Poly1305

LENGTH = struct.Struct(">I")
MIN_PADDING = 4  # bytes
AEAD_TAG = 16  # bytes, of AES-GCM and of Poly1305
UNENCRYPTED_BLOCK = 8  # bytes, while nothing is encrypted


class CorruptedMAC(SSHException):
    """A packet was changed on the way."""

    def __init__(self) -> None:
        super().__init__("corrupted MAC on input: a packet from the server was changed on the way")


class Opener(Protocol):
    """Opens the packets of one direction.

    *head_size*: bytes of a packet that must be there before :meth:`length`.
    *tag_size*: bytes of authentication behind a packet.
    *block_size*: divides a packet's length, counted from its *uncounted*-th byte on.
    """

    head_size: int
    tag_size: int
    block_size: int
    uncounted: int

    def length(self, sequence: int, head: memoryview) -> int:
        """Return the length field of the packet that begins with *head*. Called once for each packet."""

    def open(self, sequence: int, packet: memoryview) -> bytes:
        """Return the padding length, the payload and the padding of *packet*, which is whole, its tag included.

        Raises SSHException if the packet is not authentic.
        """


class Sealer(Protocol):
    """Protects the packets of one direction."""

    def seal(self, sequence: int, payload: bytes) -> bytes:
        """Return the packet number *sequence* that carries *payload*."""


class Unencrypted:
    """No protection: before the first key exchange."""

    head_size, tag_size, block_size, uncounted = 4, 0, UNENCRYPTED_BLOCK, 0

    def length(self, sequence: int, head: memoryview) -> int:
        return int(LENGTH.unpack(head)[0])

    def open(self, sequence: int, packet: memoryview) -> bytes:
        return bytes(packet[4:])

    def seal(self, sequence: int, payload: bytes) -> bytes:
        padding = _padding(4 + len(payload), UNENCRYPTED_BLOCK)
        return LENGTH.pack(1 + len(payload) + padding) + bytes((padding,)) + payload + bytes(padding)


class Gcm:
    """AES-GCM (RFC 5647): the length is sent in clear, and authenticated. *iv*: four fixed bytes, then a 64-bit counter."""

    head_size, tag_size, block_size, uncounted = 4, AEAD_TAG, 16, 4

    def __init__(self, engine: Any, iv: bytes) -> None:
        self._engine = engine
        self._fixed = int.from_bytes(iv[:4], "big") << 64
        self._counter = int.from_bytes(iv[4:], "big")

    def _next_iv(self) -> bytes:
        iv = (self._fixed | self._counter).to_bytes(12, "big")
        self._counter = (self._counter + 1) & 0xFFFFFFFFFFFFFFFF
        return iv

    def length(self, sequence: int, head: memoryview) -> int:
        return int(LENGTH.unpack(head)[0])

    def open(self, sequence: int, packet: memoryview) -> bytes:
        try:
            plaintext: bytes = self._engine.decrypt(self._next_iv(), packet[4:], packet[:4])
        except InvalidTag:
            raise CorruptedMAC from None
        return plaintext

    def seal(self, sequence: int, payload: bytes) -> bytes:
        padding = _padding(len(payload), 16)
        plaintext = b"".join((bytes((padding,)), payload, os.urandom(padding)))
        head = LENGTH.pack(len(plaintext))
        return head + bytes(self._engine.encrypt(self._next_iv(), plaintext, head))


class ChaChaPoly:
    """``chacha20-poly1305@openssh.com``: the length is encrypted too, under a key of its own; sequence numbers are nonces."""

    head_size, tag_size, block_size, uncounted = 4, AEAD_TAG, 8, 4

    def __init__(self, engine: ChaCha20Poly1305) -> None:
        self._engine = engine

    def length(self, sequence: int, head: memoryview) -> int:
        return int(LENGTH.unpack(self._engine.crypt_head(sequence, head))[0])

    def open(self, sequence: int, packet: memoryview) -> bytes:
        plaintext = self._engine.open(sequence, packet[:4], packet[4:-AEAD_TAG], packet[-AEAD_TAG:])
        if plaintext is None:
            raise CorruptedMAC
        return plaintext

    def seal(self, sequence: int, payload: bytes) -> bytes:
        padding = _padding(len(payload), 8)
        plaintext = b"".join((bytes((padding,)), payload, os.urandom(padding)))
        return self._engine.seal(sequence, LENGTH.pack(len(plaintext)), plaintext)


class _WithMac:
    """A cipher in CTR or CBC mode, and an HMAC of the sequence number and the packet."""

    def __init__(self, engine: Any, block_size: int, mac: Callable[[], Any], mac_key: bytes, mac_size: int) -> None:
        self._engine = engine
        self.block_size = block_size
        self.tag_size = mac_size
        self._mac_name = str(mac().name)
        self._mac_key = mac_key

    def _tag(self, sequence: int, data: bytes | memoryview) -> bytes:
        authenticated = b"".join((LENGTH.pack(sequence), data))
        return hmac.digest(self._mac_key, authenticated, self._mac_name)[: self.tag_size]

    def _check(self, sequence: int, data: bytes | memoryview, tag: memoryview) -> None:
        if not hmac.compare_digest(self._tag(sequence, data), tag):
            raise CorruptedMAC


class EncryptThenMac(_WithMac):
    """An ``-etm`` MAC, over the encrypted bytes and the length, which is sent in clear."""

    head_size, uncounted = 4, 4

    def length(self, sequence: int, head: memoryview) -> int:
        return int(LENGTH.unpack(head)[0])

    def open(self, sequence: int, packet: memoryview) -> bytes:
        end = len(packet) - self.tag_size
        self._check(sequence, packet[:end], packet[end:])
        return bytes(self._engine.update(packet[4:end]))

    def seal(self, sequence: int, payload: bytes) -> bytes:
        padding = _padding(len(payload), self.block_size)
        plaintext = b"".join((bytes((padding,)), payload, os.urandom(padding)))
        sealed = LENGTH.pack(len(plaintext)) + bytes(self._engine.update(plaintext))
        return sealed + self._tag(sequence, sealed)


class EncryptAndMac(_WithMac):
    """The MAC of RFC 4253: of the packet before it is encrypted, its length included."""

    uncounted = 0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.head_size = self.block_size
        self._first = b""  # the decrypted first block of the current packet

    def length(self, sequence: int, head: memoryview) -> int:
        self._first = bytes(self._engine.update(head))
        return int(LENGTH.unpack_from(self._first)[0])

    def open(self, sequence: int, packet: memoryview) -> bytes:
        end = len(packet) - self.tag_size
        plaintext = self._first + bytes(self._engine.update(packet[self.head_size : end]))
        self._check(sequence, plaintext, packet[end:])
        return plaintext[4:]

    def seal(self, sequence: int, payload: bytes) -> bytes:
        padding = _padding(4 + len(payload), self.block_size)
        plaintext = b"".join((LENGTH.pack(1 + len(payload) + padding), bytes((padding,)), payload, os.urandom(padding)))
        return bytes(self._engine.update(plaintext)) + self._tag(sequence, plaintext)


def _padding(format_count: int, block: int) -> int:
    """Return the number of padding bytes after *counted* bytes and the padding length byte, up to whole blocks."""
    padding = block - (format_count + 1) % block
    return padding if padding >= MIN_PADDING else padding + block


def protection(
    engine: Any, block_size: int, mac: Any, mac_size: int, mac_key: Any, etm: bool, iv: bytes | None
) -> Gcm | ChaChaPoly | EncryptThenMac | EncryptAndMac:
    """Return an object that opens and seals packets with these keys; arguments as of upstream's ``set_inbound_cipher``."""
    if isinstance(engine, ChaCha20Poly1305):
        return ChaChaPoly(engine)
    if iv is not None:
        return Gcm(engine, iv)
    kind = EncryptThenMac if etm else EncryptAndMac
    return kind(engine, block_size, mac, mac_key, mac_size)
