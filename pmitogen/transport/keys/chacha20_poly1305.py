"""``chacha20-poly1305@openssh.com``, OpenSSH's combination of ChaCha20 and Poly1305 (PROTOCOL.chacha20poly1305).

It is not RFC 8439's, which the ``cryptography`` package has ready: the nonce is the 64-bit packet number, the length field is
encrypted under a key of its own, and Poly1305 covers the two ciphertexts without lengths.

Missing upstream: Paramiko (5.1) has no such cipher. Upstream is fixed when ``paramiko.Transport._cipher_info`` has the name;
then this file remains for private key files alone (key_decryption).
"""

from __future__ import annotations

import hmac

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.poly1305 import Poly1305

NAME = "chacha20-poly1305@openssh.com"
KEY_SIZE = 64  # bytes: the packets' key, then the length fields'
_COUNTER_0, _COUNTER_1 = bytes(8), (1).to_bytes(8, "little")


class ChaCha20Poly1305:
    """The cipher with one key of :data:`KEY_SIZE` bytes, or of 32 where there is no length field. Not thread-safe."""

    def __init__(self, key: bytes) -> None:
        self._body = _Stream(key[:32])
        self._head = _Stream(key[32:] or key[:32])

    def crypt_head(self, sequence: int, head: bytes | memoryview) -> bytes:
        """Encrypt or decrypt the length field of packet *sequence*."""
        return self._head.crypt(_COUNTER_0, sequence, head)

    def seal(self, sequence: int, head: bytes, body: bytes) -> bytes:
        """Encrypt packet *sequence*; returns the length field, the body and the tag."""
        tag_key = self._body.crypt(_COUNTER_0, sequence, bytes(32))
        sealed = self.crypt_head(sequence, head) + self._body.crypt(_COUNTER_1, sequence, body)
        return sealed + Poly1305.generate_tag(tag_key, sealed)

    def open(self, sequence: int, head: bytes | memoryview, body: bytes | memoryview, tag: bytes | memoryview) -> bytes | None:
        """Decrypt the body of packet *sequence*, whose *head* is authenticated with it; None if *tag* does not fit."""
        authenticator = Poly1305(self._body.crypt(_COUNTER_0, sequence, bytes(32)))
        authenticator.update(head)
        authenticator.update(body)
        if not hmac.compare_digest(authenticator.finalize(), tag):
            return None
        return self._body.crypt(_COUNTER_1, sequence, body)


class _Stream:
    """ChaCha20 under one key. Making a new cipher for each packet costs 4 us more than setting a nonce (cryptography 43)."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._context = Cipher(algorithms.ChaCha20(key, bytes(16)), None).encryptor()
        self._can_reset = hasattr(self._context, "reset_nonce")

    def crypt(self, counter: bytes, sequence: int, data: bytes | memoryview) -> bytes:
        nonce = counter + sequence.to_bytes(8, "big")
        if self._can_reset:
            self._context.reset_nonce(nonce)
            return self._context.update(data)
        return Cipher(algorithms.ChaCha20(self._key, nonce), None).encryptor().update(data)
