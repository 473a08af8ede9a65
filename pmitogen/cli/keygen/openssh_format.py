"""Write private keys in OpenSSH's own format, with their comment. Source: PROTOCOL.key of OpenSSH.

``cryptography`` writes the format too, but without the comment, which ``ssh-add -l`` and ``ssh-keygen -y`` show.
"""

from __future__ import annotations

import base64
import os

import bcrypt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from pmitogen.transport.keys.private_key import CryptographyKey
from pmitogen.transport.keys.wire import encode_mpint, encode_string

MAGIC = b"openssh-key-v1\0"
CIPHER, KEY_SIZE, BLOCK_SIZE = "aes256-ctr", 32, 16  # bytes
UNENCRYPTED_BLOCK_SIZE = 8  # bytes
DEFAULT_ROUNDS = 24  # of bcrypt_pbkdf; ssh-keygen's
LINE_LENGTH = 70  # characters


def encode(key: CryptographyKey, comment: str, passphrase: str, rounds: int = DEFAULT_ROUNDS) -> bytes:
    """Return the contents of a key file. *passphrase* "": not encrypted. *rounds*: of the key derivation function."""
    check = os.urandom(4)
    private = check + check + private_fields(key) + encode_string(comment)
    if passphrase:
        salt = os.urandom(16)
        derived = bcrypt.kdf(
            passphrase.encode("utf-8", "surrogateescape"), salt, KEY_SIZE + BLOCK_SIZE, rounds, ignore_few_rounds=True
        )
        cipher = Cipher(algorithms.AES(derived[:KEY_SIZE]), modes.CTR(derived[KEY_SIZE:])).encryptor()
        private = cipher.update(_padded(private, BLOCK_SIZE)) + cipher.finalize()
        kdf = encode_string(CIPHER) + encode_string("bcrypt") + encode_string(encode_string(salt) + rounds.to_bytes(4, "big"))
    else:
        private = _padded(private, UNENCRYPTED_BLOCK_SIZE)
        kdf = encode_string("none") + encode_string("none") + encode_string(b"")
    blob = MAGIC + kdf + (1).to_bytes(4, "big") + encode_string(public_blob(key)) + encode_string(private)
    text = base64.b64encode(blob).decode()
    lines = [text[at : at + LINE_LENGTH] for at in range(0, len(text), LINE_LENGTH)]
    return "\n".join(("-----BEGIN OPENSSH PRIVATE KEY-----", *lines, "-----END OPENSSH PRIVATE KEY-----", "")).encode()


def public_blob(key: CryptographyKey) -> bytes:
    """Return the public half, as SSH encodes it."""
    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return base64.b64decode(line.split()[1])


def private_fields(key: CryptographyKey) -> bytes:
    """Return the type and the numbers of a key, as key files and the agent protocol encode them."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        public = key.public_key().public_bytes_raw()
        return encode_string("ssh-ed25519") + encode_string(public) + encode_string(key.private_bytes_raw() + public)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        curve = {"secp256r1": "nistp256", "secp384r1": "nistp384", "secp521r1": "nistp521"}[key.curve.name]
        point = key.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
        names = encode_string(f"ecdsa-sha2-{curve}") + encode_string(curve)
        return names + encode_string(point) + encode_mpint(key.private_numbers().private_value)
    numbers = key.private_numbers()
    public_numbers = numbers.public_numbers
    values = (public_numbers.n, public_numbers.e, numbers.d, numbers.iqmp, numbers.p, numbers.q)
    return encode_string("ssh-rsa") + b"".join(map(encode_mpint, values))


def _padded(data: bytes, block_size: int) -> bytes:
    missing = -len(data) % block_size
    return data + bytes(range(1, missing + 1))
