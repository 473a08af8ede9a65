"""Operations on whole trees over SFTP, and glob."""

from __future__ import annotations

import fnmatch
import hashlib
import posixpath
import re
import stat as stats
from collections.abc import Iterator, Sequence
from typing import Any

from pmitogen.api.sftp import files
from pmitogen.api.sftp.files import MAX_ENTRIES, Refusal, refusals
from pmitogen.protocol.framing import from_wire, to_wire
from pmitogen.target.library.remote_files import is_excluded
from pmitogen.transport.sessions.sftp_client import SFTP
from pmitogen.transport.sessions.sftp_errors import given
from pmitogen.transport.sessions.sftp_packets import Attributes, SFTPError

_MAGIC = re.compile(r"[*?\[]")


def tree(sftp: SFTP, wire: str, patterns: Sequence[str]) -> list[list[Any]] | None:
    """Return the entries below a directory; None if there is no directory."""
    root = files.path_of(sftp, wire)
    try:
        if not sftp.stat(root).is_directory:
            return None
    except SFTPError as exc:
        if exc.code is None:
            raise
        return None
    found: list[list[Any]] = []
    waiting = [""]
    while waiting:
        directory = waiting.pop()
        for name, state in files.list_entries(sftp, posixpath.join(root, directory)):
            relative = posixpath.join(directory, name)
            if is_excluded(relative.encode("utf-8", "surrogateescape"), patterns):
                found.append([to_wire(relative), "x", 0, 0, 0, None])
                continue
            kind, target = "d" if state.is_directory else "l" if state.is_link else "f" if state.is_file else "?", None
            if kind == "d":
                waiting.append(relative)
            elif kind == "l":
                whole = posixpath.join(root, relative)
                with refusals(sftp, whole):
                    target = to_wire(sftp.readlink(whole))
            mode = stats.S_IMODE(state.mode or 0o644)
            found.append([to_wire(relative), kind, mode, state.size or 0, state.mtime or 0, target])
            if len(found) > MAX_ENTRIES:
                raise Refusal("E2BIG", root)
    return found


class _Digest:
    """Takes the place of a file that is written."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return len(data)


def digests(sftp: SFTP, wire: str, names: Sequence[str]) -> list[str | None]:
    """Read files below a directory and return the SHA-256 of each; None for each that cannot be read."""
    root, found = files.path_of(sftp, wire), list[str | None]()
    for name in names:
        digest: Any = _Digest()
        try:
            sftp.fetch(posixpath.join(root, _text(name)), digest)
            found.append(digest.sha256.hexdigest())
        except SFTPError as exc:
            if exc.code is None:
                raise
            found.append(None)
    return found


def prepare_tree(
    sftp: SFTP,
    wire: str,
    opened: Sequence[tuple[str, int]],
    removed: Sequence[str],
    directories: Sequence[str],
    links: Sequence[tuple[str, str]],
) -> None:
    """Set modes, remove entries, make directories, make links."""
    root = files.path_of(sftp, wire)
    files.mkdir(sftp, to_wire(root), 0o777, True, True)
    for name, mode in opened:
        files.chmod(sftp, _below(root, name), mode)
    for name in removed:
        files.remove(sftp, _below(root, name), True, True)
    for name in directories:
        files.mkdir(sftp, _below(root, name), 0o777, False, False)
    for name, target in links:
        files.symlink(sftp, target, _below(root, name))


def finish_tree(sftp: SFTP, wire: str, states: Sequence[tuple[str, int, float | None]]) -> None:
    """Set modes and times."""
    root = files.path_of(sftp, wire)
    for name, mode, when in states:
        path = posixpath.join(root, _text(name))
        seconds = None if when is None else int(when)
        files.set_attributes(sftp, path, Attributes(mode=mode, atime=seconds, mtime=seconds))


def _text(wire: str) -> str:
    return str(from_wire(wire).decode("utf-8", "surrogateescape"))


def _below(root: str, name: str) -> str:
    return to_wire(posixpath.join(root, _text(name)))


def glob(sftp: SFTP, wire: str, recursive: bool) -> list[str]:
    """Return the paths that match a pattern, sorted."""
    pattern = files.path_of(sftp, wire)
    if _text(wire).startswith("~"):
        with refusals(sftp, pattern):
            pattern = sftp.realpath("." if pattern == "." else posixpath.dirname(pattern)) + "/" + posixpath.basename(pattern)
    parts = pattern.split("/")
    found = ["/"] if pattern.startswith("/") else [""]
    for place, part in enumerate(parts):
        is_last = place == len(parts) - 1
        if not part and not is_last or pattern.startswith("/") and not place:
            continue
        directories, found = found, []
        for path in (path for each in directories for path in _step(sftp, each, part, recursive, is_last)):
            found.append(path)
            if len(found) > MAX_ENTRIES:
                raise Refusal("E2BIG", pattern)
    return sorted(to_wire(path) for path in found)


def _step(sftp: SFTP, path: str, part: str, recursive: bool, is_last: bool) -> Iterator[str]:
    """Yield the paths to which one part of a pattern leads from a directory."""
    if part == "**" and recursive:
        yield from _descend(sftp, path, is_last)
    elif _MAGIC.search(part):
        for name, state in _listed(sftp, path):
            if fnmatch.fnmatchcase(name, part) and (part.startswith(".") or not name.startswith(".")):
                if is_last or state.is_directory or state.is_link:
                    yield posixpath.join(path, name)
    elif not is_last or given(sftp.lstat, posixpath.join(path, part) or ".") is not None:
        yield posixpath.join(path, part)


def _descend(sftp: SFTP, path: str, with_files: bool) -> Iterator[str]:
    """Yield a directory and those below it, without hidden ones; with files if the pattern ends there."""
    yield posixpath.join(path, "") if with_files else path
    for name, state in _listed(sftp, path):
        if name.startswith("."):
            continue
        if state.is_directory:
            if with_files:
                yield posixpath.join(path, name)
            for below in _descend(sftp, posixpath.join(path, name), with_files):
                if below.rstrip("/") != posixpath.join(path, name) or not with_files:
                    yield below
        elif with_files:
            yield posixpath.join(path, name)


def _listed(sftp: SFTP, path: str) -> list[tuple[str, Attributes]]:
    """Return the entries of a directory; none if it cannot be listed."""
    try:
        return files.list_entries(sftp, path or ".")
    except Refusal:
        return []
