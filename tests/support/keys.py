"""SSH keys in files, in the form of ``ssh-keygen``, without that program."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

KINDS = ("ed25519", "ecdsa", "ecdsa384", "ecdsa521", "rsa")

_CURVES: dict[str, ec.EllipticCurve] = {"ecdsa": ec.SECP256R1(), "ecdsa384": ec.SECP384R1(), "ecdsa521": ec.SECP521R1()}


@dataclass(frozen=True)
class KeyFile:
    """A key pair: the private key in *path*, the public one in ``path.pub``."""

    path: Path
    public: str  # "ssh-ed25519 AAAA..."
    passphrase: str | None = None

    def __str__(self) -> str:
        return str(self.path)


def make_key(path: Path, kind: str = "ed25519", passphrase: str | None = None, comment: str = "test") -> KeyFile:
    """Write a new key of *kind* (one of KINDS) in OpenSSH's format, mode 0600."""
    key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if kind == "ed25519":
        key = ed25519.Ed25519PrivateKey.generate()
    elif kind == "rsa":
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    else:
        key = ec.generate_private_key(_CURVES[kind])
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase.encode())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, encryption)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    path.touch(mode=0o600)
    path.write_bytes(private)
    path.with_name(path.name + ".pub").write_text(f"{public} {comment}\n")
    return KeyFile(path, public, passphrase)
