"""Parse known_hosts files, and find the lines that match a host.

Missing upstream (Paramiko 5.1, ``HostKeys``): markers abort the load, patterns never match, and ``[host]:port`` has no fallback.
Only the first of two keys of a type is compared, and key types that Paramiko cannot parse are dropped. A long file with plain and
hashed names takes quadratic time. Upstream is fixed when ``HostKeys.load`` accepts a line with ``@cert-authority``.

For speed, a line is split but not decoded; names without a pattern are indexed; only hashed names and patterns are compared one
by one, and the result for a name is cached. A file is parsed again only if it changes. Source: sshd(8), SSH_KNOWN_HOSTS FILE
FORMAT; OpenSSH's hostfile.c for bad lines, which are skipped.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import shlex
import threading
from collections.abc import Iterable
from typing import NamedTuple

from pmitogen.transport.keys import certificate, public_key
from pmitogen.transport.keys.wire import DecodeError
from pmitogen.util.patterns import match_hostname

NO_MARKER, AUTHORITY, REVOKED = "", "@cert-authority", "@revoked"


def removal(line: KnownHostsLine, name: str) -> str:
    """Return the command that removes the lines of *name* from the file of *line*."""
    return shlex.join(["pmitogen", "keygen", "-f", line.path, "-R", name])


class KnownHostsLine(NamedTuple):
    """One line that is not a comment: names as written, the key still in base64."""

    path: str
    number: int
    marker: str
    names: str
    key_type: str
    key_text: str

    @property
    def location(self) -> str:
        """``file:line``, for messages."""
        return f"{self.path}:{self.number}"

    @property
    def blob(self) -> bytes | None:
        """The decoded key; None where it is not a whole key of the type it says, for which ssh skips the line."""
        try:
            blob = base64.b64decode(self.key_text, validate=True)
            certificate.plain_blob(blob)
            return blob if public_key.blob_type(blob) == self.key_type else None
        except (binascii.Error, ValueError, DecodeError):
            return None

    def is_key(self, blob: bytes) -> bool:
        """Return whether this line has the key *blob*, alone or in a certificate. For lines with a marker."""
        own = self.blob
        return own is not None and blob in (own, certificate.plain_blob(own))


class KnownHosts:
    """The lines of one file, or of a command's output, indexed by name. Safe to share between threads."""

    def __init__(self, lines: Iterable[KnownHostsLine] = ()) -> None:
        self._by_name: dict[str, list[KnownHostsLine]] = {}
        self._by_pattern: list[KnownHostsLine] = []
        self._hashed: list[tuple[bytes, bytes, KnownHostsLine]] = []
        self._found: dict[str, tuple[KnownHostsLine, ...]] = {}
        for line in lines:
            self._add(line)

    @classmethod
    def parse(cls, text: str, path: str) -> KnownHosts:
        """Read the *text* of a known_hosts file called *path*."""
        return cls(line for index, raw in enumerate(text.split("\n"), 1) if (line := parse_line(raw, path, index)))

    def _add(self, line: KnownHostsLine) -> None:
        if line.names.startswith("|"):
            if hashed := _hash_parts(line.names):
                self._hashed.append((*hashed, line))
        elif any(char in line.names for char in "*?!"):
            self._by_pattern.append(line)
        else:
            for name in line.names.lower().split(","):
                self._by_name.setdefault(name, []).append(line)

    def lookup(self, name: str) -> tuple[KnownHostsLine, ...]:
        """Return all lines whose names match *name* (lower case, ``[host]:port`` if the port is not 22), in file order."""
        matching = self._found.get(name)
        if matching is None:
            lines = list(self._by_name.get(name, ()))
            lines += [line for line in self._by_pattern if match_hostname(name, line.names) == 1]
            raw = name.encode()
            lines += [line for salt, digest, line in self._hashed if hmac.digest(salt, raw, "sha1") == digest]
            matching = tuple({line.number: line for line in sorted(lines, key=lambda line: line.number)}.values())
            self._found[name] = matching
        return matching


def parse_line(raw: str, path: str, line_number: int) -> KnownHostsLine | None:
    """Parse one line of the file; None for a comment, an empty line, and a line that ssh would skip."""
    fields = raw.split(None, 4)
    if len(fields) < 3 or fields[0].startswith("#"):
        return None
    marker = NO_MARKER
    if fields[0].startswith("@"):
        marker = fields.pop(0)
        if marker not in (AUTHORITY, REVOKED) or len(fields) < 3:
            return None
    return KnownHostsLine(path, line_number, marker, fields[0], fields[1], fields[2])


def _hash_parts(names: str) -> tuple[bytes, bytes] | None:
    """Return (salt, hash) of ``|1|salt|hash``, which is the only name on its line; None for other names."""
    parts = names.split("|")
    if len(parts) != 4 or parts[1] != "1":
        return None
    try:
        return base64.b64decode(parts[2], validate=True), base64.b64decode(parts[3], validate=True)
    except ValueError:  # not base64, or not ASCII
        return None


def is_hashed_name(text: str) -> bool:
    """Return True if *text* is a hashed name (HashKnownHosts)."""
    return _hash_parts(text) is not None


def hash_name(name: str, salt: bytes | None = None) -> str:
    """Return *name* hashed as for HashKnownHosts."""
    salt = os.urandom(hashlib.sha1(usedforsecurity=False).digest_size) if salt is None else salt
    digest = hmac.digest(salt, name.lower().encode(), "sha1")
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def lookup_name(host: str, port: int) -> str:
    """Return the name of *host* in known_hosts: lower case, ``[host]:port`` where the port is not 22."""
    return host.lower() if port in (0, 22) else f"[{host.lower()}]:{port}"


_cache: dict[str, tuple[tuple[int, ...], KnownHosts]] = {}
_cache_lock = threading.Lock()


def read(path: str) -> KnownHosts:
    """Return the parsed file *path*, parsed again only if it has changed. A pipe or device counts as empty. Raises OSError."""
    stat = os.stat(path)
    signature = (stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_dev)
    with _cache_lock:
        cached = _cache.get(path)
        if cached and cached[0] == signature:
            return cached[1]
        # Read within the lock: fifty hosts that connect at once parse the file once.
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            parsed = KnownHosts.parse(file.read(), path)
        _cache[path] = (signature, parsed)
        return parsed
