"""The output of ``ssh -V``, ``-Q`` and ``-G``."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pmitogen
from pmitogen.errors import UsageError
from pmitogen.flags.ssh.report.dump import dump
from pmitogen.flags.ssh.resolve_keywords import Resolution

OPENSSH = "OpenSSH_10.5"  # the release whose command line, files and messages this client follows

_PLAIN_KEYS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
_SIGNATURES = ("ssh-ed25519", *_PLAIN_KEYS[1:4], "rsa-sha2-256", "rsa-sha2-512")


def version() -> str:
    """Return the line of ``ssh -V``. Programs parse OpenSSH's version in it to choose options."""
    import cryptography
    import paramiko

    libraries = f"Paramiko {paramiko.__version__}, cryptography {cryptography.__version__}"
    return f"{OPENSSH} command line, pmitogen {pmitogen.__version__}, {libraries}"


def query(name: str) -> list[str]:
    """Return the lines of ``ssh -Q NAME``: this client's algorithms, which may be fewer than OpenSSH's. Raises UsageError."""
    find = _QUERIES.get(name.lower())
    if find is None:
        raise UsageError(f'Unsupported query "{name}"')
    return list(find())


def _algorithms(name: str) -> Callable[[], Iterable[str]]:
    def find() -> Iterable[str]:
        from pmitogen.transport.paramiko_ext import algorithms

        names: Iterable[str] = getattr(algorithms, name)
        return names

    return find


def _with_certificates(names: Iterable[str]) -> list[str]:
    return [each for name in names for each in (name, f"{name}-cert-v01@openssh.com")]


def _aead() -> list[str]:
    from pmitogen.transport.paramiko_ext import algorithms

    return [name for name in algorithms.CIPHERS if "gcm" in name or "poly1305" in name]


_QUERIES: dict[str, Callable[[], Iterable[str]]] = {
    "cipher": _algorithms("CIPHERS"),
    "ciphers": _algorithms("CIPHERS"),
    "cipher-auth": _aead,
    "mac": _algorithms("MACS"),
    "macs": _algorithms("MACS"),
    "kex": _algorithms("KEX"),
    "kexalgorithms": _algorithms("KEX"),
    "key": lambda: _with_certificates(_PLAIN_KEYS),
    "key-plain": lambda: _PLAIN_KEYS,
    "key-cert": lambda: [f"{name}-cert-v01@openssh.com" for name in _PLAIN_KEYS],
    "key-sig": lambda: _with_certificates(_SIGNATURES),
    "key-ca-sign": lambda: _SIGNATURES,
    "sig": lambda: _SIGNATURES,
    "hostkeyalgorithms": lambda: _with_certificates(_SIGNATURES),
    "pubkeyacceptedalgorithms": lambda: _with_certificates(_SIGNATURES),
    "hostbasedacceptedalgorithms": lambda: _with_certificates(_SIGNATURES),
    "casignaturealgorithms": lambda: _SIGNATURES,
    "compression": lambda: ("none", "zlib@openssh.com"),
    "protocol-version": lambda: ("2",),
    "help": lambda: sorted(set(_QUERIES) - {"help"}),
}


def config(resolution: Resolution) -> list[str]:
    """Return the lines of ``ssh -G``."""
    lines = []
    for key, value in dump(resolution).items():
        for text in [value] if isinstance(value, str) else value:
            lines.append(f"{key} {text}")
    return lines
