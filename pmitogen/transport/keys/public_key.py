"""Public keys as blobs: their names, algorithms, fingerprints, and checking a signature with one.

A key is (type name, blob) here, because known_hosts, agents and certificates all speak of blobs, also of types that Paramiko
cannot parse (security keys, certificates in an agent). One key type may sign in several ways: only RSA does, whose three
signature algorithms share the type ``ssh-rsa``; the SHA-1 one is not offered at all, as in Paramiko 5.
"""

from __future__ import annotations

import base64
import hashlib

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from pmitogen.transport.keys.wire import DecodeError, PacketReader
from pmitogen.util.peer_text import escape

CERTIFICATE_SUFFIX = "-cert-v01@openssh.com"
RSA_ALGORITHMS = ("rsa-sha2-512", "rsa-sha2-256")
MIN_RSA_BITS = 1024  # OpenSSH's own limit
_RSA_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "rsa-sha2-512": hashes.SHA512,
    "rsa-sha2-256": hashes.SHA256,
    "ssh-rsa": hashes.SHA1,
}
ECDSA_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "ecdsa-sha2-nistp256": hashes.SHA256,
    "ecdsa-sha2-nistp384": hashes.SHA384,
    "ecdsa-sha2-nistp521": hashes.SHA512,
}
DISPLAY_NAMES = {"ssh-rsa": "RSA", "ssh-ed25519": "ED25519", "ssh-dss": "DSA", "sk-ssh-ed25519@openssh.com": "ED25519-SK",
           "sk-ecdsa-sha2-nistp256@openssh.com": "ECDSA-SK", **dict.fromkeys(ECDSA_HASHES, "ECDSA")}  # fmt: skip


def is_certificate(name: str) -> bool:
    """Return True if a key type or algorithm name is a certificate's."""
    return name.endswith(CERTIFICATE_SUFFIX)


def plain_name(name: str) -> str:
    """Return the plain key type of a certificate type; ``sk-`` types have a suffix of their own."""
    if not is_certificate(name):
        return name
    return name[: -len(CERTIFICATE_SUFFIX)] + "@openssh.com" if name.startswith("sk-") else name[: -len(CERTIFICATE_SUFFIX)]


def certificate_name(name: str) -> str:
    """Return the certificate type or algorithm of a plain one."""
    return name.removesuffix("@openssh.com") + CERTIFICATE_SUFFIX


def key_type(algorithm: str) -> str:
    """Return the key type that signs by *algorithm*: ``rsa-sha2-512`` -> ``ssh-rsa``, likewise for certificates."""
    if plain_name(algorithm) in RSA_ALGORITHMS:
        return "ssh-rsa" + CERTIFICATE_SUFFIX if is_certificate(algorithm) else "ssh-rsa"
    return algorithm


def algorithms_of(name: str) -> tuple[str, ...]:
    """Return the signature algorithms a key of type *name* is offered with, best first."""
    if plain_name(name) != "ssh-rsa":
        return (name,)
    return tuple(map(certificate_name, RSA_ALGORITHMS)) if is_certificate(name) else RSA_ALGORITHMS


def is_security_key(name: str) -> bool:
    """Return True if a signature needs a touch of a token."""
    return name.startswith("sk-")


def blob_type(blob: bytes) -> str:
    """Return the type name at the start of a blob. Raises :class:`DecodeError`."""
    return PacketReader(blob).text()


def fingerprint(blob: bytes, algorithm: str = "sha256") -> str:
    """Return the fingerprint as ssh prints it: ``SHA256:...`` or ``MD5:aa:bb:...``; *algorithm* is FingerprintHash."""
    if algorithm.lower() == "md5":
        return "MD5:" + hashlib.md5(blob, usedforsecurity=False).digest().hex(":")
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def display_name(name: str) -> str:
    """Return the short name in ssh's messages: ``ED25519``, ``RSA-CERT`` ..."""
    plain = plain_name(name)
    return (DISPLAY_NAMES.get(plain) or escape(plain, 80)) + ("-CERT" if is_certificate(name) else "")


def rsa_bits(blob: bytes) -> int | None:
    """Return the size of an RSA key's modulus; None for every other type. Raises :class:`DecodeError`."""
    reader = PacketReader(blob)
    name = reader.text()
    if plain_name(name) != "ssh-rsa":
        return None
    if is_certificate(name):
        reader.string()  # nonce
    reader.string()  # e
    return int.from_bytes(reader.string(), "big").bit_length()


def validate(blob: bytes) -> None:
    """Raise :class:`DecodeError` unless *blob* is a whole plain key of a type that OpenSSH knows today (so not ``ssh-dss``)."""
    reader = PacketReader(blob)
    name = reader.text()
    if name not in DISPLAY_NAMES or name == "ssh-dss":
        raise DecodeError(f"unknown key type {name}")
    if is_security_key(name):
        for _ in range(3 if name.startswith("sk-ecdsa") else 2):
            reader.string()
        reader.end()
        return
    bits = rsa_bits(blob)
    if bits is not None and bits < MIN_RSA_BITS:
        raise DecodeError(f"invalid RSA key length: {bits} bits, at least {MIN_RSA_BITS} are required")
    try:
        serialization.load_ssh_public_key(public_line(blob).encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise DecodeError(f"invalid {name} key") from error


def public_line(blob: bytes) -> str:
    """Return ``type base64``, as in a .pub file."""
    return f"{blob_type(blob)} {base64.b64encode(blob).decode()}"


def verify_signature(blob: bytes, signature: bytes, data: bytes) -> str:
    """Check *signature* over *data* by the plain key *blob*; returns the signature algorithm used.

    The caller decides whether the algorithm is acceptable; SHA-1 (``ssh-rsa``) is checked like the others.
    Raises :class:`DecodeError` where the signature is wrong, or of an algorithm that is unknown or does not fit the key.
    Source: RFC 4253 6.6, RFC 5656, RFC 8332, RFC 8709; OpenSSH PROTOCOL.u2f for ``sk-`` keys.
    """
    reader = PacketReader(signature)
    algorithm = reader.text()
    raw = reader.string()
    name = blob_type(blob)
    if name not in (algorithm, key_type(algorithm)):
        raise DecodeError(f"signature algorithm {algorithm} does not match the key type {name}")
    if is_security_key(name):
        blob, data = _hardware_parts(blob, reader, data)
        name = blob_type(blob)
    reader.end()
    try:
        _verify(serialization.load_ssh_public_key(public_line(blob).encode()), name, algorithm, raw, data)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError) as error:
        raise DecodeError(f"incorrect {algorithm} signature") from error
    return algorithm


def _hardware_parts(blob: bytes, signature: PacketReader, data: bytes) -> tuple[bytes, bytes]:
    """Return the plain key in an ``sk-`` key, and the data that the token signed."""
    key = PacketReader(blob)
    name = key.string()
    start = key.offset
    key.string()
    if name.startswith(b"sk-ecdsa"):
        key.string()
    body = blob[start : key.offset]
    application = key.string()
    flags_and_counter = signature.take(5)
    plain = name.removeprefix(b"sk-").removesuffix(b"@openssh.com")
    signed = hashlib.sha256(application).digest() + flags_and_counter + hashlib.sha256(data).digest()
    return len(plain).to_bytes(4, "big") + plain + body, signed


def _verify(key: object, name: str, algorithm: str, raw: bytes, data: bytes) -> None:
    if isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(raw, data)
    elif isinstance(key, rsa.RSAPublicKey) and algorithm in _RSA_HASHES:
        size = (key.key_size + 7) // 8
        key.verify(raw.rjust(size, b"\0"), data, padding.PKCS1v15(), _RSA_HASHES[algorithm]())
    elif isinstance(key, ec.EllipticCurvePublicKey):
        reader = PacketReader(raw)
        pair = [int.from_bytes(reader.string(), "big") for _ in range(2)]
        reader.end()
        key.verify(utils.encode_dss_signature(*pair), data, ec.ECDSA(ECDSA_HASHES[name]()))
    else:
        raise DecodeError(f"unsupported signature algorithm {algorithm}")
