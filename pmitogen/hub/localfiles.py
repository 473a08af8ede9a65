"""Files on this side of a transfer."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from typing import IO


@contextlib.contextmanager
def whole_file(target: str | os.PathLike[str], mode: Callable[[], int] = lambda: 0o666) -> Iterator[IO[bytes]]:
    """A file that takes *target*'s place when all of it is there; *mode*, asked then, is what a new one gets, less the umask.

    What cannot be replaced as it is (a device, one of several hard links, another's file) is written to in place.
    """
    path = os.path.realpath(target)
    folder, name = os.path.split(path)
    number = fresh = None
    if _is_replaceable(path):
        with contextlib.suppress(PermissionError):  # a folder in which nothing can be made may hold files that can be written
            number, fresh = tempfile.mkstemp(prefix=f".{name[:64]}.", dir=folder)
    if number is None or fresh is None:
        with open(path, "wb") as stream:
            yield stream
        return
    try:
        with os.fdopen(number, "wb") as stream:
            yield stream
            _make_like(number, path, mode)
        os.replace(fresh, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise


def _is_replaceable(path: str) -> bool:
    try:
        state = os.stat(path)
    except OSError:
        return True
    return stat.S_ISREG(state.st_mode) and state.st_nlink == 1 and os.geteuid() in (0, state.st_uid)


def _make_like(number: int, path: str, mode: Callable[[], int]) -> None:
    """Give an open file the owner and mode of the one that is there, or the mode of a new one."""
    try:
        old = os.stat(path)
    except OSError:
        os.fchmod(number, mode() & ~_umask())
        return
    with contextlib.suppress(PermissionError):
        os.fchown(number, old.st_uid, old.st_gid)
    os.fchmod(number, stat.S_IMODE(old.st_mode))


def _umask() -> int:
    """This process's umask. Asking for it sets it, so it is read."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1], 8) for line in status if line.startswith("Umask:"))
    except (OSError, StopIteration):
        return 0o077
