"""The data types of RFC 4251 section 5 that keys, certificates, agents and SFTP use.

Paramiko's ``Message`` returns zero bytes after the end of a message. A server's certificate or a file must not be trusted that
far, so this reader raises an error instead.
"""

from __future__ import annotations

import struct


class DecodeError(ValueError):
    """The bytes do not encode the expected type."""


class PacketReader:
    """Reads the fields of one message in order. Every method raises :class:`DecodeError` if the message is too short."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset = 0

    def take(self, count: int) -> bytes:
        """Read *count* raw bytes."""
        end = self.offset + count
        if end > len(self.data):
            raise DecodeError(
                f"message truncated: {count} bytes expected at offset {self.offset}, {len(self.data) - self.offset} left"
            )
        piece = self.data[self.offset : end]
        self.offset = end
        return piece

    def byte(self) -> int:
        """Read a byte, as a number."""
        return self.take(1)[0]

    def u32(self) -> int:
        """Read a uint32."""
        return int.from_bytes(self.take(4), "big")

    def u64(self) -> int:
        """Read a uint64."""
        return int.from_bytes(self.take(8), "big")

    def string(self) -> bytes:
        """Read a length-prefixed string."""
        return self.take(self.u32())

    def text(self) -> str:
        """Read a string that must be UTF-8."""
        try:
            return self.string().decode("utf-8")
        except UnicodeDecodeError as error:
            raise DecodeError("invalid UTF-8 in a string") from error

    @property
    def left(self) -> int:
        """The number of bytes that are not consumed yet."""
        return len(self.data) - self.offset

    def rest(self) -> bytes:
        """Return all that is left, without consuming it."""
        return self.data[self.offset :]

    def end(self) -> None:
        """Raise unless everything has been consumed."""
        if self.offset != len(self.data):
            raise DecodeError(f"{len(self.data) - self.offset} bytes of trailing data")


def encode_string(value: bytes | str) -> bytes:
    """Encode *value* as a string (RFC 4251 section 5); text as UTF-8, with the bytes that ``surrogateescape`` represents."""
    raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    return struct.pack(">I", len(raw)) + raw


def encode_u32(value: int) -> bytes:
    """Encode a uint32."""
    return value.to_bytes(4, "big")


def encode_mpint(value: int) -> bytes:
    """Encode a non-negative integer as an mpint (RFC 4251 section 5)."""
    return encode_string(value.to_bytes(value.bit_length() // 8 + 1, "big") if value else b"")


def decode_strings(data: bytes) -> list[bytes]:
    """Decode a message that consists of strings only."""
    reader = PacketReader(data)
    strings = []
    while reader.offset < len(data):
        strings.append(reader.string())
    return strings
