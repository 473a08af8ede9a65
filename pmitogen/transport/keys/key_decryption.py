"""Decrypt OpenSSH's private key files, with every cipher of ``ssh-keygen -Z``.

Missing upstream: ``cryptography`` (50.0) opens only those encrypted with aes256-ctr, -cbc and -gcm; Paramiko (5.1) fewer.
Upstream is fixed when ``load_ssh_private_key`` reads a file made with ``ssh-keygen -Z chacha20-poly1305@openssh.com``; then
this file can go.

The result is the same file without encryption, for ``cryptography`` to parse. Source:
OpenSSH PROTOCOL.key and PROTOCOL.chacha20poly1305; bcrypt_pbkdf is the ``bcrypt`` package's, which Paramiko needs as well.
"""

from __future__ import annotations

import base64
import re
from typing import NamedTuple

import bcrypt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, CipherAlgorithm, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pmitogen.transport.keys.chacha20_poly1305 import ChaCha20Poly1305
from pmitogen.transport.keys.wire import DecodeError, PacketReader, encode_string

MAGIC = b"openssh-key-v1\0"
MAX_ROUNDS = 10_000  # of bcrypt_pbkdf; minutes of work. ssh-keygen's default is 16 to 24
_SIZES = {  # name: bytes of key, of IV
    "aes128-cbc": (16, 16), "aes192-cbc": (24, 16), "aes256-cbc": (32, 16),
    "aes128-ctr": (16, 16), "aes192-ctr": (24, 16), "aes256-ctr": (32, 16),
    "aes128-gcm@openssh.com": (16, 12), "aes256-gcm@openssh.com": (32, 12),
    "chacha20-poly1305@openssh.com": (64, 0), "3des-cbc": (24, 8),
}  # fmt: skip

_FIELDS = {"ssh-ed25519": 2, "ecdsa": 3, "ssh-rsa": 6}  # of a private key, after its type and before its comment


class WrongPassphrase(ValueError):
    """The private part is invalid after decryption."""


class EncryptedKey(NamedTuple):
    """The outer fields of a key file; *ciphertext* is the encrypted private part; *tag* is empty if the cipher has none."""

    cipher: str
    kdf: str
    kdf_options: bytes
    public_blob: bytes
    ciphertext: bytes
    tag: bytes


def parse(body: str) -> EncryptedKey:
    """Read the base64 *body* between the BEGIN and END lines. Raises :class:`DecodeError`."""
    try:
        reader = PacketReader(base64.b64decode("".join(body.split()), validate=True))
    except ValueError as error:
        raise DecodeError("invalid base64") from error
    if reader.take(len(MAGIC)) != MAGIC:
        raise DecodeError("bad magic number")
    cipher, kdf, options = reader.text(), reader.text(), reader.string()
    if reader.u32() != 1:
        raise DecodeError("the file does not contain exactly one key")
    return EncryptedKey(cipher, kdf, options, reader.string(), reader.string(), reader.rest())


def decrypt(encrypted_key: EncryptedKey, passphrase: str) -> str:
    """Return the key file without encryption. Raises :class:`WrongPassphrase`, :class:`DecodeError`."""
    if encrypted_key.cipher not in _SIZES or encrypted_key.kdf != "bcrypt":
        raise DecodeError(f"unknown cipher {encrypted_key.cipher} ({encrypted_key.kdf})")
    size, iv_size = _SIZES[encrypted_key.cipher]
    options = PacketReader(encrypted_key.kdf_options)
    salt, rounds = options.string(), options.u32()
    if not salt or not 0 < rounds <= MAX_ROUNDS:
        raise DecodeError("invalid key derivation parameters")
    derived = bcrypt.kdf(passphrase.encode(), salt, size + iv_size, rounds, ignore_few_rounds=True)
    private = _decrypt(encrypted_key, derived[:size], derived[size:])
    if len(private) < 8 or private[:4] != private[4:8]:
        raise WrongPassphrase
    plaintext = (
        MAGIC
        + encode_string("none")
        + encode_string("none")
        + encode_string("")
        + b"\0\0\0\1"
        + encode_string(encrypted_key.public_blob)
        + encode_string(private)
    )
    encoded = base64.encodebytes(plaintext).decode()
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{encoded}-----END OPENSSH PRIVATE KEY-----\n"


def read_comment(text: str) -> str:
    """Return the comment in an unencrypted key file; "" if there is none, or the file has another format."""
    try:
        reader = PacketReader(parse(re.sub(r"-----[^-]*-----", "", text)).ciphertext)
        reader.take(8)  # two equal numbers, to recognise a wrong passphrase by
        for _ in range(_FIELDS[reader.text().partition("-sha2-")[0]]):
            reader.string()
        return reader.string().decode("utf-8", "surrogateescape")
    except (DecodeError, KeyError):
        return ""


def _decrypt(encrypted_key: EncryptedKey, key: bytes, iv: bytes) -> bytes:
    if encrypted_key.cipher.startswith("chacha20"):
        private = ChaCha20Poly1305(key).open(0, b"", encrypted_key.ciphertext, encrypted_key.tag)
        if private is None:
            raise WrongPassphrase
        return private
    if "-gcm" in encrypted_key.cipher:
        try:
            return AESGCM(key).decrypt(iv, encrypted_key.ciphertext + encrypted_key.tag, None)
        except InvalidTag:
            raise WrongPassphrase from None
    if not encrypted_key.ciphertext or len(encrypted_key.ciphertext) % len(iv):
        raise DecodeError("invalid length of the encrypted part")
    algorithm: CipherAlgorithm = _triple_des(key) if encrypted_key.cipher == "3des-cbc" else algorithms.AES(key)
    mode = modes.CTR(iv) if encrypted_key.cipher.endswith("-ctr") else modes.CBC(iv)
    decryptor = Cipher(algorithm, mode).decryptor()
    return decryptor.update(encrypted_key.ciphertext) + decryptor.finalize()


def _triple_des(key: bytes) -> CipherAlgorithm:
    try:
        from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
    except ImportError as error:  # before cryptography 43, or after its removal
        raise DecodeError("unknown cipher 3des-cbc") from error
    return TripleDES(key)
