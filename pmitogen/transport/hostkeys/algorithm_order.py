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


def host_key_algorithms(settings: Settings, address: str) -> tuple[str, ...]:
    """The algorithms to offer in the key exchange, best first.

    HostKeyAlgorithms is taken as it is, but for what Paramiko cannot do. Without it: certificates where an authority is known
    for the host, then the types of its known keys, then the rest; certificates last where no authority could vouch for them.
    *address* is the peer's IP address or "". Raises :class:`ConnectError` with stage ``kex`` where nothing is left.
    """
    if settings.hostkeyalgorithms:
        return _chosen(settings)
    store = Store(settings, address)
    lines = store.lines(hostkeystore.host_name(settings), None)
    known = {line.key_type for line in [*lines, *store.fallback_lines(None)] if line.marker == known_hosts.PLAIN}
    first = [name for name in SUPPORTED if public_key.key_type(name) in known]
    rest = [name for name in SUPPORTED if name not in first]
    if any(line.marker == known_hosts.AUTHORITY for line in lines):
        return (*CERTIFIED, *first, *rest)
    return (*first, *rest, *CERTIFIED)


def _chosen(settings: Settings) -> tuple[str, ...]:
    usable = tuple(name for name in settings.hostkeyalgorithms if name in SUPPORTED or name in CERTIFIED)
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
