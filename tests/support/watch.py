"""Record every file that is created, written, moved or removed in some directories, by inotify."""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_CREATE, _MODIFY, _DELETE, _MOVED_FROM, _MOVED_TO, _ATTRIB, _ISDIR = 0x100, 0x2, 0x200, 0x40, 0x80, 0x4, 0x40000000
_NAMES = {
    _CREATE: "create",
    _MODIFY: "modify",
    _DELETE: "delete",
    _MOVED_FROM: "move away",
    _MOVED_TO: "move here",
    _ATTRIB: "attributes",
}
_EVENT = struct.Struct("iIII")


@dataclass(frozen=True)
class Event:
    """One change. *uid*: owner of the file, or None if it was removed before it could be read."""

    what: str
    path: Path
    uid: int | None


class Watch:
    """A context manager that records changes below *roots*: the roots themselves, their entries, and new directories."""

    def __init__(self, *roots: Path) -> None:
        self.events: list[Event] = []
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_CLOEXEC)
        self._paths: dict[int, Path] = {}
        self._stop_r, self._stop_w = os.pipe()
        for root in roots:
            self._add(root)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        os.write(self._stop_w, b"x")
        self._thread.join()
        for fd in (self._fd, self._stop_r, self._stop_w):
            os.close(fd)

    def _add(self, path: Path) -> None:
        mask = _CREATE | _MODIFY | _DELETE | _MOVED_FROM | _MOVED_TO | _ATTRIB
        watch = self._libc.inotify_add_watch(self._fd, os.fsencode(path), mask)
        if watch >= 0:
            self._paths[watch] = path

    def _run(self) -> None:
        import select

        while True:
            ready = select.select([self._fd, self._stop_r], [], [])[0]
            if self._fd in ready:
                self._take(os.read(self._fd, 1 << 16))
            elif ready:
                return

    def _take(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            watch, mask, _, size = _EVENT.unpack_from(data, at)
            name = data[at + _EVENT.size : at + _EVENT.size + size].rstrip(b"\0")
            at += _EVENT.size + size
            path = self._paths.get(watch, Path("?")) / os.fsdecode(name)
            try:
                uid: int | None = os.lstat(path).st_uid
            except OSError:
                uid = None
            what = next((text for bit, text in _NAMES.items() if mask & bit), None)
            if what is not None:
                self.events.append(Event(what, path, uid))
            if mask & _CREATE and mask & _ISDIR:
                self._add(path)
