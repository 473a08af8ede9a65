"""Directories that only this account can read or write.

Standard library only: workers import this in every task.
"""

from __future__ import annotations

import os
import stat

from pmitogen.util.trusted_path import UntrustedPath, trusted_owners


def check(path: str, status: os.stat_result) -> None:
    """Check the result of lstat for *path*: a directory of this account, mode 0700. Raises UntrustedPath."""
    if not stat.S_ISDIR(status.st_mode):
        raise UntrustedPath(path, "is a symbolic link" if stat.S_ISLNK(status.st_mode) else "is not a directory")
    if status.st_uid != os.geteuid():
        raise UntrustedPath(path, f"belongs to uid {status.st_uid}")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise UntrustedPath(path, f"is accessible by others (mode {stat.S_IMODE(status.st_mode):04o})")


def is_private(path: str) -> bool:
    """Return True if *path* is a private directory."""
    try:
        check(path, os.lstat(path))
    except OSError:
        return False
    return True


def make(path: str) -> None:
    """Create a private directory if it does not exist; check an existing one. Raises OSError, UntrustedPath."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    check(path, os.lstat(path))


def check_parents(path: str) -> None:
    """Check that no other user can rename *path* or a directory above it. Raises OSError, UntrustedPath.

    Each directory above must belong to this user or root, and only its owner may write to it, unless it is sticky. The check
    ends at a directory that is closed to all other users.
    """
    path = os.path.realpath(os.path.dirname(path))
    while True:
        status = os.lstat(path)
        if status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077:
            return
        if status.st_uid not in trusted_owners():
            raise UntrustedPath(path, f"belongs to uid {status.st_uid}")
        if status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX:
            raise UntrustedPath(path, f"can be written by others (mode {stat.S_IMODE(status.st_mode):04o})")
        if path == "/":
            return
        path = os.path.dirname(path)
