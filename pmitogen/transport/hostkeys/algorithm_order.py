"""Choose which host key algorithms to offer in the key exchange, and in which order."""

from __future__ import annotations

from pmitogen.errors import ConnectError
from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.hostkeys import known_hosts
from pmitogen.transport.hostkeys import known_hosts_sources as hostkeystore
from pmitogen.transport.hostkeys.known_hosts_sources import KnownHostsSources
from pmitogen.transport.keys import public_key

SUPPORTED = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", *public_key.RSA_ALGORITHMS)
_OLD = " (ssh-rsa, which uses SHA-1, and ssh-dss are not supported: update servers older than OpenSSH 7.2)"
CERTIFIED = tuple(map(public_key.certificate_name, SUPPORTED))
DEFAULT_ORDER = (*CERTIFIED, *SUPPORTED)


def host_key_algorithms(settings: Settings, address: str) -> tuple[str, ...]:
    """Return the algorithms to offer in the key exchange, best first, as ssh's order_hostkeyalgs() does.

    A list in HostKeyAlgorithms is taken as it is, except for what Paramiko cannot do. Otherwise, and where that list only adds
    or removes: the order is DEFAULT_ORDER, certificates first, since a certificate can be revoked where its key is not; but if
    the host is known by other keys than the first choice's, their types come first, and all certificates where an authority is
    known for the host.
    *address* is the peer's IP address or "". Raises :class:`ConnectError` with stage ``kex`` where nothing is left.
    """
    offered = _configured(settings) if settings.hostkeyalgorithms else DEFAULT_ORDER
    if settings.hostkeyalgorithms and settings.hostkeyalgorithms_fixed:
        return offered
    store = KnownHostsSources(settings, address)
    lines = store.lines(hostkeystore.host_name(settings), None)
    known_types = _known_types(lines) or _known_types(store.lines_without_port())
    if _plain_type(offered[0]) in known_types:
        return offered
    by_authority = any(line.marker == known_hosts.AUTHORITY for line in lines)
    first = [name for name in offered if _plain_type(name) in known_types or (by_authority and name in CERTIFIED)]
    return (*first, *[name for name in offered if name not in first])


def _known_types(lines: list[known_hosts.KnownHostsLine]) -> set[str]:
    """Return the types of a host's known keys."""
    revoked = [line for line in lines if line.marker == known_hosts.REVOKED]
    unmarked = [line for line in lines if line.marker == known_hosts.NO_MARKER]
    return {line.key_type for line in unmarked if not any(other.is_key(line.blob or b"") for other in revoked)}


def _plain_type(algorithm: str) -> str:
    return public_key.plain_name(public_key.key_type(algorithm))


def _configured(settings: Settings) -> tuple[str, ...]:
    usable = tuple(name for name in settings.hostkeyalgorithms if name in DEFAULT_ORDER)
    if not usable:
        named = ",".join(settings.hostkeyalgorithms)
        old = _OLD if {"ssh-rsa", "ssh-dss"} & set(settings.hostkeyalgorithms) else ""
        advice = f"no supported algorithm; use some of {','.join(SUPPORTED + CERTIFIED)}{old}"
        raise ConnectError(f"{settings.hostname} port {settings.port}: HostKeyAlgorithms {named}: {advice}", "kex")
    return usable
