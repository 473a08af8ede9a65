"""Key revocation lists in OpenSSH's binary form (ssh-keygen -k), as RevokedHostKeys may name them.

Missing upstream (Paramiko 5.1): it knows no revocation at all; it is fixed when ``Transport`` takes a list of revoked keys.

Source: OpenSSH PROTOCOL.krl. As in ssh, a list with truncated or trailing data, an unknown section or an unknown critical
extension is refused as a whole, because half a list would let revoked keys pass. Signed lists are refused too: signatures
cannot be verified here. A parsed list is cached until its file changes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import struct
import threading
from collections.abc import Callable

from pmitogen.transport.keys import public_key
from pmitogen.transport.keys.certificate import Certificate
from pmitogen.transport.keys.wire import DecodeError, PacketReader, decode_strings
from pmitogen.util.peer_text import escape

MAGIC = b"SSHKRL\n\0"
VERSION = 1
MAX_FILE_SIZE = 64 << 20  # bytes of a file
MAX_BITMAP_SIZE = 2048  # bytes; what OpenSSH's own reader takes
MAX_SERIAL = 2**64 - 1
CERTIFICATES, KEYS, SHA1, SIGNATURE, SHA256, EXTENSION = 1, 2, 3, 4, 5, 255
SERIALS, SERIAL_RANGE, SERIAL_BITMAP, KEY_IDS, CERTIFICATE_EXTENSION = 0x20, 0x21, 0x22, 0x23, 0x39


@dataclasses.dataclass(eq=False, repr=False)
class _Revoked:
    """The revoked certificates of one authority, or of all authorities."""

    serials: set[int] = dataclasses.field(default_factory=set)
    ranges: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    bitmaps: list[tuple[int, bytes]] = dataclasses.field(default_factory=list)  # first serial; big-endian bits
    key_ids: set[bytes] = dataclasses.field(default_factory=set)

    def revocation_reason(self, certificate: Certificate) -> str | None:
        if certificate.key_id.encode("utf-8", "surrogateescape") in self.key_ids:
            return f"its key id {escape(certificate.key_id, 80)!r}"
        serial = certificate.serial
        if serial and self._has(serial):  # 0 means no serial number
            return f"its serial number {serial}"
        return None

    def _has(self, serial: int) -> bool:
        if serial in self.serials or any(low <= serial <= high for low, high in self.ranges):
            return True
        return any(_is_bit_set(bits, serial - first) for first, bits in self.bitmaps)


def _is_bit_set(bits: bytes, at: int) -> bool:
    return 0 <= at < 8 * len(bits) and bool(bits[-1 - at // 8] >> at % 8 & 1)


class RevocationList:
    """One list. Safe to share between threads."""

    def __init__(self, data: bytes) -> None:
        """Parse *data*. Raises :class:`DecodeError`."""
        self._keys: set[bytes] = set()
        self._hashes: dict[int, set[bytes]] = {SHA1: set(), SHA256: set()}
        self._by_authority: dict[bytes, _Revoked] = {}  # b"": any authority
        reader = PacketReader(data)
        _header(reader)
        while reader.left:
            self._read_section(reader.byte(), PacketReader(reader.string()))

    def revocation_reason(self, blob: bytes, certificate: Certificate | None = None) -> str | None:
        """Describe the entry that revokes the plain key *blob*, its *certificate* or its authority; None: not revoked."""
        if reason := self._key_reason(blob):
            return reason
        if certificate is None:
            return None
        for authority in (certificate.authority_blob, b""):
            revoked = self._by_authority.get(authority)
            if revoked and (reason := revoked.revocation_reason(certificate)):
                return f"the certificate by {reason}"
        reason = self._key_reason(certificate.authority_blob)
        return f"{reason} of the certificate's authority" if reason else None

    def _key_reason(self, blob: bytes) -> str | None:
        if hashlib.sha1(blob, usedforsecurity=False).digest() in self._hashes[SHA1]:
            return "the SHA1 fingerprint"
        if hashlib.sha256(blob).digest() in self._hashes[SHA256]:
            return "the SHA256 fingerprint"
        return "the key" if blob in self._keys else None

    def _read_section(self, kind: int, body: PacketReader) -> None:
        if kind == CERTIFICATES:
            self._certificates(body)
        elif kind == KEYS:
            self._keys.update(decode_strings(body.rest()))
        elif kind in self._hashes:
            self._hashes[kind].update(_hashes(body, 20 if kind == SHA1 else 32))
        elif kind == EXTENSION:
            _extension(body)
        elif kind == SIGNATURE:
            raise DecodeError("signed list: signatures are not supported; generate it without one")
        else:
            raise DecodeError(f"unknown section type {kind}")

    def _certificates(self, body: PacketReader) -> None:
        authority = body.string()
        if authority:
            public_key.blob_type(authority)
        body.string()  # reserved
        revoked = self._by_authority.setdefault(authority, _Revoked())
        while body.left:
            kind = body.byte()
            if kind not in _READERS:
                raise DecodeError(f"unknown certificate section type {kind}")
            part = PacketReader(body.string())
            _READERS[kind](part, revoked)
            part.end()


def _header(reader: PacketReader) -> None:
    if reader.take(len(MAGIC)) != MAGIC:
        raise DecodeError("bad magic number")
    version = reader.u32()
    if version != VERSION:
        raise DecodeError(f"unsupported format version {version}; use version {VERSION}")
    reader.take(3 * 8)  # the list's own version, its date, and flags of which there are none yet
    reader.string()  # reserved
    reader.string()  # a comment


def _hashes(body: PacketReader, size: int) -> list[bytes]:
    hashes = decode_strings(body.rest())
    if any(len(digest) != size for digest in hashes):
        raise DecodeError(f"invalid fingerprint: not {size} bytes")
    return hashes


def _extension(body: PacketReader) -> None:
    name, critical = body.text(), body.byte()
    body.string()
    body.end()
    if critical:
        raise DecodeError(f"unsupported critical extension {name!r}")


def _serials(part: PacketReader, revoked: _Revoked) -> None:
    raw = part.take(part.left)
    if len(raw) % 8:
        raise DecodeError("truncated list of serial numbers")
    serials = {serial for (serial,) in struct.iter_unpack(">Q", raw)}
    if 0 in serials:
        raise DecodeError("invalid serial number 0")
    revoked.serials |= serials


def _range(part: PacketReader, revoked: _Revoked) -> None:
    low, high = part.u64(), part.u64()
    if not 0 < low <= high:
        raise DecodeError(f"invalid range of serial numbers: {low} to {high}")
    revoked.ranges.append((low, high))


def _bitmap(part: PacketReader, revoked: _Revoked) -> None:
    first, bits = part.u64(), part.string()
    if bits[:1] >= b"\x80":
        raise DecodeError("invalid bitmap: negative")
    bits = bits.lstrip(b"\0")
    if len(bits) > MAX_BITMAP_SIZE:
        raise DecodeError(f"invalid bitmap: {len(bits)} bytes, more than {MAX_BITMAP_SIZE}")
    if _is_bit_set(bits, -first) or first + int.from_bytes(bits, "big").bit_length() - 1 > MAX_SERIAL:
        raise DecodeError("invalid bitmap: exceeds the largest serial number")
    revoked.bitmaps.append((first, bits))


def _key_ids(part: PacketReader, revoked: _Revoked) -> None:
    revoked.key_ids.update(decode_strings(part.take(part.left)))


_READERS: dict[int, Callable[[PacketReader, _Revoked], None]] = {
    SERIALS: _serials,
    SERIAL_RANGE: _range,
    SERIAL_BITMAP: _bitmap,
    KEY_IDS: _key_ids,
    CERTIFICATE_EXTENSION: lambda part, _revoked: _extension(part),
}

_cache: dict[str, tuple[tuple[int, ...], RevocationList]] = {}
_cache_lock = threading.Lock()


def read(path: str, data: bytes, stat: os.stat_result) -> RevocationList:
    """Return the parsed list in *data*, the content of *path*. Parsed again only if the file has changed. Raises DecodeError."""
    signature = (stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_dev)
    with _cache_lock:
        cached = _cache.get(path)
        if cached is None or cached[0] != signature:
            cached = _cache[path] = (signature, RevocationList(data))
        return cached[1]
