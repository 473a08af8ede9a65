"""Operations on files of a host without Python, over SFTP: those of target/library/remote_files.py that SFTP can do.

They return the same values. SFTP gives less information: numbers of devices, inodes and links are 0, and the status "failure"
is EIO unless the attributes of the path show the reason. Each operation opens a session. All functions block.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
from collections.abc import Callable, Iterator
from typing import Any

import paramiko

from pmitogen.errors import ConnectionLost, RemoteError
from pmitogen.protocol.framing import from_wire, to_wire
from pmitogen.transport.connection import Connection
from pmitogen.transport.keys.wire import DecodeError
from pmitogen.transport.sessions import exec_command
from pmitogen.transport.sessions.sftp_client import SFTP
from pmitogen.transport.sessions.sftp_packets import NO_SUCH_FILE, PERMISSION_DENIED, Attributes, SFTPError

TIMEOUT = 60.0  # seconds for the session to open
MAX_ENTRIES = 200_000  # of a whole tree


def perform(connection: Connection, name: str, arguments: list[Any]) -> dict[str, Any]:
    """Do an operation with paths as in frames. Return {"value": ...}, or an error. Raises RemoteError, ConnectionLost."""
    with _session(connection) as sftp:
        try:
            return {"value": OPERATIONS[name](sftp, *arguments)}
        except _Refusal as exc:
            return {"errno": exc.code, "text": os.strerror(getattr(errno, exc.code)), "path": to_wire(_bytes(exc.path))}


class _Refusal(Exception):
    """The server refuses an operation: the name of the error, and the path."""

    def __init__(self, code: str, path: str) -> None:
        super().__init__(code)
        self.code, self.path = code, path


@contextlib.contextmanager
def _session(connection: Connection) -> Iterator[SFTP]:
    channel = connection.open_session(TIMEOUT, exec_command.WINDOW)
    try:
        if not connection.start_subsystem(channel, "sftp", timeout=TIMEOUT):
            raise RemoteError(f"{connection.peer}: the host has neither Python nor SFTP")
        channel.settimeout(TIMEOUT)
        yield SFTP(channel)
    except (OSError, EOFError, paramiko.SSHException, SFTPError, DecodeError) as exc:
        if connection.end_reason is not None:
            raise ConnectionLost(f"{connection.peer}: {connection.end_reason}") from None
        raise RemoteError(f"{connection.peer}: SFTP: {exc or 'the server ended it'}") from None
    finally:
        channel.close()


@contextlib.contextmanager
def _refusals(sftp: SFTP, path: str) -> Iterator[None]:
    """Translate a status of the server. If the status is ambiguous, the attributes of *path* decide."""
    try:
        yield
    except SFTPError as exc:
        if exc.code is None:
            raise
        raise _Refusal({NO_SUCH_FILE: "ENOENT", PERMISSION_DENIED: "EACCES"}.get(exc.code, "EIO"), path) from None


def _path(sftp: SFTP, wire: str) -> str:
    """A path for the server, whose relative ones begin at the account's home."""
    path = str(from_wire(wire).decode("utf-8", "surrogateescape"))
    if path == "~" or path.startswith("~/"):
        return "." + path[1:]
    if path.startswith("~"):
        with _refusals(sftp, path):
            return sftp.expand_path(path)
    return path


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _wire(path: str) -> str:
    return to_wire(_bytes(path))


def _lstat(sftp: SFTP, path: str) -> Attributes | None:
    """The attributes, or None if there is nothing."""
    try:
        return sftp.lstat(path)
    except SFTPError as exc:
        if exc.code == NO_SUCH_FILE:
            return None
        raise


def _fields(attrs: Attributes) -> list[int]:
    owner, mtime = (attrs.uid or 0, attrs.gid or 0), attrs.mtime or 0
    return [attrs.mode or 0, 0, 0, 0, *owner, attrs.size or 0, attrs.atime or mtime, mtime, mtime]


def _entries(sftp: SFTP, path: str) -> list[tuple[str, Attributes]]:
    """Names and attributes in a directory, sorted as bytes are."""
    try:
        with _refusals(sftp, path):
            entries = [(entry.name, entry.attributes) for piece in sftp.list_directory(path) for entry in piece]
    except _Refusal as exc:
        state = _lstat(sftp, path) if exc.code in ("ENOENT", "EIO") else None
        if state is not None and not state.is_directory and not state.is_link:
            raise _Refusal("ENOTDIR", path) from None
        raise
    return sorted(entries, key=lambda each: _bytes(each[0]))


def stat(sftp: SFTP, wire: str, follow: bool) -> list[int]:
    path = _path(sftp, wire)
    with _refusals(sftp, path):
        return _fields(sftp.stat(path) if follow else sftp.lstat(path))


def exists(sftp: SFTP, wire: str) -> bool:
    path = _path(sftp, wire)
    with _refusals(sftp, path):
        return _lstat(sftp, path) is not None


def listdir(sftp: SFTP, wire: str) -> list[str]:
    return [_wire(name) for name, _ in _entries(sftp, _path(sftp, wire))]


def scandir(sftp: SFTP, wire: str) -> list[list[Any]]:
    return [[_wire(name), _fields(state)] for name, state in _entries(sftp, _path(sftp, wire))]


def walk(sftp: SFTP, wire: str) -> list[list[Any]]:
    top, listing, count = _path(sftp, wire), [], 0
    waiting = [(top, str(from_wire(wire).decode("utf-8", "surrogateescape")))]
    while waiting:
        path, shown = waiting.pop()
        entries = _entries(sftp, path)
        directories = [name for name, state in entries if state.is_directory]
        others = [name for name, state in entries if not state.is_directory]
        count += len(entries)
        if count > MAX_ENTRIES:
            raise _Refusal("E2BIG", top)
        listing.append([_wire(shown), [_wire(name) for name in directories], [_wire(name) for name in others]])
        waiting += [(posixpath.join(path, name), posixpath.join(shown, name)) for name in reversed(directories)]
    return listing


def mkdir(sftp: SFTP, wire: str, mode: int, parents: bool, exist_ok: bool) -> None:
    path = _path(sftp, wire)
    above = posixpath.dirname(path)
    if parents and above and _lstat(sftp, above) is None:
        mkdir(sftp, _wire(above), 0o777, True, True)
    try:
        with _refusals(sftp, path):
            sftp.mkdir(path, mode)
    except _Refusal as exc:
        state = _lstat(sftp, path) if exc.code == "EIO" else None
        if state is not None and not (exist_ok and state.is_directory):
            raise _Refusal("EEXIST", path) from None
        if state is None:
            raise


def remove(sftp: SFTP, wire: str, recursive: bool, missing_ok: bool) -> None:
    path = _path(sftp, wire)
    with _refusals(sftp, path):
        state = _lstat(sftp, path)
    if state is None:
        if missing_ok:
            return
        raise _Refusal("ENOENT", path)
    if not state.is_directory:
        with _refusals(sftp, path):
            sftp.remove(path)
        return
    inside = _entries(sftp, path)
    if inside and not recursive:
        raise _Refusal("ENOTEMPTY", path)
    for name, _ in inside:
        remove(sftp, _wire(posixpath.join(path, name)), True, True)
    with _refusals(sftp, path):
        sftp.rmdir(path)


def rename(sftp: SFTP, source: str, target: str) -> None:
    old, new = _path(sftp, source), _path(sftp, target)
    with _refusals(sftp, old):
        sftp.replace(old, new)


def symlink(sftp: SFTP, target: str, wire: str) -> None:
    path = _path(sftp, wire)
    try:
        with _refusals(sftp, path):
            sftp.symlink(str(from_wire(target).decode("utf-8", "surrogateescape")), path)
    except _Refusal as exc:
        if exc.code == "EIO" and _lstat(sftp, path) is not None:
            raise _Refusal("EEXIST", path) from None
        raise


def readlink(sftp: SFTP, wire: str) -> str:
    path = _path(sftp, wire)
    with _refusals(sftp, path):
        return _wire(sftp.readlink(path))


def chmod(sftp: SFTP, wire: str, mode: int) -> None:
    path = _path(sftp, wire)
    with _refusals(sftp, path):
        sftp.set_attributes(path, Attributes(mode=mode))


OPERATIONS: dict[str, Callable[..., Any]] = {
    "stat": stat,
    "exists": exists,
    "listdir": listdir,
    "scandir": scandir,
    "walk": walk,
    "mkdir": mkdir,
    "remove": remove,
    "rename": rename,
    "symlink": symlink,
    "readlink": readlink,
    "chmod": chmod,
}
