"""The keys of a connection's packets: ciphers of both directions, sequence numbers, and when new keys are due.

Upstream's Packetizer has the same state in private attributes. Here are attributes of our own, with ``RekeyLimit`` in bytes and
seconds. Only the flag for a rekey that is due remains upstream's: it is cleared when both directions have new keys.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from paramiko.packet import Packetizer
from paramiko.ssh_exception import SSHException

from pmitogen.transport.keys.chacha20_poly1305 import ChaCha20Poly1305
from pmitogen.transport.paramiko_ext.packets.ciphers import Opener, Sealer, Unencrypted, protection
from pmitogen.util.overrides import require_methods

# With a 128-bit block OpenSSH changes keys after 2**32 blocks (64 GiB); RFC 4344 wants it before 2**32 packets.
DEFAULT_REKEY_BYTES = 16 << 30
CHACHA_REKEY_BYTES = 1 << 30  # OpenSSH's limit for a cipher with blocks of 64 bits; its nonce is a 32-bit packet number
REKEY_PACKETS = 1 << 30


class PacketKeys(Packetizer):
    """The part of ``FastPacketizer`` that knows ciphers and counts what passed under their keys."""

    REKEY_PACKETS = REKEY_PACKETS
    REKEY_BYTES = DEFAULT_REKEY_BYTES
    # Upstream's, in no stub:
    REKEY_BYTES_OVERFLOW_MAX: int
    REKEY_PACKETS_OVERFLOW_MAX: int
    _trigger_rekey: Callable[[], None]
    _initial_kex_done: bool

    def __init__(self, sock: Any) -> None:
        super().__init__(sock)
        self._sealer: Sealer = Unencrypted()
        self._opener: Opener = Unencrypted()
        self._sequence_in = self._sequence_out = 0
        self._fresh_in = self._fresh_out = 0  # bytes under the present keys
        self._packets_in = self._packets_out = 0  # the same in packets
        self._cipher_limit_in = self._cipher_limit_out = DEFAULT_REKEY_BYTES
        self._rekey_limit = 0  # bytes, as RekeyLimit says; 0: the ciphers' own
        self.rekey_seconds = 0
        self._rekey_at: float | None = None

    def set_outbound_cipher(
        self,
        block_engine: Any,
        block_size: int,
        mac_engine: Any,
        mac_size: int,
        mac_key: Any,
        sdctr: bool = False,
        etm: bool = False,
        aead: bool = False,
        iv_out: bytes | None = None,
    ) -> None:
        """Set new keys for sending (transport thread, after our NEWKEYS)."""
        super().set_outbound_cipher(block_engine, block_size, mac_engine, mac_size, mac_key, sdctr, etm, aead, iv_out)
        self._sealer = protection(block_engine, block_size, mac_engine, mac_size, mac_key, etm, iv_out)
        self._fresh_out = self._packets_out = 0
        self._cipher_limit_out = _cipher_limit(block_engine)
        self._use_rekey_limit()

    def set_inbound_cipher(
        self,
        block_engine: Any,
        block_size: int,
        mac_engine: Any,
        mac_size: int,
        mac_key: Any,
        etm: bool = False,
        aead: bool = False,
        iv_in: bytes | None = None,
    ) -> None:
        """Set new keys for receiving (transport thread, on the peer's NEWKEYS)."""
        super().set_inbound_cipher(block_engine, block_size, mac_engine, mac_size, mac_key, etm, aead, iv_in)
        self._opener = protection(block_engine, block_size, mac_engine, mac_size, mac_key, etm, iv_in)
        self._fresh_in = self._packets_in = 0
        self._cipher_limit_in = _cipher_limit(block_engine)
        self._use_rekey_limit()
        self._rekey_at = time.monotonic() + self.rekey_seconds if self.rekey_seconds else None

    def _use_rekey_limit(self) -> None:
        """Apply RekeyLimit, which can be stricter than the limits of the ciphers, but not looser."""
        most = min(self._cipher_limit_in, self._cipher_limit_out)
        self.REKEY_BYTES = min(self._rekey_limit or most, most)

    def reset_seqno_in(self) -> None:
        super().reset_seqno_in()
        self._sequence_in = 0

    def reset_seqno_out(self) -> None:
        super().reset_seqno_out()
        self._sequence_out = 0

    def set_rekey_limit(self, limit: int, seconds: int) -> None:
        """Set RekeyLimit: *limit* bytes in either direction, *seconds* from now and after each change; 0: our default, never.

        Transport thread, after the login: before it, sshd takes no request for new keys.
        """
        self._rekey_limit = limit
        self._use_rekey_limit()
        self.rekey_seconds = seconds
        self._rekey_at = time.monotonic() + seconds if seconds else None

    def need_rekey(self) -> bool:
        """Return whether new keys are due, by volume or by time. Any thread."""
        if self._rekey_at is not None and time.monotonic() >= self._rekey_at:
            self._rekey_at = None
            self._trigger_rekey()
        return bool(super().need_rekey())

    def _next_sequence_out(self) -> None:
        self._sequence_out = (self._sequence_out + 1) & 0xFFFFFFFF
        if not self._sequence_out and not self._initial_kex_done:
            raise SSHException("too many packets sent before the first key exchange")

    def _count_out(self, size: int) -> None:
        """Count a sent packet of *size* bytes (called with the send lock)."""
        self._fresh_out += size
        self._packets_out += 1
        if (self._fresh_out >= self.REKEY_BYTES or self._packets_out >= self.REKEY_PACKETS) and not super().need_rekey():
            self._trigger_rekey()

    def _count_in(self, size: int) -> None:
        """Count a received packet of *size* bytes. Raises SSHException if the server continues with expired keys."""
        self._sequence_in = (self._sequence_in + 1) & 0xFFFFFFFF
        if not self._sequence_in and not self._initial_kex_done:
            raise SSHException("the server sent too many packets before the first key exchange")
        self._fresh_in += size
        self._packets_in += 1
        if self._fresh_in < self.REKEY_BYTES and self._packets_in < self.REKEY_PACKETS:
            return
        if not super().need_rekey():
            self._trigger_rekey()
        elif self._fresh_in >= self.REKEY_BYTES + self.REKEY_BYTES_OVERFLOW_MAX or (
            self._packets_in >= self.REKEY_PACKETS + self.REKEY_PACKETS_OVERFLOW_MAX
        ):
            raise SSHException("the server does not answer the request for new keys")


def _cipher_limit(engine: Any) -> int:
    """Return the number of bytes after which a cipher needs new keys."""
    return CHACHA_REKEY_BYTES if isinstance(engine, ChaCha20Poly1305) else DEFAULT_REKEY_BYTES


require_methods(
    Packetizer,
    "set_outbound_cipher(self, block_engine, block_size, mac_engine, mac_size, mac_key, sdctr, etm, aead, iv_out)",
    "set_inbound_cipher(self, block_engine, block_size, mac_engine, mac_size, mac_key, etm, aead, iv_in)",
    "reset_seqno_in(self)",
    "reset_seqno_out(self)",
    "need_rekey(self)",
    "_trigger_rekey(self)",
)
