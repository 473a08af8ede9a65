"""Certificates with any fields, valid or invalid; ssh-keygen makes only valid ones."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from pmitogen.transport.keys import public_key
from pmitogen.transport.keys.wire import encode_mpint, encode_string

from .keys import KeyFile

USER, HOST = 1, 2
FOREVER = 2**64 - 1


def options(*pairs: tuple[str | bytes, str | bytes]) -> bytes:
    """Encode critical options or extensions."""
    return b"".join(encode_string(name) + encode_string(encode_string(value) if value else b"") for name, value in pairs)


def certificate(
    authority: KeyFile,
    key: KeyFile,
    *,
    kind: int = HOST,
    serial: int = 0,
    key_id: bytes = b"test",
    principals: Sequence[bytes] = (),
    after: int = 0,
    before: int = FOREVER,
    critical: bytes = b"",
    extensions: bytes = b"",
    algorithm: str | None = None,
    spoil: bytes = b"",
) -> bytes:
    """Return the blob of a certificate for *key*. *algorithm*: of the signature; *spoil*: bytes appended to the finished blob."""
    plain = base64.b64decode(key.public.split()[1])
    name = key.public.split()[0]
    body = encode_string(public_key.certificate_name(name)) + encode_string(os.urandom(32)) + plain[4 + len(name) :]
    body += (
        serial.to_bytes(8, "big")
        + kind.to_bytes(4, "big")
        + encode_string(key_id)
        + encode_string(b"".join(map(encode_string, principals)))
    )
    body += (
        after.to_bytes(8, "big")
        + before.to_bytes(8, "big")
        + encode_string(critical)
        + encode_string(extensions)
        + encode_string(b"")
    )
    body += encode_string(base64.b64decode(authority.public.split()[1]))
    return body + encode_string(sign(authority, body, algorithm) + spoil)


def sign(authority: KeyFile, data: bytes, algorithm: str | None = None) -> bytes:
    """Return a signature blob by the key in a file."""
    key = serialization.load_ssh_private_key(authority.path.read_bytes(), None)
    name = authority.public.split()[0]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return encode_string(name) + encode_string(key.sign(data))
    if isinstance(key, rsa.RSAPrivateKey):
        algorithm = algorithm or "rsa-sha2-512"
        digest = {"rsa-sha2-512": hashes.SHA512, "rsa-sha2-256": hashes.SHA256, "ssh-rsa": hashes.SHA1}[algorithm]()
        return encode_string(algorithm) + encode_string(key.sign(data, padding.PKCS1v15(), digest))
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    pair = utils.decode_dss_signature(key.sign(data, ec.ECDSA(public_key.ECDSA_HASHES[name]())))
    return encode_string(name) + encode_string(b"".join(map(encode_mpint, pair)))


def write(path: Path, blob: bytes) -> Path:
    """Write a ``.pub`` file with this blob."""
    path.write_text(public_key.public_line(blob) + " test\n")
    return path
