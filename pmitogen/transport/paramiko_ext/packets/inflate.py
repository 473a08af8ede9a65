"""Decompression with a limit: a packet of 600 bytes can otherwise become gigabytes.

Missing upstream: ``ZlibDecompressor`` has no limit. Upstream is fixed when ``Transport`` limits a decompressed packet.
"""

from __future__ import annotations

import zlib

from paramiko.ssh_exception import SSHException

MAX_UNPACKED = 256 << 10  # bytes of one packet's payload; OpenSSH's PACKET_MAX_SIZE


class Decompressor:
    """Decompressor of one direction's stream. Replaces ``ZlibDecompressor`` of Paramiko."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj()

    def __call__(self, data: bytes) -> bytes:
        """Unpack one payload. Raises SSHException if it is broken, or larger than :data:`MAX_UNPACKED`."""
        try:
            inflated = self._stream.decompress(data, MAX_UNPACKED)
        except zlib.error:
            raise SSHException("the server sent a packet that cannot be decompressed") from None
        if len(inflated) >= MAX_UNPACKED or self._stream.unconsumed_tail or self._stream.eof:
            raise SSHException(f"the server sent a packet of more than {MAX_UNPACKED} decompressed bytes")
        return inflated
