"""Write files atomically: under a temporary name in the same directory, then rename.

The temporary file is created with O_EXCL, so that no other user can have planted a file there. Standard library only.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from typing import IO

from pmitogen.util import trusted_path

PRESERVED_MODE_BITS = 0o1777  # of a replaced file: a write in place clears setuid and setgid, too

MAX_NAME = 64  # characters of the file's name that the temporary name repeats


@contextlib.contextmanager
def create(path: str | os.PathLike[str], mode: int = 0o600, *, dir_fd: int | None = None) -> Iterator[IO[bytes]]:
    """Create a file atomically when the block ends; replace an existing one (a link is replaced, not followed).

    :param mode: the file's mode, before the umask.
    :param dir_fd: a directory to which *path* is relative.

    Raises OSError. If the block raises, nothing is changed.
    """
    directory, name = os.path.split(os.fspath(path))
    temporary = os.path.join(directory, f".{name[:MAX_NAME]}.{os.urandom(6).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(temporary, flags, mode, dir_fd=dir_fd)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None  # the caller knows no temporary name
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
        os.rename(temporary, path, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=dir_fd)
        raise


@contextlib.contextmanager
def atomic_write(target: str | os.PathLike[str], mode: Callable[[], int] = lambda: 0o666) -> Iterator[IO[bytes]]:
    """Write a file atomically when the block ends, at a path from the user; links are followed.

    An existing file keeps its owner and mode. A file that cannot be replaced (a device, one of several hard links, another user's
    file, one in a read-only directory) is written in place.

    :param mode: called at the end of the block; returns a new file's mode, before the umask.

    Raises OSError; :class:`pmitogen.util.trusted_path.UntrustedPath` if another user may have planted the file.
    """
    path = trusted_path.resolve(target)
    if _is_replaceable(path):
        attempt = contextlib.ExitStack()
        try:
            stream = attempt.enter_context(create(path))
        except PermissionError:
            pass
        else:
            with attempt:
                yield stream
                stream.flush()
                _copy_metadata(stream.fileno(), path, mode)
            return
    with _open_in_place(path) as stream:
        yield stream


def _is_replaceable(path: str) -> bool:
    try:
        status = os.lstat(path)
    except OSError:
        return True
    trusted_path.check_file(path, status, os.stat(os.path.dirname(path)))
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and os.geteuid() in (0, status.st_uid)


def _open_in_place(path: str) -> IO[bytes]:
    """Open an existing file for writing; check it before truncating it."""
    descriptor = trusted_path.open_to_write(path, os.O_WRONLY, 0o666)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "wb")


def _copy_metadata(descriptor: int, path: str, mode: Callable[[], int]) -> None:
    """Give an open file the owner and mode of the existing one, or the mode of a new one."""
    try:
        old = os.lstat(path)
    except OSError:
        os.fchmod(descriptor, mode() & ~current_umask())
        return
    with contextlib.suppress(PermissionError):
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, old.st_mode & PRESERVED_MODE_BITS)


def current_umask() -> int:
    """Return this process's umask, or 0o077 if it cannot be read: os.umask() would change it for all threads."""
    if threading.active_count() == 1:
        os.umask(umask := os.umask(0o077))
        return umask
    try:
        with open("/proc/self/status", "rb") as status:
            return int(status.read(4096).partition(b"\nUmask:")[2].split(None, 1)[0], 8)
    except (OSError, IndexError, ValueError):
        return 0o077
