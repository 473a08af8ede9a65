"""Offer host key algorithms in a given order, and require the same host key at every key exchange.

Missing upstream (Paramiko 5.1): ``Transport.preferred_keys`` always puts plain keys before certificates, so a certificate is
never negotiated where both exist; a key sent at a rekey is not compared with the first; and its signature may use another
algorithm than the one agreed on. Upstream is fixed when certificate names may stand first in ``SecurityOptions.key_types``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import paramiko

from pmitogen.transport.keys import public_key, wire
from pmitogen.transport.keys.ssh_agent_client import SessionBinding
from pmitogen.util.peer_text import escape

if TYPE_CHECKING:
    _Base = paramiko.Transport
else:
    _Base = object


class HostKeyPolicy(_Base):
    """Mixin for a ``paramiko.Transport`` subclass; list it first: ``class ClientTransport(HostKeyPolicy, paramiko.Transport)``.

    Set :attr:`wanted_host_keys` before ``exchange_keys``; the key exchange offers these names in this order. After the first key
    exchange the server must send the same key, including its certificate; otherwise the transport thread raises SSHException.
    """

    wanted_host_keys: tuple[str, ...] = ()
    _shown_host_key: bytes | None = None
    _first_signature = b""  # of the first key exchange

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """The host key algorithms that the key exchange offers (overrides Paramiko's)."""
        return self.wanted_host_keys or tuple(super().preferred_keys)

    def _verify_key(self, host_key: bytes, sig: bytes) -> None:
        if self._shown_host_key is not None and host_key != self._shown_host_key:
            raise paramiko.SSHException("the server's host key changed during rekeying")
        used = escape(wire.PacketReader(sig).string(), 80)
        if used != public_key.plain_name(str(self.host_key_type)):  # Paramiko takes any that the key has, SHA-1 in 4.x
            raise paramiko.SSHException(f"the server signed with {used} instead of the negotiated {self.host_key_type}")
        super()._verify_key(host_key, sig)  # type: ignore[misc]  # in no stub, as it is not public
        if self._shown_host_key is None:
            self._shown_host_key, self._first_signature = host_key, sig

    def session_binding(self) -> SessionBinding:
        """Return the data that bind an agent to this connection. Call it after the key exchange."""
        assert self._shown_host_key is not None and self.session_id is not None
        return SessionBinding(self._shown_host_key, bytes(self.session_id), self._first_signature)
