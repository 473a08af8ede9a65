"""Zip archive of the tasks' files in memory, with a path that other programs can open.

Over ssh a module is in an archive in a temporary directory. It may start programs that import from that archive: itself under
another interpreter (``respawn_module``), processes of ``multiprocessing`` that are not forked, a script with ``PYTHONPATH``.
The path is the runner's descriptor in /proc. It stays the same, so that code need not be compiled again for another path.
"""

from __future__ import absolute_import

import os
import struct
import sys
import zlib

MYPY = False
if MYPY:
    from typing import Dict, Iterable, List, Optional, Tuple  # noqa: F401
    from pmitogen.target.payload.module_cache import ModuleStore  # noqa: F401

ZIP_ENTRY = struct.Struct("<5H3L2H")  # of the headers: version, flags, method, time, date, CRC, two sizes, two lengths
DOS_DATE = 33  # 1980-01-01
SITECUSTOMIZE = "sitecustomize.py"


def build_zip(files):
    # type: (Iterable[Tuple[str, bytes]]) -> bytes
    """Return an uncompressed zip archive of (path, content) pairs."""
    parts, toc, offset = [], [], 0  # type: Tuple[List[bytes], List[bytes], int]
    for name, data in files:
        raw = name.encode("utf-8")
        about = ZIP_ENTRY.pack(20, 1 << 11, 0, 0, DOS_DATE, zlib.crc32(data) & 0xFFFFFFFF, len(data), len(data), len(raw), 0)
        toc.append(b"PK\1\2\x14\3" + about + struct.pack("<3H2L", 0, 0, 0, 0o100644 << 16, offset) + raw)
        parts += [b"PK\3\4" + about + raw, data]
        offset += len(parts[-2]) + len(data)
    size = sum(map(len, toc))
    return b"".join(parts + toc + [b"PK\5\6" + struct.pack("<4H2LH", 0, 0, len(toc), len(toc), size, offset, 0)])


def sitecustomize(path):
    # type: (str) -> bytes
    """Return the ``sitecustomize.py`` that Ansible's archives have, for a Python with the archive in PYTHONPATH."""
    return ('import sys\nsys.path.insert(0, "%s")\n' % path).encode("utf-8")


def memory_file():
    # type: () -> int
    """Create an empty file in memory and return its descriptor. Raises OSError or AttributeError if unsupported."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("payload.zip")
    import ctypes  # Python before 3.8; the C library has it since glibc 2.27

    fd = ctypes.CDLL(None).memfd_create(b"payload.zip", 1)  # type: int
    if fd < 0:
        raise OSError("memfd_create")
    return fd


def write(fd, files, path):
    # type: (int, List[Tuple[str, bytes]], str) -> None
    """Write the archive of *files*. *path*: the archive's own path."""
    with os.fdopen(os.dup(fd), "wb") as stream:
        stream.write(build_zip(files + [(SITECUSTOMIZE, sitecustomize(path))]))


class Archive(object):
    """The runner's archive. ``path`` is None where the system does not support it."""

    def __init__(self):
        # type: () -> None
        self.path = None  # type: Optional[str]
        self._contained = ()  # type: Tuple[str, ...]
        try:
            self._fd = memory_file()
            path = "/proc/%d/fd/%d" % (os.getpid(), self._fd)
            if os.access(path, os.R_OK):
                self.path = path
        except (OSError, AttributeError, ImportError):
            pass

    def write_files(self, store, digests):
        # type: (ModuleStore, Iterable[str]) -> bool
        """Write the files of these manifests. False if two of them differ in a file, or without ``path``. Raises OSError."""
        if self.path is None:
            return False
        wanted = tuple(sorted(set(digests)))
        if wanted == self._contained:
            return True
        merged = {}  # type: Dict[str, str]
        for digest in wanted:
            manifest = store.manifest(digest)
            if any(merged.get(path, name) != name for path, name in manifest.items()):
                return False
            merged.update(manifest)
        fd = memory_file()  # a new file, so that a process that has opened the old one can still read it
        try:
            write(fd, [(path, store.blobs[name]) for path, name in merged.items()], self.path)
            if sys.version_info < (3, 4):
                os.dup2(fd, self._fd)
            else:
                os.dup2(fd, self._fd, False)
        finally:
            os.close(fd)
        self._contained = wanted
        return True
