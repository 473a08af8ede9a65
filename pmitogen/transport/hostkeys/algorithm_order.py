"""Which host key algorithms to offer, and holding the server to the key it showed.

Missing upstream (Paramiko 5.1): ``Transport.preferred_keys`` always puts plain keys before certificates, so a certificate is
never negotiated where both exist; a key shown at a rekey is not compared with the first; and its signature may be by another
algorithm than agreed. Upstream is mended when
certificate names may stand first in ``SecurityOptions.key_types``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pmitogen.errors import ConnectError
from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.hostkeys import known_hosts
from pmitogen.transport.hostkeys import store as hostkeystore
from pmitogen.transport.hostkeys.store import Store
from pmitogen.transport.keys import public_key, wire
from pmitogen.transport.keys.agent_client import SessionBinding
from pmitogen.util.peer_text import escape

if TYPE_CHECKING:
    import paramiko

    _Base = paramiko.Transport
else:
    _Base = object

SUPPORTED = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", *public_key.RSA_ALGORITHMS)
_OLD = " (ssh-rsa, which is SHA-1, and ssh-dss are gone: servers that know nothing else, before OpenSSH 7.2, cannot be reached)"
CERTIFIED = tuple(map(public_key.certificate_name, SUPPORTED))
DEFAULT_ORDER = (*CERTIFIED, *SUPPORTED)


def host_key_algorithms(settings: Settings, address: str) -> tuple[str, ...]:
    """The algorithms to offer in the key exchange, best first, as ssh's order_hostkeyalgs() has them.

    A list in HostKeyAlgorithms is taken as it is, except for what Paramiko cannot do. Otherwise, and where that list only adds
    or removes: the order is DEFAULT_ORDER, certificates first, since a certificate can be revoked where its key is not; but if
    the host is known by other keys than the first choice's, their types come first, and all certificates where an authority is
    known for the host.
    *address* is the peer's IP address or "". Raises :class:`ConnectError` with stage ``kex`` where nothing is left.
    """
    offered = _chosen(settings) if settings.hostkeyalgorithms else DEFAULT_ORDER
    if settings.hostkeyalgorithms and settings.hostkeyalgorithms_fixed:
        return offered
    store = Store(settings, address)
    lines = store.lines(hostkeystore.host_name(settings), None)
    known = _known_types(lines) or _known_types(store.fallback_lines())
    if _plain_type(offered[0]) in known:
        return offered
    by_authority = any(line.marker == known_hosts.AUTHORITY for line in lines)
    first = [name for name in offered if _plain_type(name) in known or (by_authority and name in CERTIFIED)]
    return (*first, *[name for name in offered if name not in first])


def _known_types(lines: list[known_hosts.Line]) -> set[str]:
    """The types of the keys by which a host is known."""
    revoked = [line for line in lines if line.marker == known_hosts.REVOKED]
    plain = [line for line in lines if line.marker == known_hosts.PLAIN]
    return {line.key_type for line in plain if not any(other.is_key(line.blob or b"") for other in revoked)}


def _plain_type(algorithm: str) -> str:
    return public_key.plain_name(public_key.key_type(algorithm))


def _chosen(settings: Settings) -> tuple[str, ...]:
    usable = tuple(name for name in settings.hostkeyalgorithms if name in DEFAULT_ORDER)
    if not usable:
        named = ",".join(settings.hostkeyalgorithms)
        old = _OLD if {"ssh-rsa", "ssh-dss"} & set(settings.hostkeyalgorithms) else ""
        advice = f"none is known here; write some of {','.join(SUPPORTED + CERTIFIED)}{old}"
        raise ConnectError(f"{settings.hostname} port {settings.port}: HostKeyAlgorithms {named}: {advice}", "kex")
    return usable


class HostKeyPolicy(_Base):
    """To be mixed into a ``paramiko.Transport`` subclass, before it: ``class Ours(HostKeyPolicy, paramiko.Transport)``.

    Set :attr:`wanted_host_keys` before ``start_client``; the names are offered exactly so. From the first key exchange on the
    server has to show the same key again, certificate and all; Paramiko's own thread raises otherwise.
    """

    wanted_host_keys: tuple[str, ...] = ()
    _shown_host_key: bytes | None = None
    _first_signature = b""  # of the first key exchange

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        """What the key exchange offers (Paramiko's name)."""
        return self.wanted_host_keys or tuple(super().preferred_keys)

    def _verify_key(self, host_key: bytes, sig: bytes) -> None:
        import paramiko

        if self._shown_host_key is not None and host_key != self._shown_host_key:
            raise paramiko.SSHException("the server showed another host key at a rekey")
        used = escape(wire.Reader(sig).string(), 80)
        if used != public_key.plain_name(str(self.host_key_type)):  # Paramiko takes any that the key has, SHA-1 in 4.x
            raise paramiko.SSHException(f"the server signed with {used}, {self.host_key_type} was agreed on")
        super()._verify_key(host_key, sig)  # type: ignore[misc]  # in no stub, as it is not public
        if self._shown_host_key is None:
            self._shown_host_key, self._first_signature = host_key, sig

    def session_binding(self) -> SessionBinding:
        """What binds an agent to this connection. Call it after the key exchange."""
        assert self._shown_host_key is not None and self.session_id is not None
        return SessionBinding(self._shown_host_key, bytes(self.session_id), self._first_signature)
