"""Files on this side of a transfer."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import IO


@contextlib.contextmanager
def whole_file(target: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A file that takes *target*'s place when all of it is there. What is no regular file is written to as it is."""
    path = os.path.realpath(target)
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as stream:
            yield stream
        return
    folder, name = os.path.split(path)
    number, fresh = tempfile.mkstemp(prefix=f".{name[:64]}.", dir=folder)
    try:
        with os.fdopen(number, "wb") as stream:
            yield stream
            os.fchmod(number, _mode_for(path))
        os.replace(fresh, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise


def _mode_for(path: str) -> int:
    """The mode of the file that is there, or of one that open() would make. Asking for the umask sets it, so it is read."""
    try:
        return os.stat(path).st_mode & 0o7777
    except OSError:
        pass
    try:
        with open("/proc/self/status") as stream:
            mask = next(int(line.split()[1], 8) for line in stream if line.startswith("Umask:"))
    except (OSError, StopIteration):
        mask = 0o077
    return 0o666 & ~mask
