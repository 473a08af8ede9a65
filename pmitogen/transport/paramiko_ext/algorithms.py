"""Which algorithms are offered, in which order, and what to say when the server shares none of them.

Our own order puts what is fast here first: AES-GCM needs no second pass for a MAC and is done by the processor, some 260 and
315 MB/s up and down through Paramiko against 160 and 250 for its own first choice. Weak ones (CBC, 3DES, MD5) are offered only
if the user lists them. A list in the settings is complete already (``+``, ``-`` and ``^`` are resolved by flags); names that
Paramiko does not have are left out, and it is an error if none remains.
"""

from __future__ import annotations

import paramiko

from pmitogen.errors import ConnectError
from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.dial import describe
from pmitogen.transport.paramiko_ext.transport import ClientTransport
from pmitogen.util.peer_text import escape

CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
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
POST_QUANTUM = ("mlkem768x25519-sha256",)


def prepare(transport: ClientTransport, settings: Settings) -> None:
    """Set what *transport* offers, before it starts. Raises ConnectError (stage ``kex``). The host key's are set elsewhere."""
    options = transport.get_security_options()
    options.kex = _choose(settings, "kex", settings.kexalgorithms, KEX, transport._kex_info)
    options.ciphers = _choose(settings, "cipher", settings.ciphers, CIPHERS, transport._cipher_info)  # type: ignore[attr-defined]
    options.digests = _choose(settings, "MAC", settings.macs, MACS, transport._mac_info)  # type: ignore[attr-defined]
    transport.use_compression(settings.compression)


def _choose(
    settings: Settings, what: str, wanted: tuple[str, ...], ours: tuple[str, ...], known: dict[str, object]
) -> tuple[str, ...]:
    chosen = tuple(name for name in wanted or ours if name in known)
    if not chosen:
        raise ConnectError(
            f"{describe(settings)}: {KEYWORDS[what]} {','.join(wanted)}: none of these is available here; "
            f"write some of {','.join(name for name in known)}",
            "kex",
        )
    return chosen


def weakness(transport: ClientTransport, settings: Settings) -> tuple[str, ...]:
    """What WarnWeakCrypto has to say about the agreed algorithms: a line, or none."""
    if not settings.warnweakcrypto or transport.agreed_kex in POST_QUANTUM:
        return ()
    return (
        f"{describe(settings)}: the key exchange {transport.agreed_kex} is not safe from a future quantum computer "
        "(WarnWeakCrypto): update the server's OpenSSH to 9.9 or later",
    )


def disagreement(transport: ClientTransport) -> str | None:
    """Both lists, where the server's offer has nothing in common with ours; None: it has."""
    ours = {
        "kex": transport.preferred_kex,
        "host key": transport.preferred_keys,
        "cipher": transport.preferred_ciphers,
        "MAC": transport.preferred_macs,
    }
    for what, names in ours.items():
        theirs = transport.peer_offer.get(what, [])
        if theirs and not set(names) & set(theirs):
            return (
                f"no {what} algorithm in common: we offer {','.join(names)}; the server offers {escape(','.join(theirs))}; "
                f"{_remedy(what, theirs)}"
            )
    return None


def _remedy(what: str, theirs: list[str]) -> str:
    possible = set(paramiko.Transport._cipher_info if what == "cipher" else paramiko.Transport._mac_info)  # type: ignore[attr-defined]
    usable = [name for name in theirs if name in possible] if what in ("cipher", "MAC") else []
    if usable:
        return f"add it if you must: {KEYWORDS[what]}=+{usable[0]}"
    return "servers older than OpenSSH 7.2 know nothing that is still safe: they have to be updated"
