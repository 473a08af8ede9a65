"""Snapshots of the files that a play leaves in a directory: name, type, owner, mode, content, and time if the play set it."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import Any

_KINDS = {stat.S_IFDIR: "folder", stat.S_IFREG: "file", stat.S_IFLNK: "link", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
SHOWN = 2000  # bytes of a file that are shown in a difference


def take(directory: Path, began: float, places: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
    """path -> properties of the file. Times before *began* were set by the play, so they are compared."""
    found: dict[str, Any] = {}
    for parent, directories, files in os.walk(os.fsencode(directory)):
        for name in directories + files:
            path = os.path.join(parent, name)
            relative = os.fsdecode(os.path.relpath(path, os.fsencode(directory)))
            found[relative] = _entry(path, began, places)
    return found


def _entry(path: bytes, began: float, places: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    state = os.lstat(path)
    kind = _KINDS.get(stat.S_IFMT(state.st_mode), "other")
    entry: dict[str, Any] = {"kind": kind, "mode": oct(stat.S_IMODE(state.st_mode)), "owner": f"{state.st_uid}:{state.st_gid}"}
    if kind != "folder" and state.st_mtime < began - 1:
        entry["modified"] = int(state.st_mtime)
    if kind == "file":
        entry.update(_content(path, places))
    elif kind == "link":
        entry["leads to"] = os.fsdecode(os.readlink(path))
    return entry


def _content(path: bytes, places: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    with open(path, "rb") as stream:
        data = stream.read()
    for text, name in places:
        data = data.replace(text.encode(), name.encode())
    if len(data) <= SHOWN:
        return {"content": data.decode("utf-8", "backslashreplace")}
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
