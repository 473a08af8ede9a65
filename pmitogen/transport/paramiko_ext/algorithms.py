"""Choose the algorithms to offer and their order, and explain why no algorithm is in common with the server.

The default order starts with the fastest. AES-GCM needs no second pass for a MAC, and processors have instructions for it:
through Paramiko some 260 MB/s up and 315 MB/s down, while Paramiko's own first choice reaches 160 and 250. ChaCha20-Poly1305,
which OpenSSH prefers, takes 1.5 times the processor time of AES-GCM, and a little less than AES-CTR with a MAC. Weak algorithms
(CBC, 3DES, MD5) are offered only if the user lists them. A list in the settings is complete already (``+``, ``-`` and ``^`` are
resolved by flags); names that are not available here are left out, and it is an error if none remains.
"""

from __future__ import annotations

from typing import NamedTuple

from pmitogen.errors import ConnectError
from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.connection_warnings import ConnectionWarning, Severity
from pmitogen.transport.keys import chacha20_poly1305
from pmitogen.transport.paramiko_ext.transport import ClientTransport
from pmitogen.util import peer_text

CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", chacha20_poly1305.NAME, "aes128-ctr", "aes192-ctr", "aes256-ctr")
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512", "hmac-sha1")
KEX = (
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group14-sha256",
)
KEYWORDS = {"kex": "KexAlgorithms", "host key": "HostKeyAlgorithms", "cipher": "Ciphers", "MAC": "MACs"}
MAX_LIST_LENGTH = 600  # characters of the server's list in a message
POST_QUANTUM = ("mlkem768x25519-sha256",)


def apply_preferences(transport: ClientTransport, settings: Settings) -> None:
    """Set what *transport* offers, before it starts. Raises ConnectError (stage ``kex``). The host key's are set elsewhere."""
    options = transport.get_security_options()
    options.kex = _choose(settings, "kex", settings.kexalgorithms, KEX, transport._kex_info)
    options.ciphers = _choose(settings, "cipher", settings.ciphers, CIPHERS, transport._cipher_info)
    options.digests = _choose(settings, "MAC", settings.macs, MACS, transport._mac_info)
    # As OpenSSH: a server that knows nothing else may compress. "zlib" would decompress before the login: not offered.
    options.compression = ("zlib@openssh.com", "none") if settings.compression else ("none", "zlib@openssh.com")


def _choose(
    settings: Settings, family: str, configured: tuple[str, ...], default: tuple[str, ...], supported: dict[str, object]
) -> tuple[str, ...]:
    chosen = tuple(name for name in configured or default if name in supported)
    if not chosen:
        raise ConnectError(
            f"{settings.endpoint}: {KEYWORDS[family]} {','.join(configured)}: no supported algorithm; "
            f"use some of {','.join(name for name in supported)}",
            "kex",
        )
    return chosen


def weak_kex_warnings(transport: ClientTransport, settings: Settings) -> tuple[ConnectionWarning, ...]:
    """Return the warning of WarnWeakCrypto about the negotiated algorithms, if any."""
    if not settings.warnweakcrypto or transport.agreed_kex in POST_QUANTUM:
        return ()
    text = (
        f"{settings.endpoint}: the key exchange {transport.agreed_kex} is not safe from a future quantum computer "
        "(WarnWeakCrypto); update the server's OpenSSH to 9.9 or later"
    )
    return (ConnectionWarning(f"{settings.hostname} port {settings.port}", "weak", Severity.WARNING, text),)


_FAMILIES = {"kex": "key exchange method", "host key": "host key type", "compression": "compression method"}  # ssh's names


class Mismatch(NamedTuple):
    """No algorithm of a family in common. *text*: of the error. *family*: as ssh names it. *offered*: by the server, escaped."""

    text: str
    family: str
    offered: str


def no_common_algorithm(transport: ClientTransport) -> Mismatch | None:
    """Return the family without an algorithm in common with the server; None: there is none such."""
    offers = {
        "kex": transport.preferred_kex,
        "host key": transport.preferred_keys,
        "cipher": transport.preferred_ciphers,
        "cipher<": transport.preferred_ciphers,
        "MAC": transport.preferred_macs,
        "MAC<": transport.preferred_macs,
        "compression": transport.preferred_compression,
        "compression<": transport.preferred_compression,
    }
    for family, names in offers.items():
        server_names = transport.peer_offer.get(family, [])
        if family.startswith("MAC") and _authenticates(transport, family.replace("MAC", "cipher")):
            continue
        if server_names and not set(names) & set(server_names):
            kind = family.rstrip("<")
            shown = peer_text.escape(",".join(server_names), MAX_LIST_LENGTH)
            offer = f"offered {','.join(names)}; the server offers {shown}"
            text = f"no {kind} algorithm in common: {offer}{_remedy(kind, server_names)}"
            return Mismatch(text, _FAMILIES.get(kind, kind), shown)
    return None


def _authenticates(transport: ClientTransport, family: str) -> bool:
    """Return whether the negotiated cipher needs no MAC."""
    server_names = transport.peer_offer.get(family, [])
    agreed = next((name for name in transport.preferred_ciphers if name in server_names), None)
    return agreed is not None and bool(transport._cipher_info[agreed].get("is_aead"))


def _remedy(family: str, server_names: list[str]) -> str:
    supported = {"kex": ClientTransport._kex_info, "cipher": ClientTransport._cipher_info, "MAC": ClientTransport._mac_info}
    usable = [name for name in server_names if name in supported.get(family, {})]
    if usable:
        return f"; to allow one of them, use {KEYWORDS[family]}=+{usable[0]}"
    if family == "host key" and set(server_names) <= {"ssh-rsa", "ssh-dss"}:
        return "; ssh-rsa (SHA-1) and ssh-dss are not supported: update the server, or give it another host key"
    if family in KEYWORDS:
        return "; none of these is supported: allow another one in the server's configuration, or update the server"
    return ""
