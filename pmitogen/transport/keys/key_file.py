"""Identity files: reading, judging their modes, and opening each encrypted key once per process.

Opening a key is slow on purpose (bcrypt: some 0.1 s), and a hub logs in to many hosts with one key, so an opened key is kept,
in memory only, under the file's identity and the passphrase that opened it. Any change of the file makes it be read again.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import os
import threading
from collections.abc import Callable

from pmitogen.transport.auth.credentials import Secret
from pmitogen.transport.keys import private_key, public_key
from pmitogen.transport.keys.private_key import KeyFileHeader, PrivateKey, UnusableKey
from pmitogen.transport.keys.wire import DecodeError

MAX_SIZE = 1 << 20  # bytes; ssh reads no larger key file either
_key_cache: dict[tuple[object, ...], PrivateKey] = {}
_opening = threading.Lock()


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class KeyFile:
    """A key, or the public half that names one in the agent.

    *source* names it in messages; *identity* is the file's, for the cache.
    """

    source: str
    text: str
    identity: tuple[object, ...] | None = None
    certificate_paths: tuple[str, ...] = ()

    @property
    def is_public(self) -> bool:
        """Whether this is a public key line."""
        return "PRIVATE KEY" not in self.text and public_blob_of(self.text) is not None

    @property
    def public_blob(self) -> bytes | None:
        """The public half, as far as it can be told without the passphrase."""
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

    def open(self, passphrase: Secret | None = None) -> PrivateKey:
        """The private key. Raises UnusableKey."""
        if self.is_public:
            raise UnusableKey("is a public key, and no agent holds its private half")
        return self._open_once(private_key.read_header(self.text), passphrase)

    def open_with_prompt(self, prompt: Callable[[str], str | None], prompts: int) -> PrivateKey:
        """The private key, with a passphrase from a person, who has *prompts* tries. Raises UnusableKey."""
        last = UnusableKey("is encrypted and no passphrase is given", "needed")
        for _ in range(prompts):
            answer = prompt(f"Enter passphrase for key '{self.source}': ")
            if not answer:
                break
            try:
                return self.open(Secret(answer))
            except UnusableKey as problem:
                last = problem
        raise last

    def _open_once(self, header: KeyFileHeader, passphrase: Secret | None) -> PrivateKey:
        if self.identity is None or not header.encrypted:
            return private_key.load(header, passphrase.reveal() if passphrase else None)
        name = (*self.identity, passphrase)
        with _opening:  # so that fifty logins open it once
            if name not in _key_cache:
                _key_cache[name] = private_key.load(header, passphrase.reveal() if passphrase else None)
            return _key_cache[name]


def read(path: str) -> KeyFile:
    """The identity file at *path*; its ``.pub`` alone will do. Raises OSError, UnusableKey (modes too open, too large)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        with open(path + ".pub", encoding="utf-8", errors="replace") as public:
            return KeyFile(path + ".pub", public.read(MAX_SIZE), certificate_paths=(path + "-cert.pub",))
    with open(descriptor, encoding="utf-8", errors="replace") as file:
        stat = os.fstat(descriptor)
        text = file.read(MAX_SIZE + 1)
    if len(text) > MAX_SIZE:
        raise UnusableKey("is too large to be a key")
    found = KeyFile(path, text, (path, stat.st_ino, stat.st_mtime_ns, stat.st_size), (path + "-cert.pub",))
    # As ssh: a key that others may read is not used. Only where the file is ours; mode bits of a foreign owner are his business.
    if stat.st_mode & 0o077 and stat.st_uid == os.getuid() and not found.is_public:
        raise UnusableKey(f"others may read it (mode {stat.st_mode & 0o777:04o}): chmod 600 it")
    return found


def public_blob_for(path: str) -> bytes | None:
    """The public key that an identity file stands for, by its ``.pub`` or its own header; None where that cannot be told."""
    try:
        return read(path).public_blob
    except (OSError, UnusableKey):
        try:
            return read_public(path + ".pub")
        except (OSError, UnusableKey):
            return None


def read_public(path: str) -> bytes:
    """The blob in a ``.pub`` or ``-cert.pub`` file. Raises OSError, UnusableKey."""
    with open(path, encoding="utf-8", errors="replace") as file:
        blob = public_blob_of(file.read(MAX_SIZE))
    if blob is None:
        raise UnusableKey("is not a public key or certificate")
    return blob


def load_public(path: str) -> bytes:
    """The blob in the file at *path*, or else in its ``.pub``, as ssh looks for it. Raises OSError, UnusableKey."""
    try:
        return read_public(path)
    except (OSError, UnusableKey) as problem:
        try:
            return read_public(path + ".pub")
        except (OSError, UnusableKey):
            raise problem from None


def public_blob_of(text: str) -> bytes | None:
    """The blob of the first ``type base64`` line before any private key; None where there is none."""
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
