"""The files of the tasks as a zip archive that exists: in memory, on no disk, with a path that other programs can open.

A module over ssh lies in an archive in a temporary directory. It may start programs that import from there: itself under another
interpreter (``respawn_module``), processes of ``multiprocessing`` that are not forked, a script with ``PYTHONPATH``. The path is
the runner's descriptor in /proc, and stays the same, so that what was compiled with it need not be compiled again.
"""

from __future__ import absolute_import

import os
import struct
import sys
import zlib

ZIP_ENTRY = struct.Struct("<5H3L2H")  # of the headers: version, flags, method, time, date, CRC, two sizes, two lengths
DOS_DATE = 33  # 1980-01-01
SITECUSTOMIZE = "sitecustomize.py"


def build_zip(files):
    """A zip archive, nothing in it compressed, of (path, content) pairs."""
    parts, toc, offset = [], [], 0
    for name, data in files:
        raw = name.encode("utf-8")
        about = ZIP_ENTRY.pack(20, 1 << 11, 0, 0, DOS_DATE, zlib.crc32(data) & 0xFFFFFFFF, len(data), len(data), len(raw), 0)
        toc.append(b"PK\1\2\x14\3" + about + struct.pack("<3H2L", 0, 0, 0, 0o100644 << 16, offset) + raw)
        parts += [b"PK\3\4" + about + raw, data]
        offset += len(parts[-2]) + len(data)
    size = sum(map(len, toc))
    return b"".join(parts + toc + [b"PK\5\6" + struct.pack("<4H2LH", 0, 0, len(toc), len(toc), size, offset, 0)])


def sitecustomize(path):
    """The file of that name in Ansible's own archives: for a Python that is told of one by PYTHONPATH."""
    return ('import sys\nsys.path.insert(0, "%s")\n' % path).encode("utf-8")


def memory_file():
    """The descriptor of an empty file in memory. Raises OSError or AttributeError where there is no such thing."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("payload.zip")
    import ctypes  # Python before 3.8; the C library has it since glibc 2.27

    fd = ctypes.CDLL(None).memfd_create(b"payload.zip", 1)
    if fd < 0:
        raise OSError("memfd_create")
    return fd


def write(fd, files, path):
    """Write the archive of *files*, which will be found under *path*."""
    with os.fdopen(os.dup(fd), "wb") as stream:
        stream.write(build_zip(files + [(SITECUSTOMIZE, sitecustomize(path))]))


class Archive(object):
    """The runner's. ``path`` is None where there can be none."""

    def __init__(self):
        self.path = None
        self._contained = ()
        try:
            self._fd = memory_file()
            path = "/proc/%d/fd/%d" % (os.getpid(), self._fd)
            if os.access(path, os.R_OK):
                self.path = path
        except (OSError, AttributeError, ImportError):
            pass

    def contain(self, store, digests):
        """Have it contain the files of these manifests; False if they contradict each other. Raises OSError."""
        wanted = tuple(sorted(set(digests)))
        if wanted == self._contained:
            return True
        merged = {}
        for digest in wanted:
            manifest = store.manifest(digest)
            if any(merged.get(path, name) != name for path, name in manifest.items()):
                return False
            merged.update(manifest)
        fd = memory_file()  # another one, so that who has opened it goes on to read what was in it
        try:
            write(fd, [(path, store.blobs[name]) for path, name in merged.items()], self.path)
            os.dup2(fd, self._fd, *([] if sys.version_info < (3, 4) else [False]))
        finally:
            os.close(fd)
        self._contained = wanted
        return True
