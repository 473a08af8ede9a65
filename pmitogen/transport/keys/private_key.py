"""Private keys, in every format that ssh-keygen writes, from a file or as a text.

Missing upstream (Paramiko 5.1): PKCS#8 (encrypted or not) is unreadable, so are OpenSSH files encrypted with aes256-gcm, and
a wrong passphrase says "not a valid key". Upstream is fixed when ``PKey.from_path`` reads ``ssh-keygen -m PKCS8`` files.

The ``cryptography`` package parses and signs; this file distinguishes the formats, and explains why one could not be read. The
text of a key is stored in no attribute. Source: OpenSSH PROTOCOL.key; RFC 8332 and RFC 5656 for the signatures.
"""

from __future__ import annotations

import base64
import dataclasses
import re

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from pmitogen.transport.keys import key_decryption, public_key, wire
from pmitogen.transport.keys.wire import DecodeError

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s*(.*?)-----END \1-----", re.DOTALL)
CryptographyKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
CryptographyPublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class UnusableKey(ValueError):
    """A key that cannot be used. The message is for the user.

    *passphrase*: ``needed``, ``wrong``, or None if the error has another cause.
    """

    def __init__(self, message: str, passphrase: str | None = None) -> None:
        super().__init__(message)
        self.passphrase = passphrase


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class KeyFileHeader:
    """The parts of a key file that are readable without its passphrase. *public_blob* None: it is encrypted as well."""

    text: str
    encrypted: bool
    public_blob: bytes | None
    openssh: bool = False
    ciphertext: key_decryption.EncryptedKey | None = None


class PrivateKey:
    """A key that signs. *blob* is its public half, *name* its type; *comment* that of an OpenSSH file, else "".

    *cryptography_key*: the same key as an object of the ``cryptography`` package.
    """

    def __init__(self, key: CryptographyKey, comment: str = "") -> None:
        self.cryptography_key = key
        self.comment = comment
        self.blob = public_blob(key.public_key())
        self.name = public_key.blob_type(self.blob)

    def __repr__(self) -> str:
        return f"PrivateKey({self.name} {public_key.fingerprint(self.blob)})"

    def sign(self, data: bytes, algorithm: str) -> bytes:
        """Return an SSH signature blob over *data*; *algorithm* may be a certificate's name."""
        plain = public_key.plain_name(algorithm)
        if isinstance(self.cryptography_key, ed25519.Ed25519PrivateKey):
            raw = self.cryptography_key.sign(data)
        elif isinstance(self.cryptography_key, rsa.RSAPrivateKey):
            digest = hashes.SHA512() if plain == "rsa-sha2-512" else hashes.SHA256()
            raw = self.cryptography_key.sign(data, padding.PKCS1v15(), digest)
        else:
            pair = utils.decode_dss_signature(self.cryptography_key.sign(data, ec.ECDSA(public_key.ECDSA_HASHES[plain]())))
            raw = b"".join(map(wire.encode_mpint, pair))
        return wire.encode_string(plain) + wire.encode_string(raw)


def public_blob(key: CryptographyPublicKey) -> bytes:
    """Return a public key as SSH encodes it. Raises ValueError, UnsupportedAlgorithm for a curve that SSH does not know."""
    encoded = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return base64.b64decode(encoded.split()[1])


def read_header(text: str) -> KeyFileHeader:
    """Look at a private key's *text* without decrypting it. Raises :class:`UnusableKey` if it is not a supported key."""
    if text.startswith("PuTTY-User-Key-File"):
        raise UnusableKey("a PuTTY key; convert it: puttygen KEY -O private-openssh-new -o NEW")
    match = _BLOCK.search(text.replace("\r\n", "\n"))
    if match is None:
        raise UnusableKey("not a private key")
    label, body = match[1], match[2]
    normal = f"-----BEGIN {label}-----\n{body.strip()}\n-----END {label}-----\n"
    if label == "OPENSSH PRIVATE KEY":
        return _read_openssh_header(normal, body)
    if label not in ("RSA PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY", "ENCRYPTED PRIVATE KEY"):
        raise UnusableKey(f"unsupported key type {label.removesuffix(' PRIVATE KEY')}; use an ed25519 key")
    return KeyFileHeader(normal, label.startswith("ENCRYPTED") or "Proc-Type: 4,ENCRYPTED" in body, None)


def _read_openssh_header(normal: str, body: str) -> KeyFileHeader:
    try:
        encrypted_key = key_decryption.parse(body)
        name = public_key.blob_type(encrypted_key.public_blob)
    except DecodeError as error:
        raise UnusableKey(f"invalid OpenSSH private key: {error}") from error
    if public_key.is_security_key(name):
        raise UnusableKey(f"a security key ({name}), which works through an agent only; add it with ssh-add")
    ciphertext = None if encrypted_key.cipher == "none" else encrypted_key
    return KeyFileHeader(normal, ciphertext is not None, encrypted_key.public_blob, True, ciphertext)


def load(header: KeyFileHeader, passphrase: str | None) -> PrivateKey:
    """Decrypt and parse. A passphrase for a key that has none is ignored, as ssh does. Raises :class:`UnusableKey`."""
    if header.encrypted and not passphrase:
        raise UnusableKey("encrypted, and no passphrase given", "needed")
    read = serialization.load_ssh_private_key if header.openssh else serialization.load_pem_private_key
    password = passphrase.encode() if header.encrypted and passphrase else None
    text = header.text
    try:
        if header.ciphertext is not None and passphrase:
            text, password = key_decryption.decrypt(header.ciphertext, passphrase), None
        key = read(text.encode(), password)
    except DecodeError as error:
        raise UnusableKey(f"cannot decrypt: {error}; add the key to an agent") from error
    except (UnsupportedAlgorithm, NotImplementedError) as error:  # the latter: an elliptic curve's point in compressed form
        raise UnusableKey(f"unsupported private key ({error}); add it to an agent") from error
    except (ValueError, TypeError) as error:
        # Neither library nor format distinguishes a wrong passphrase from damage; of an encrypted file, the former is likely.
        if header.encrypted:
            raise UnusableKey("incorrect passphrase", "wrong") from None
        raise UnusableKey("invalid private key") from error
    if not isinstance(key, CryptographyKey):
        raise UnusableKey(f"unsupported key type {type(key).__name__.strip('_')}; use an ed25519 key")
    try:
        return PrivateKey(key, key_decryption.read_comment(text) if header.openssh else "")
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnusableKey(f"unsupported key ({error}); use an ed25519 key") from error
