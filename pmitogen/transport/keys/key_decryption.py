"""Opening OpenSSH's private key files, whatever cipher ``ssh-keygen -Z`` wrapped them in.

Missing upstream: ``cryptography`` (50.0) opens only those encrypted with aes256-ctr, -cbc and -gcm; Paramiko (5.1) fewer.
Upstream is mended when ``load_ssh_private_key`` reads a file made with ``ssh-keygen -Z chacha20-poly1305@openssh.com``; then
this file can go.

Only the wrapping is taken off here: the result is the same file without encryption, for ``cryptography`` to parse. Source:
OpenSSH PROTOCOL.key and PROTOCOL.chacha20poly1305; bcrypt_pbkdf is the ``bcrypt`` package's, which Paramiko needs as well.
"""

from __future__ import annotations

import base64
from typing import NamedTuple

import bcrypt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, CipherAlgorithm, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pmitogen.transport.keys.chacha20_poly1305 import ChaCha20Poly1305
from pmitogen.transport.keys.wire import Malformed, Reader, string

MAGIC = b"openssh-key-v1\0"
MAX_ROUNDS = 10_000  # of bcrypt_pbkdf; minutes of work. ssh-keygen's default is 16 to 24
_SIZES = {  # name: bytes of key, of IV
    "aes128-cbc": (16, 16), "aes192-cbc": (24, 16), "aes256-cbc": (32, 16),
    "aes128-ctr": (16, 16), "aes192-ctr": (24, 16), "aes256-ctr": (32, 16),
    "aes128-gcm@openssh.com": (16, 12), "aes256-gcm@openssh.com": (32, 12),
    "chacha20-poly1305@openssh.com": (64, 0), "3des-cbc": (24, 8),
}  # fmt: skip


class WrongPassphrase(ValueError):
    """The private part did not come out right."""


class Container(NamedTuple):
    """The outer fields of a key file; *sealed* is the private part, with its tag where the cipher has one."""

    cipher: str
    kdf: str
    kdf_options: bytes
    public_blob: bytes
    sealed: bytes
    tag: bytes


def parse(body: str) -> Container:
    """Read the base64 *body* between the BEGIN and END lines. Raises :class:`Malformed`."""
    try:
        reader = Reader(base64.b64decode("".join(body.split()), validate=True))
    except ValueError as error:
        raise Malformed("not base64") from error
    if reader.take(len(MAGIC)) != MAGIC:
        raise Malformed("no magic")
    cipher, kdf, options = reader.text(), reader.text(), reader.string()
    if reader.u32() != 1:
        raise Malformed("it does not hold one key")
    return Container(cipher, kdf, options, reader.string(), reader.string(), reader.rest())


def unwrap(container: Container, passphrase: str) -> str:
    """The same key file, not encrypted. Raises :class:`WrongPassphrase`, :class:`Malformed`."""
    if container.cipher not in _SIZES or container.kdf != "bcrypt":
        raise Malformed(f"its cipher {container.cipher} ({container.kdf}) is not known")
    size, iv_size = _SIZES[container.cipher]
    options = Reader(container.kdf_options)
    salt, rounds = options.string(), options.u32()
    if not salt or not 0 < rounds <= MAX_ROUNDS:
        raise Malformed("its key derivation is out of bounds")
    derived = bcrypt.kdf(passphrase.encode(), salt, size + iv_size, rounds, ignore_few_rounds=True)
    private = _decrypt(container, derived[:size], derived[size:])
    if len(private) < 8 or private[:4] != private[4:8]:
        raise WrongPassphrase
    plain = MAGIC + string("none") + string("none") + string("") + b"\0\0\0\1" + string(container.public_blob) + string(private)
    encoded = base64.encodebytes(plain).decode()
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{encoded}-----END OPENSSH PRIVATE KEY-----\n"


def _decrypt(container: Container, key: bytes, iv: bytes) -> bytes:
    if container.cipher.startswith("chacha20"):
        private = ChaCha20Poly1305(key).open(0, b"", container.sealed, container.tag)
        if private is None:
            raise WrongPassphrase
        return private
    if "-gcm" in container.cipher:
        try:
            return AESGCM(key).decrypt(iv, container.sealed + container.tag, None)
        except InvalidTag:
            raise WrongPassphrase from None
    if not container.sealed or len(container.sealed) % len(iv):
        raise Malformed("its private part has no whole number of blocks")
    algorithm: CipherAlgorithm = _triple_des(key) if container.cipher == "3des-cbc" else algorithms.AES(key)
    mode = modes.CTR(iv) if container.cipher.endswith("-ctr") else modes.CBC(iv)
    decryptor = Cipher(algorithm, mode).decryptor()
    return decryptor.update(container.sealed) + decryptor.finalize()


def _triple_des(key: bytes) -> CipherAlgorithm:
    try:
        from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
    except ImportError as error:  # before cryptography 43, or after its removal
        raise Malformed("its cipher 3des-cbc is not known") from error
    return TripleDES(key)
