"""Paths that another user of this machine cannot have prepared.

In a directory of another user, and in one that several users may write to (``/tmp``), others can plant a file or a link. The name
may be one that is about to be used. The rules here are the kernel's own (``fs.protected_symlinks``,
``protected_regular`` and ``protected_hardlinks`` in proc(5)), which are off on some systems:

- A link is followed only if it belongs to this user or root, or is in a directory that no other user can write to.
- An existing file is used only if it belongs to this user or root, or to the owner of a directory that no other user can write
  to. In a directory that others can write to, it must also have no other name.

In the user's own directories links work as usual: a known_hosts that is a link stays one. Standard library only.
"""

from __future__ import annotations

import errno
import os
import re
import stat

MAX_LINKS = 40  # as the kernel


class UntrustedPath(PermissionError):
    """Another user may have prepared this path. ``strerror`` has the reason."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(errno.EPERM, reason, path)


def trusted_owners() -> tuple[int, ...]:
    """Return the trusted uids: this process's and root's, which in a user namespace may have another number."""
    return os.geteuid(), 0, os.stat("/").st_uid


def is_shared(directory: os.stat_result) -> bool:
    """Return True if users other than the owner can create entries in a directory; also a group, unless it is sticky."""
    mode = directory.st_mode
    return bool(mode & stat.S_IWOTH or (mode & stat.S_IWGRP and mode & stat.S_ISVTX))


def others_can_create(directory: os.stat_result) -> bool:
    """Return True if another user than this one and root can create entries in a directory."""
    return is_shared(directory) or directory.st_uid not in trusted_owners()


def resolve(path: str | os.PathLike[str]) -> str:
    """Return *path* without links, absolute. Raises UntrustedPath for a link that another user may have planted.

    Components that do not exist stay as written, as with os.path.realpath. An open file of a process (``/proc/PID/fd/N``, the
    target of ``/dev/stderr``) is not followed.
    """
    pending = os.path.join(os.getcwd(), path).split("/")[::-1]  # the next component is last
    resolved = "/"
    links = 0
    while pending:
        name = pending.pop()
        if name in ("", "."):
            continue
        if name == "..":
            resolved = os.path.dirname(resolved)
            continue
        component_path = os.path.join(resolved, name)
        try:
            target = os.readlink(component_path)
        except OSError:  # not a link, or it does not exist
            target = ""
        if not target or is_open_file(component_path):
            resolved = component_path
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(path))
        owner = os.lstat(component_path).st_uid
        if owner not in trusted_owners() and others_can_create(os.stat(resolved)):
            raise UntrustedPath(component_path, "is a symbolic link of another user")
        if target.startswith("/"):
            resolved = "/"
        pending += target.split("/")[::-1]
    return resolved


def is_open_file(path: str) -> bool:
    return re.fullmatch(r"/proc/\d+(/task/\d+)?/fd/\d+", path) is not None


def check_file(path: str, status: os.stat_result, directory: os.stat_result) -> None:
    """Check a file with *status*, which is about to be written, and its *directory*. Raises UntrustedPath."""
    if not others_can_create(directory):
        return
    if status.st_uid not in trusted_owners() and (status.st_uid != directory.st_uid or is_shared(directory)):
        raise UntrustedPath(path, "belongs to another user, in a directory that others can write to")
    if stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
        raise UntrustedPath(path, "has several names (hard links), in a directory that others can write to")


def open_for_append(path: str | os.PathLike[str], mode: int = 0o600, *, readable: bool = False) -> int:
    """Open a file to append to it, made with *mode* less the umask if there is none; returns the descriptor.

    *readable*: open it to be read as well. Raises OSError, UntrustedPath.
    """
    return open_to_write(resolve(path), (os.O_RDWR if readable else os.O_WRONLY) | os.O_APPEND, mode)


def open_to_write(real: str, flags: int, mode: int) -> int:
    """Open *real*, a path without links, and check it; returns the descriptor. Raises OSError, UntrustedPath.

    A named pipe of this user blocks until it is opened for reading.
    """
    flags |= os.O_CREAT | os.O_NOCTTY | os.O_CLOEXEC
    directory = os.stat(os.path.dirname(real))
    if not is_open_file(real):
        flags |= os.O_NOFOLLOW
        if not _waits_for_a_reader(real, directory):
            flags |= os.O_NONBLOCK
    descriptor = os.open(real, flags, mode)
    try:
        check_file(real, os.fstat(descriptor), directory)
        if flags & os.O_NONBLOCK:
            os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _waits_for_a_reader(path: str, directory: os.stat_result) -> bool:
    """Return True if *path* is a pipe of a trusted user. Raises UntrustedPath for another user's: it may block forever."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    check_file(path, status, directory)
    return stat.S_ISFIFO(status.st_mode)


def open_own(path: str | os.PathLike[str], *, dir_fd: int | None = None, owners: tuple[int, ...] = ()) -> int:
    """Open a file that this user has written earlier, to read it; returns the descriptor.

    It must be a regular file, not a link, with one name, of this user (or of one of *owners*), and not writable by others. All
    of this is checked on the open descriptor. Raises OSError, UntrustedPath.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=dir_fd)
    status = os.fstat(descriptor)
    reason = None
    if not stat.S_ISREG(status.st_mode):
        reason = "is not a regular file"
    elif status.st_uid not in (os.geteuid(), *owners):
        reason = "belongs to another user"
    elif status.st_mode & 0o022:
        reason = "can be written by others"
    elif status.st_nlink != 1:
        reason = "has several names (hard links)"
    if reason is not None:
        os.close(descriptor)
        raise UntrustedPath(os.fspath(path), reason)
    return descriptor
