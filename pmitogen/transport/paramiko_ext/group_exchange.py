"""``diffie-hellman-group-exchange-sha256`` (RFC 4419) with bounded work.

The server chooses the group. Upstream takes a secret exponent as long as the group's prime, so one exchange with 8192 bits holds
Python's interpreter lock, and with it every connection of the process, for two seconds. Here the exponent has the length that
OpenSSH takes (``dh_gen_key``): twice the bits that the session keys need, which makes it 0.1 seconds.
"""

from __future__ import annotations

import secrets
from typing import Any

from paramiko.kex_gex import KexGexSHA256
from paramiko.message import Message
from paramiko.ssh_exception import SSHException

from pmitogen.transport.keys.wire import PacketReader
from pmitogen.util.overrides import require_methods

MIN_BITS, PREFERRED_BITS, MAX_BITS = 2048, 3072, 8192  # OpenSSH asks for the same with a 128-bit cipher
EXPONENT_BITS = 512


class GroupExchange(KexGexSHA256):
    """The client's side of one exchange."""

    min_bits, preferred_bits, max_bits = MIN_BITS, PREFERRED_BITS, MAX_BITS

    def _generate_x(self) -> None:
        self.x = secrets.randbits(EXPONENT_BITS) | 1 << (EXPONENT_BITS - 1)

    def _parse_kexdh_gex_group(self, m: Any) -> None:
        reader = PacketReader(m.asbytes())
        prime, generator = reader.string(), reader.string()
        bits = int.from_bytes(prime, "big").bit_length() if len(prime) <= MAX_BITS // 8 + 1 else MAX_BITS + 1
        if not MIN_BITS <= bits <= MAX_BITS or prime[0] & 0x80 or not prime[-1] & 1:
            raise SSHException(
                f"the server's group for the key exchange is out of range: {MIN_BITS} to {MAX_BITS} bits are allowed"
            )
        if len(generator) > len(prime) or not 1 < int.from_bytes(generator, "big") < int.from_bytes(prime, "big") - 1:
            raise SSHException("the server's group for the key exchange has an invalid generator")
        super()._parse_kexdh_gex_group(Message(m.asbytes()))  # type: ignore[misc]


require_methods(KexGexSHA256, "_generate_x(self)", "_parse_kexdh_gex_group(self, m)")
