"""Read identity files, check their modes, and open each key once per run.

Decrypting a key is slow on purpose (bcrypt: about 0.1 s), and a run logs in to many hosts with one key. A :class:`KeyCache` keeps
opened keys in memory for as long as its owner, the JumpHostPool of a run, is open. The file itself is read for each login.
The public keys in the files beside it are stored until stat(2) of the file changes.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable

from pmitogen.transport.auth.credentials import Secret
from pmitogen.transport.keys import private_key, public_key
from pmitogen.transport.keys.pkcs11_token import Library
from pmitogen.transport.keys.private_key import PrivateKey, UnusableKey
from pmitogen.transport.keys.wire import DecodeError

MAX_SIZE = 1 << 20  # bytes; ssh reads no larger key file either
MAX_PUBLIC = 256  # files whose public keys are stored
SETTLED = 1_000_000_000  # nanoseconds after a change, until when another one could leave the same time in stat(2)


class KeyCache:
    """Opened keys, by the file's path, the digest of its text and the passphrase, and PKCS#11 libraries, by path.

    Thread-safe. Clear it when the run ends.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[tuple[object, ...], PrivateKey] = {}
        self._libraries: dict[str, Library] = {}

    def open(self, name: tuple[object, ...], load: Callable[[], PrivateKey]) -> PrivateKey:
        """Return the key called *name*; call *load* if it is not here. Blocks while another thread loads a key."""
        with self._lock:  # fifty logins with one key decrypt it once
            if name not in self._keys:
                self._keys[name] = load()
            return self._keys[name]

    def library(self, path: str) -> Library:
        """Return the PKCS#11 library at *path*, which is not loaded before its first use."""
        with self._lock:
            return self._libraries.setdefault(path, Library(path))

    def clear(self) -> None:
        """Forget all keys, and log out of the tokens. Idempotent."""
        with self._lock:
            self._keys.clear()
            libraries = list(self._libraries.values())
            self._libraries.clear()
        for library in libraries:
            library.close()


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class KeyFile:
    """A key, or the public half that names one in the agent.

    *source*: its name in messages. *identity*: identifies the file's content in the cache.
    """

    source: str
    text: str
    identity: tuple[object, ...] | None = None
    certificate_paths: tuple[str, ...] = ()

    @property
    def is_public(self) -> bool:
        """True if this is a public key line."""
        return "PRIVATE KEY" not in self.text and public_blob_of(self.text) is not None

    @property
    def public_blob(self) -> bytes | None:
        """The public key, if it is known without the passphrase."""
        if self.is_public:
            return public_blob_of(self.text)
        try:
            return private_key.read_header(self.text).public_blob or self._read_pub_file()
        except UnusableKey:
            return self._read_pub_file()  # a security key's file, say: its .pub still names it in the agent

    def _read_pub_file(self) -> bytes | None:
        try:
            return read_public(self.source + ".pub") if self.identity else None
        except (OSError, UnusableKey):
            return None

    def open(self, passphrase: Secret | None = None, cache: KeyCache | None = None) -> PrivateKey:
        """Return the private key. *cache*: stores the opened key; None: it is not stored. Raises UnusableKey."""
        if self.is_public:
            raise UnusableKey("a public key, and no agent has the private key")

        def load() -> PrivateKey:
            return private_key.load(private_key.read_header(self.text), passphrase.reveal() if passphrase else None)

        if cache is None or self.identity is None:
            return load()
        digest = hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).digest()
        return cache.open((*self.identity, digest, passphrase), load)

    def open_with_prompt(self, prompt: Callable[[str], str | None], attempts: int, cache: KeyCache | None = None) -> PrivateKey:
        """Return the private key, with a passphrase that *prompt* asks the user for, up to *attempts* times.

        *prompt* returns None to give up. Raises UnusableKey.
        """
        last = UnusableKey("encrypted, and no passphrase given", "needed")
        for _ in range(attempts):
            answer = prompt(f"Enter passphrase for key '{self.source}': ")
            if not answer:
                break
            try:
                return self.open(Secret(answer), cache)
            except UnusableKey as problem:
                last = problem
        raise last


def read(path: str) -> KeyFile:
    """Read the identity file at *path*, or its ``.pub`` if there is only that.

    Raises OSError, UnusableKey (bad permissions, too large).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        with open(path + ".pub", encoding="utf-8", errors="replace") as public:
            return KeyFile(path + ".pub", public.read(MAX_SIZE), certificate_paths=(path + "-cert.pub",))
    with open(descriptor, encoding="utf-8", errors="replace") as file:
        status = os.fstat(descriptor)
        text = file.read(MAX_SIZE + 1)
    if len(text) > MAX_SIZE:
        raise UnusableKey(f"too large for a key file; the limit is {MAX_SIZE >> 20} MiB")
    key_file = KeyFile(path, text, (path, status.st_ino, status.st_mtime_ns, status.st_size), (path + "-cert.pub",))
    # As ssh: a key that others may read is not used. The mode of another user's file is not checked.
    if status.st_mode & 0o077 and status.st_uid == os.getuid() and not key_file.is_public:
        raise UnusableKey(f"bad permissions {status.st_mode & 0o777:04o}: accessible by others; run chmod 600")
    return key_file


def public_blob_for(path: str) -> bytes | None:
    """Return the public key of an identity file, from its ``.pub`` or its own header; None if neither has it."""
    try:
        return read(path).public_blob
    except (OSError, UnusableKey):
        try:
            return read_public(path + ".pub")
        except (OSError, UnusableKey):
            return None


def read_public(path: str) -> bytes:
    """Return the blob in a ``.pub`` or ``-cert.pub`` file. Raises OSError, UnusableKey."""
    status = os.stat(path)
    signature = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
    known = _public.get(path)
    if known is not None and known[0] == signature:
        blob = known[1]
    else:
        with open(path, encoding="utf-8", errors="replace") as file:
            blob = public_blob_of(file.read(MAX_SIZE))
        if stat.S_ISREG(status.st_mode) and time.time_ns() - status.st_ctime_ns > SETTLED:
            _remember_public(path, signature, blob)
    if blob is None:
        raise UnusableKey("not a public key or certificate")
    return blob


_public: dict[str, tuple[tuple[int, ...], bytes | None]] = {}  # path: its file, and the blob in it
_public_lock = threading.Lock()


def _remember_public(path: str, signature: tuple[int, ...], blob: bytes | None) -> None:
    with _public_lock:
        while len(_public) >= MAX_PUBLIC:
            del _public[next(iter(_public))]
        _public[path] = signature, blob


def load_public(path: str) -> bytes:
    """Return the blob in the file at *path*, or else in its ``.pub``, as ssh does. Raises OSError, UnusableKey."""
    try:
        return read_public(path)
    except (OSError, UnusableKey) as problem:
        try:
            return read_public(path + ".pub")
        except (OSError, UnusableKey):
            raise problem from None


def public_blob_of(text: str) -> bytes | None:
    """Return the blob of the first ``type base64`` line before any private key, or None."""
    for line in text.splitlines():
        if line.startswith("-----BEGIN"):
            return None
        fields = line.split(None, 2)
        if len(fields) < 2 or line.startswith("#"):
            continue
        try:
            blob = base64.b64decode(fields[1], validate=True)
            if public_key.blob_type(blob) == fields[0]:
                return blob
        except (binascii.Error, ValueError, DecodeError):
            continue
    return None
