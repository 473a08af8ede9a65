"""The keys of an agent: in memory only, each with its lifetime. No I/O.

One lock guards all of it. No method blocks, except that unlocking with a wrong passphrase is delayed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import os
import threading
import time

from pmitogen.transport.keys.private_key import PrivateKey

MAX_KEYS = 2048  # OpenSSH has no limit; this one bounds the memory that a faulty client can use
UNLOCK_DELAY, MAX_UNLOCK_DELAY = 0.1, 10.0  # seconds, for each wrong passphrase since the last right one


@dataclasses.dataclass(frozen=True, eq=False)
class HeldKey:
    """One identity. *blob* is the public key, or the certificate with it."""

    blob: bytes
    key: PrivateKey
    comment: bytes
    confirm: bool
    expires: float | None  # on the monotonic clock; None: never


class Keyring:
    """The identities of an agent, in the order in which they were added. Thread-safe."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._keys: dict[bytes, HeldKey] = {}
        self._lock_hash: bytes | None = None
        self._salt = os.urandom(16)
        self._failures = 0

    @property
    def locked(self) -> bool:
        """True if a passphrase locks it."""
        return self._lock_hash is not None

    def add(self, held: HeldKey) -> bool:
        """Add a key; one with the same blob is replaced. False if there are too many."""
        with self._mutex:
            if held.blob not in self._keys and len(self._keys) >= MAX_KEYS:
                return False
            self._keys[held.blob] = held
            return True

    def all(self) -> list[HeldKey]:
        """Return the keys that have not expired."""
        with self._mutex:
            self._forget_expired()
            return list(self._keys.values())

    def find(self, blob: bytes) -> HeldKey | None:
        """Return the key with this blob, or None."""
        with self._mutex:
            self._forget_expired()
            return self._keys.get(blob)

    def remove(self, blob: bytes) -> bool:
        """Remove the key with this blob. Returns False if there is none."""
        with self._mutex:
            return self._keys.pop(blob, None) is not None

    def clear(self) -> None:
        """Remove all keys."""
        with self._mutex:
            self._keys.clear()

    def next_expiry(self) -> float | None:
        """Remove expired keys. Returns the seconds until the next one expires, or None."""
        with self._mutex:
            self._forget_expired()
            ends = [held.expires for held in self._keys.values() if held.expires is not None]
            return max(0.0, min(ends) - time.monotonic()) if ends else None

    def lock(self, passphrase: bytes) -> bool:
        """Lock the agent. Returns False if it is locked already."""
        with self._mutex:
            if self._lock_hash is not None:
                return False
            self._lock_hash = self._hash(passphrase)
            return True

    def unlock(self, passphrase: bytes) -> bool:
        """Unlock the agent. Returns False, after a delay, for a wrong passphrase."""
        with self._mutex:
            if self._lock_hash is None:
                return False
            if hmac.compare_digest(self._lock_hash, self._hash(passphrase)):
                self._lock_hash, self._failures = None, 0
                return True
            self._failures += 1
            delay = min(self._failures * UNLOCK_DELAY, MAX_UNLOCK_DELAY)
        time.sleep(delay)
        return False

    def _hash(self, passphrase: bytes) -> bytes:
        return hashlib.scrypt(passphrase, salt=self._salt, n=1 << 14, r=8, p=1)

    def _forget_expired(self) -> None:
        now = time.monotonic()
        for held in [held for held in self._keys.values() if held.expires is not None and held.expires <= now]:
            del self._keys[held.blob]
