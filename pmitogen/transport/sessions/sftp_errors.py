"""The errors of the host's system behind the few statuses of SFTP version 3.

OpenSSH's server reports ENOTDIR and ELOOP as "no such file", a long name as "bad message", and a directory in the place of a
file, a full disk and a read-only file system as "failure". Attributes of the path, and of its file system, show which it was.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from typing import TypeVar

from pmitogen.transport.sessions import sftp_packets as packets
from pmitogen.transport.sessions.sftp_client import SFTP
from pmitogen.transport.sessions.sftp_file import CHUNK
from pmitogen.transport.sessions.sftp_packets import SFTPError
from pmitogen.transport.sessions.transfer_errors import name_in

MAX_STEPS = 40  # links that are followed, as on Linux, or directories above a path that are looked at
MAX_NAME, MAX_PATH = 255, 4095  # bytes, on Linux
_Given = TypeVar("_Given")
NO_REASON = "failure; the SFTP server gives no reason"


def error_name(sftp: SFTP, error: SFTPError, path: str, *, writes: bool = False, grows: bool = False) -> str:
    """Return the name of the errno of *error*, which is about *path*; empty if it cannot be found out. Asks the server.

    *writes*: the operation changes the file system; *grows*: and needs space. Raises OSError, EOFError or SSHException if the
    channel ends.
    """
    if error.code == packets.NO_SUCH_FILE:
        return _absence(sftp, path)
    if error.code == packets.PERMISSION_DENIED:
        return "EACCES"
    if error.code == packets.BAD_MESSAGE:
        return "ENAMETOOLONG" if is_too_long(path) else "EINVAL"
    name = name_in(str(error))  # other servers send the system's own text
    if not name and error.code == packets.FAILURE and (writes or grows):
        return _storage_failure(sftp, path, grows)
    return name


def reason(error: SFTPError) -> str:
    """Return the text for the user."""
    is_generic = error.code == packets.FAILURE and str(error).lower() == packets.TEXTS[packets.FAILURE]
    return NO_REASON if is_generic else str(error)


def given(ask: Callable[[str], _Given], path: str) -> _Given | None:
    """Return what *ask* returns about *path*; None if the server does not give it. Raises SFTPError if the session has failed."""
    try:
        return ask(path)
    except SFTPError as error:
        if error.code is None:
            raise
        return None


def above(path: str) -> str:
    """Return the directory of *path*, where relative paths begin at ``.``."""
    return posixpath.dirname(path) or "."


def _absence(sftp: SFTP, path: str) -> str:
    """Return why *path* does not exist."""
    place = path
    for _ in range(MAX_STEPS):
        try:
            state = sftp.stat(place)
        except SFTPError as error:
            if error.code is None:
                raise
            if error.code == packets.PERMISSION_DENIED:
                return "EACCES"
            if _is_loop(sftp, place):
                return "ELOOP"
        else:
            return "ENOENT" if state.is_directory or place == path else "ENOTDIR"
        if place in (".", "/"):
            break
        place = place.rstrip("/") or "/" if place.endswith("/") else above(place)
    return "ENOENT"


def _is_loop(sftp: SFTP, path: str) -> bool:
    """Return whether *path* is a link that leads back to itself."""
    place, seen = path, set[str]()
    while place not in seen and len(seen) < MAX_STEPS:
        seen.add(place)
        try:
            if not sftp.lstat(place).is_link:
                return False
            place = posixpath.normpath(posixpath.join(posixpath.dirname(place), sftp.readlink(place)))
        except SFTPError as error:
            if error.code is None:
                raise
            return False
    return True


def is_too_long(path: str) -> bool:
    """Return whether *path* or a name in it is longer than Linux allows."""
    raw = path.encode("utf-8", "surrogateescape")
    return len(raw) > MAX_PATH or any(len(name) > MAX_NAME for name in raw.split(b"/"))


def _storage_failure(sftp: SFTP, path: str, grows: bool) -> str:
    """Return why the file system of *path* cannot be changed."""
    system = given(sftp.file_system, above(path))
    if system is None:
        return ""
    if system.is_read_only:
        return "EROFS"
    is_full = system.available_blocks * system.block_size < CHUNK or system.files and not system.available_files
    return "ENOSPC" if grows and is_full else ""
