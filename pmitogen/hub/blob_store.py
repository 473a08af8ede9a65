"""Content-addressed store of AnsiballZ archive members, with a manifest for each archive.

An archive is opened once per run, however many hosts and tasks use it. Contents are shared between archives, since most of
every archive is the same module_utils. Missing contents are compressed once per set of hashes, not per host, because a play
sends the same to many hosts. Used on the hub's I/O thread only.
"""

from __future__ import annotations

import collections
import hashlib
import io
import json
import lzma
import zipfile
import zlib
from collections.abc import Iterable

from pmitogen.errors import UsageError

MAX_COMPRESSED_SETS = 64  # compressed sets remembered
# A task waits while its contents are compressed, and higher levels save little. Measured on the contents of `setup` (774 KB):
# zlib's level 5 gives 2 % more bytes in half the time (8 ms less). Level 9 gives 0.5 % fewer bytes in three times the time (45 ms
# more). xz's preset 6 gives 10 % fewer bytes in three times the time (160 ms more).
ZLIB_LEVEL = 7
XZ_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 3, "lc": 4, "pb": 0}]  # for text
MAX_ARCHIVE_SIZE = 256 << 20  # bytes that one archive may hold


def digest(data: bytes) -> str:
    """Return the name of a content."""
    return hashlib.sha256(data).hexdigest()[:32]


class BlobStore:
    """The contents of one run by hash, and the manifests that list them. I/O thread."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self._paths: dict[str, str] = {}  # hash -> where it was first seen: neighbours compress best beside each other
        self._archives: dict[str, str] = {}
        self._members: dict[str, frozenset[str]] = {}
        self._compressed: collections.OrderedDict[tuple[str, tuple[str, ...]], bytes] = collections.OrderedDict()

    def manifest_of(self, archive: str) -> str | None:
        """Return the manifest's hash for the archive named *archive*, or None if it was not added."""
        return self._archives.get(archive)

    def add_archive(self, archive: str, data: bytes) -> str:
        """Read a zip file; return its manifest's hash. Raises UsageError."""
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as opened:
                if sum(member.file_size for member in opened.infolist()) > MAX_ARCHIVE_SIZE:
                    raise UsageError(f"module archive: larger than {MAX_ARCHIVE_SIZE >> 20} MiB")
                files = {member.filename: opened.read(member) for member in opened.infolist()}
        except (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error) as exc:
            raise UsageError(f"module archive: cannot be read: {exc}") from None
        manifest = self._archives[archive] = self.add_files(files)
        return manifest

    def add_files(self, files: dict[str, bytes]) -> str:
        """Add contents by path; return the hash of their manifest."""
        names = {path: digest(content) for path, content in files.items()}
        for path, content in files.items():
            self.contents[names[path]] = content
            self._paths.setdefault(names[path], path)
        text = json.dumps(names, sort_keys=True, separators=(",", ":")).encode("ascii")
        manifest = digest(text)
        self.contents[manifest] = text
        self._paths[manifest] = ""
        self._members[manifest] = frozenset(names.values()) | {manifest}
        return manifest

    def members(self, manifest: str) -> frozenset[str]:
        """Return all hashes of a manifest, including its own."""
        return self._members[manifest]

    def compress(self, names: Iterable[str], codec: str = "zlib") -> bytes:
        """Return the body of a ``blobs`` frame: [[hash, size], ...] in JSON, a newline, and the contents, all compressed.

        *codec* is ``zlib`` or ``xz``.
        """
        order = tuple(sorted(names, key=lambda name: (self._paths[name], name)))
        compressed = self._compressed.get((codec, order))
        if compressed is None:
            listed = json.dumps([[name, len(self.contents[name])] for name in order], separators=(",", ":")).encode("ascii")
            data = b"".join([listed, b"\n", *(self.contents[name] for name in order)])
            compressed = lzma.compress(data, filters=XZ_FILTERS) if codec == "xz" else zlib.compress(data, ZLIB_LEVEL)
            self._compressed[codec, order] = compressed
            if len(self._compressed) > MAX_COMPRESSED_SETS:
                self._compressed.popitem(last=False)
        else:
            self._compressed.move_to_end((codec, order))
        return compressed
