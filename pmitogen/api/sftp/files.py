"""Operations on single files and directories over SFTP."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterator
from typing import Any

from pmitogen.protocol.framing import from_wire, to_wire
from pmitogen.transport.sessions import sftp_errors
from pmitogen.transport.sessions.sftp_client import SFTP, STATVFS
from pmitogen.transport.sessions.sftp_errors import given
from pmitogen.transport.sessions.sftp_packets import BAD_MESSAGE, FAILURE, NO_SUCH_FILE, Attributes, SFTPError

MAX_ENTRIES = 200_000  # of a whole tree


class Refusal(Exception):
    """The server refuses an operation: the name of the error, the path, and a text instead of the usual one.

    *status*: that of SFTP; None: this client refuses it.
    """

    def __init__(self, code: str, path: str, text: str = "", status: int | None = None) -> None:
        super().__init__(code)
        self.code, self.path, self.text, self.status = code, path, text, status


@contextlib.contextmanager
def refusals(sftp: SFTP, path: str, *, writes: bool = False, grows: bool = False) -> Iterator[None]:
    """Translate a status of the server. If it is ambiguous, the attributes of *path* and of its file system decide.

    *writes*, *grows*: as of error_name in transport/sessions/sftp_errors.py.
    """
    try:
        yield
    except SFTPError as exc:
        if exc.code is None:
            raise
        name = sftp_errors.error_name(sftp, exc, path, writes=writes, grows=grows)
        raise Refusal(name or "EIO", path, "" if name else sftp_errors.reason(exc), exc.code) from None


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


def _fields(attrs: Attributes) -> list[int]:
    owner, mtime = (attrs.uid or 0, attrs.gid or 0), attrs.mtime or 0
    return [attrs.mode or 0, 0, 0, 0, *owner, attrs.size or 0, attrs.atime or mtime, mtime, mtime]


def list_entries(sftp: SFTP, path: str) -> list[tuple[str, Attributes]]:
    """Return the names and attributes in a directory, sorted as bytes are."""
    try:
        with refusals(sftp, path):
            entries = [(entry.name, entry.attributes) for piece in sftp.list_directory(path) for entry in piece]
    except Refusal as exc:
        state = given(sftp.stat, path) if exc.status in (NO_SUCH_FILE, FAILURE) else None
        if state is not None and not state.is_directory:
            raise Refusal("ENOTDIR", path) from None
        raise
    return sorted(entries, key=lambda each: _bytes(each[0]))


def stat(sftp: SFTP, wire: str, follow: bool) -> list[int]:
    path = path_of(sftp, wire)
    with refusals(sftp, path):
        return _fields(sftp.stat(path) if follow else sftp.lstat(path))


def exists(sftp: SFTP, wire: str) -> bool:
    return given(sftp.lstat, path_of(sftp, wire)) is not None


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
    if parents and above and not _is_directory(sftp, above):
        try:
            _make_directories(sftp, above)
        except Refusal:
            if not _is_directory(sftp, above):  # else another process has made it meanwhile
                raise
    try:
        with refusals(sftp, path, grows=True):
            sftp.mkdir(path, mode)
    except Refusal as exc:
        state = given(sftp.lstat, path.rstrip("/") or "/") if exc.status == FAILURE else None
        if state is None:
            raise
        if not (exist_ok and (state.is_directory or state.is_link and _is_directory(sftp, path))):
            raise Refusal("EEXIST", path) from None


def _make_directories(sftp: SFTP, path: str) -> None:
    """Make a directory and those above it, with the errors of ``os.makedirs``."""
    above = posixpath.dirname(path)
    if above and given(sftp.stat, above) is None:
        try:
            _make_directories(sftp, above)
        except Refusal as exc:
            if exc.code != "EEXIST":
                raise
    mkdir(sftp, to_wire(path), 0o777, False, False)


def _is_directory(sftp: SFTP, path: str) -> bool:
    state = given(sftp.stat, path)
    return state is not None and state.is_directory


def remove(sftp: SFTP, wire: str, recursive: bool, missing_ok: bool) -> None:
    path = path_of(sftp, wire)
    try:
        with refusals(sftp, path):
            state = sftp.lstat(path)
    except Refusal as exc:
        if missing_ok and exc.code == "ENOENT":
            return
        raise
    if not state.is_directory:
        with _sticky(sftp, path), refusals(sftp, path, writes=True):
            sftp.remove(path)
        return
    inside = list_entries(sftp, path)
    if inside and not recursive:
        raise Refusal("ENOTEMPTY", path)
    for name, _ in inside:
        remove(sftp, to_wire(posixpath.join(path, name)), True, True)
    with _sticky(sftp, path), refusals(sftp, path, writes=True):
        sftp.rmdir(path)


@contextlib.contextmanager
def _sticky(sftp: SFTP, path: str) -> Iterator[None]:
    """Turn EACCES into EPERM where a directory lets its owner and that of the file alone remove it, as ``/tmp`` does."""
    try:
        yield
    except Refusal as exc:
        state = given(sftp.stat, sftp_errors.above(path)) if exc.code == "EACCES" else None
        if state is not None and state.mode is not None and state.mode & 0o1002 == 0o1002:
            raise Refusal("EPERM", exc.path) from None
        raise


def rename(sftp: SFTP, source: str, target: str) -> None:
    old, new = path_of(sftp, source), path_of(sftp, target)
    try:
        with _sticky(sftp, old), refusals(sftp, old, writes=True):
            sftp.replace(old, new)
    except Refusal as exc:
        name = _rename_failure(sftp, old, new, exc)
        raise Refusal(name or exc.code, old, "" if name else exc.text) from None


def _rename_failure(sftp: SFTP, old: str, new: str, refusal: Refusal) -> str:
    """Return the reason if it is in *new*; empty otherwise."""
    before, after = given(sftp.lstat, old), given(sftp.lstat, new)
    if refusal.status == BAD_MESSAGE:
        return "ENAMETOOLONG" if sftp_errors.is_too_long(new) else ""
    if refusal.status == FAILURE and STATVFS in sftp.extensions and _system_of(sftp, old) != _system_of(sftp, new):
        return "EXDEV"
    if before is None:
        return ""
    if refusal.status == NO_SUCH_FILE:
        if after is None:
            return sftp_errors.error_name(sftp, SFTPError("", NO_SUCH_FILE), new)
        return "ENOTDIR" if before.is_directory != after.is_directory else ""
    if refusal.status == FAILURE and refusal.code == "EIO":
        if after is not None and after.is_directory:
            return "ENOTEMPTY" if before.is_directory else "EISDIR"
        return sftp_errors.error_name(sftp, SFTPError("", FAILURE), new, grows=True)
    return ""


def _system_of(sftp: SFTP, path: str) -> int | None:
    system = given(sftp.file_system, sftp_errors.above(path))
    return None if system is None else system.system_id


def symlink(sftp: SFTP, target: str, wire: str) -> None:
    path = path_of(sftp, wire)
    try:
        with refusals(sftp, path, grows=True):
            sftp.symlink(str(from_wire(target).decode("utf-8", "surrogateescape")), path)
    except Refusal as exc:
        if exc.status == FAILURE and given(sftp.lstat, path.rstrip("/") or "/") is not None:
            raise Refusal("EEXIST", path) from None
        raise


def readlink(sftp: SFTP, wire: str) -> str:
    path = path_of(sftp, wire)
    with refusals(sftp, path):
        return to_wire(sftp.readlink(path))


def chmod(sftp: SFTP, wire: str, mode: int) -> None:
    path = path_of(sftp, wire)
    set_attributes(sftp, path, Attributes(mode=mode))


def set_attributes(sftp: SFTP, path: str, attributes: Attributes) -> None:
    """Set attributes of an existing file."""
    try:
        with refusals(sftp, path, writes=True):
            sftp.set_attributes(path, attributes)
    except Refusal as exc:
        if exc.code == "EACCES" and given(sftp.stat, path) is not None:  # the file is reached, but is another user's
            raise Refusal("EPERM", path) from None
        raise


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
    set_attributes(sftp, path, Attributes(uid=owner, gid=owning_group))
