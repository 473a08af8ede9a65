"""Operations on single files and directories over SFTP."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterator
from typing import Any

from pmitogen.protocol.framing import from_wire, to_wire
from pmitogen.transport.sessions.sftp_client import SFTP
from pmitogen.transport.sessions.sftp_packets import NO_SUCH_FILE, PERMISSION_DENIED, Attributes, SFTPError

MAX_ENTRIES = 200_000  # of a whole tree


class Refusal(Exception):
    """The server refuses an operation: the name of the error, the path, and a text instead of the usual one."""

    def __init__(self, code: str, path: str, text: str = "") -> None:
        super().__init__(code)
        self.code, self.path, self.text = code, path, text


@contextlib.contextmanager
def refusals(sftp: SFTP, path: str) -> Iterator[None]:
    """Translate a status of the server. If the status is ambiguous, the attributes of *path* decide."""
    try:
        yield
    except SFTPError as exc:
        if exc.code is None:
            raise
        raise Refusal({NO_SUCH_FILE: "ENOENT", PERMISSION_DENIED: "EACCES"}.get(exc.code, "EIO"), path) from None


def path_of(sftp: SFTP, wire: str) -> str:
    """Return a path for the server, where relative paths begin at the account's home."""
    path = str(from_wire(wire).decode("utf-8", "surrogateescape"))
    if path == "~" or path.startswith("~/"):
        return "." + path[1:]
    if path.startswith("~"):
        with refusals(sftp, path):
            return sftp.expand_path(path)
    return path


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def lstat(sftp: SFTP, path: str) -> Attributes | None:
    """Return the attributes, or None if the path does not exist."""
    try:
        return sftp.lstat(path)
    except SFTPError as exc:
        if exc.code == NO_SUCH_FILE:
            return None
        raise


def _fields(attrs: Attributes) -> list[int]:
    owner, mtime = (attrs.uid or 0, attrs.gid or 0), attrs.mtime or 0
    return [attrs.mode or 0, 0, 0, 0, *owner, attrs.size or 0, attrs.atime or mtime, mtime, mtime]


def list_entries(sftp: SFTP, path: str) -> list[tuple[str, Attributes]]:
    """Return the names and attributes in a directory, sorted as bytes are."""
    try:
        with refusals(sftp, path):
            entries = [(entry.name, entry.attributes) for piece in sftp.list_directory(path) for entry in piece]
    except Refusal as exc:
        state = lstat(sftp, path) if exc.code in ("ENOENT", "EIO") else None
        if state is not None and not state.is_directory and not state.is_link:
            raise Refusal("ENOTDIR", path) from None
        raise
    return sorted(entries, key=lambda each: _bytes(each[0]))


def stat(sftp: SFTP, wire: str, follow: bool) -> list[int]:
    path = path_of(sftp, wire)
    with refusals(sftp, path):
        return _fields(sftp.stat(path) if follow else sftp.lstat(path))


def exists(sftp: SFTP, wire: str) -> bool:
    path = path_of(sftp, wire)
    with refusals(sftp, path):
        return lstat(sftp, path) is not None


def listdir(sftp: SFTP, wire: str) -> list[str]:
    return [to_wire(name) for name, _ in list_entries(sftp, path_of(sftp, wire))]


def scandir(sftp: SFTP, wire: str) -> list[list[Any]]:
    return [[to_wire(name), _fields(state)] for name, state in list_entries(sftp, path_of(sftp, wire))]


def walk(sftp: SFTP, wire: str) -> list[list[Any]]:
    top, listing, count = path_of(sftp, wire), [], 0
    waiting = [(top, str(from_wire(wire).decode("utf-8", "surrogateescape")))]
    while waiting:
        path, shown = waiting.pop()
        entries = list_entries(sftp, path)
        directories = [name for name, state in entries if state.is_directory]
        others = [name for name, state in entries if not state.is_directory]
        count += len(entries)
        if count > MAX_ENTRIES:
            raise Refusal("E2BIG", top)
        listing.append([to_wire(shown), [to_wire(name) for name in directories], [to_wire(name) for name in others]])
        waiting += [(posixpath.join(path, name), posixpath.join(shown, name)) for name in reversed(directories)]
    return listing


def mkdir(sftp: SFTP, wire: str, mode: int, parents: bool, exist_ok: bool) -> None:
    path = path_of(sftp, wire)
    above = posixpath.dirname(path)
    if parents and above and lstat(sftp, above) is None:
        mkdir(sftp, to_wire(above), 0o777, True, True)
    try:
        with refusals(sftp, path):
            sftp.mkdir(path, mode)
    except Refusal as exc:
        state = lstat(sftp, path) if exc.code == "EIO" else None
        if state is not None and not (exist_ok and state.is_directory):
            raise Refusal("EEXIST", path) from None
        if state is None:
            raise


def remove(sftp: SFTP, wire: str, recursive: bool, missing_ok: bool) -> None:
    path = path_of(sftp, wire)
    with refusals(sftp, path):
        state = lstat(sftp, path)
    if state is None:
        if missing_ok:
            return
        raise Refusal("ENOENT", path)
    if not state.is_directory:
        with refusals(sftp, path):
            sftp.remove(path)
        return
    inside = list_entries(sftp, path)
    if inside and not recursive:
        raise Refusal("ENOTEMPTY", path)
    for name, _ in inside:
        remove(sftp, to_wire(posixpath.join(path, name)), True, True)
    with refusals(sftp, path):
        sftp.rmdir(path)


def rename(sftp: SFTP, source: str, target: str) -> None:
    old, new = path_of(sftp, source), path_of(sftp, target)
    with refusals(sftp, old):
        sftp.replace(old, new)


def symlink(sftp: SFTP, target: str, wire: str) -> None:
    path = path_of(sftp, wire)
    try:
        with refusals(sftp, path):
            sftp.symlink(str(from_wire(target).decode("utf-8", "surrogateescape")), path)
    except Refusal as exc:
        if exc.code == "EIO" and lstat(sftp, path) is not None:
            raise Refusal("EEXIST", path) from None
        raise


def readlink(sftp: SFTP, wire: str) -> str:
    path = path_of(sftp, wire)
    with refusals(sftp, path):
        return to_wire(sftp.readlink(path))


def chmod(sftp: SFTP, wire: str, mode: int) -> None:
    path = path_of(sftp, wire)
    with refusals(sftp, path):
        sftp.set_attributes(path, Attributes(mode=mode))


def chown(sftp: SFTP, wire: str, user: str | int | None, group: str | int | None, follow: bool) -> None:
    """Set the owner and group, which are numbers only: the server has no names."""
    path = path_of(sftp, wire)
    for name in (user, group):
        if isinstance(name, str):
            raise Refusal("EINVAL", path, f"without Python on the host, use a number instead of the name {name!r}")
    with refusals(sftp, path):
        state = sftp.stat(path) if follow else sftp.lstat(path)
    if state.is_link:
        raise Refusal("EINVAL", path, "SFTP cannot change the owner of a link itself")
    owner, owning_group = (given if isinstance(given, int) else known for given, known in ((user, state.uid), (group, state.gid)))
    with refusals(sftp, path):
        sftp.set_attributes(path, Attributes(uid=owner, gid=owning_group))
