"""Content-addressed store of AnsiballZ archive members, with a manifest for each archive.

An archive is opened once per run, however many hosts and tasks use it. Contents are shared between archives, since most of
every archive is the same module_utils. What a host lacks is compressed once per set of hashes, not per host: a play over
many hosts sends them all the same. Used on the hub's I/O thread only.
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

PACKED_SETS = 64  # compressed sets remembered
# Somebody waits while it is compressed, and further steps save little: of the contents of `setup`, 774 KB, zlib's level 5 makes
# 2 % more in half the time (8 ms less), level 9 0.5 % less in three times the time (45 ms more), and xz's preset 6 10 % less in
# three times the time (160 ms more).
LEVEL = 7
XZ = [{"id": lzma.FILTER_LZMA2, "preset": 3, "lc": 4, "pb": 0}]  # for text
LIMIT = 256 << 20  # bytes that one archive may hold


def digest(data: bytes) -> str:
    """The name of a content."""
    return hashlib.sha256(data).hexdigest()[:32]


class BlobStore:
    """The contents of one run by hash, and the manifests that list them. I/O thread."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self._paths: dict[str, str] = {}  # hash -> where it was first seen: neighbours compress best beside each other
        self._archives: dict[str, str] = {}
        self._members: dict[str, frozenset[str]] = {}
        self._packed: collections.OrderedDict[tuple[str, tuple[str, ...]], bytes] = collections.OrderedDict()

    def manifest_of(self, archive: str) -> str | None:
        """The manifest's hash for an archive named *archive*, or None if it has not been added."""
        return self._archives.get(archive)

    def add_archive(self, archive: str, data: bytes) -> str:
        """Read a zip file; return its manifest's hash. Raises UsageError."""
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as opened:
                if sum(info.file_size for info in opened.infolist()) > LIMIT:
                    raise UsageError(f"module archive: larger than {LIMIT >> 20} MiB")
                files = {info.filename: opened.read(info) for info in opened.infolist()}
        except (zipfile.BadZipFile, NotImplementedError, EOFError, zlib.error) as exc:
            raise UsageError(f"module archive: cannot be read: {exc}") from None
        manifest = self._archives[archive] = self.add_files(files)
        return manifest

    def add_files(self, files: dict[str, bytes]) -> str:
        """Take contents by path; return the hash of their manifest."""
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
        """All hashes that a manifest needs, its own included."""
        return self._members[manifest]

    def pack(self, names: Iterable[str], codec: str = "zlib") -> bytes:
        """Return the body of a ``blobs`` frame: [[hash, size], ...] in JSON, a newline, and the contents, all compressed.

        *codec* is ``zlib`` or ``xz``.
        """
        order = tuple(sorted(names, key=lambda name: (self._paths[name], name)))
        packed = self._packed.get((codec, order))
        if packed is None:
            listed = json.dumps([[name, len(self.contents[name])] for name in order], separators=(",", ":")).encode("ascii")
            data = b"".join([listed, b"\n", *(self.contents[name] for name in order)])
            packed = lzma.compress(data, filters=XZ) if codec == "xz" else zlib.compress(data, LEVEL)
            self._packed[codec, order] = packed
            if len(self._packed) > PACKED_SETS:
                self._packed.popitem(last=False)
        else:
            self._packed.move_to_end((codec, order))
        return packed
