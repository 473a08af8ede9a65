"""Copy files and trees from one machine to another.

As scp does, a copy follows links, skips special files, goes on after a failure, and sets neither setuid
nor setgid. The names in a remote directory are checked where they are read (transport/sessions/sftp_client.py), so nothing is
written outside the destination.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Callable, Iterable

from pmitogen.cli.transfer.files import FileError, Files, WriteOptions, join, part_key
from pmitogen.cli.transfer.progress import Progress
from pmitogen.transport.sessions.sftp_packets import Attributes

MAX_DEPTH = 64  # nested directories; scp has the same limit
MODE_BITS = 0o1777


@dataclasses.dataclass(frozen=True)
class CopyOptions:
    """How to copy. *recursive*: directories too. *preserve*: modes and times. *resume*: continue interrupted copies.

    *sync*: write each file to the target's disk.
    """

    recursive: bool = False
    preserve: bool = False
    resume: bool = False
    sync: bool = False


@dataclasses.dataclass
class Copier:
    """Copies from *source* to *target*. One thread.

    *report*: called with a line for each failure. *progress*: called for each file with its name, its size and the offset where
    the copy begins. *pace*: wraps the pieces of each file, to slow them down. *enter*: called with the path of each directory.
    """

    source: Files
    target: Files
    options: CopyOptions
    report: Callable[[str], None]
    progress: Callable[[str, int, int], Progress] = Progress
    pace: Callable[[Iterable[bytes]], Iterable[bytes]] = iter
    enter: Callable[[str], None] = lambda path: None

    def copy(self, source: str, target: str) -> bool:
        """Copy the file or tree *source* to the path *target*. False: something failed. Raises ConnectionLost."""
        try:
            attributes = self.source.stat(source)
        except FileError as error:
            self.report(f'stat {self._side(self.source)} "{source}": {error}')
            return False
        if attributes.is_directory and self.options.recursive:
            return self._tree(source, attributes, target, 1)
        if not attributes.is_file:
            return self._refuse(source, attributes, target)
        return self._file(source, attributes, target)

    def _refuse(self, source: str, attributes: Attributes, target: str) -> bool:
        if self.source.is_remote:
            self.report(f"download {source}{'/' if attributes.is_directory else ''}: not a regular file")
        else:
            self.report(f'local "{source}" is not a regular file')
        if self.target.is_remote:
            self.report(f"failed to upload file {source} to {target}")
        return False

    def _tree(self, source: str, attributes: Attributes, target: str, depth: int) -> bool:
        if depth > MAX_DEPTH:
            self.report(f"Maximum directory depth exceeded: {depth} levels")
            return False
        self.enter(source)
        mode = MODE_BITS & (0o777 if attributes.mode is None else attributes.mode)
        try:
            entries = self.source.entries(source)
        except FileError as error:
            self.report(f'{self._side(self.source)} readdir "{source}": {error}')
            return False
        if not self._make_directory(target, mode | stat.S_IRWXU):
            return False
        ok = True
        for entry in sorted(entries):
            ok &= self._member(join(source, entry.name), entry.attributes, join(target, entry.name), depth)
        if self.options.preserve:
            ok &= self._set_attributes(target, attributes, mode)
        return ok

    def _member(self, source: str, attributes: Attributes, target: str, depth: int) -> bool:
        if attributes.is_link:
            try:
                attributes = self.source.stat(source)
            except FileError as error:
                self.report(f'stat {self._side(self.source)} "{source}": {error}')
                return False
        if attributes.is_directory:
            return self._tree(source, attributes, target, depth + 1)
        if attributes.is_file:
            return self._file(source, attributes, target)
        self.report(f"{source}: not a regular file")  # no failure, as with scp
        return True

    def _make_directory(self, path: str, mode: int) -> bool:
        try:
            if self.target.stat(path).is_directory:
                return True
        except FileError:
            pass
        try:
            self.target.make_directory(path, mode)
        except FileError as error:
            self.report(f'remote mkdir "{path}": {error}' if self.target.is_remote else f"mkdir {path}: {error}")
            return False
        return True

    def _is_same(self, source: str, target: str) -> bool:
        """Return True if both are one file of this machine."""
        if self.source.is_remote or self.target.is_remote:
            return False
        try:
            return os.path.samefile(source, target)
        except (OSError, ValueError):
            return False

    def _file(self, source: str, attributes: Attributes, target: str) -> bool:
        if self._is_same(source, target):
            self.report(f"'{source}' and '{target}' are the same file")
            return False
        mode = MODE_BITS & (0o666 if attributes.mode is None else attributes.mode)
        key = part_key(source, attributes) if self.options.resume else None
        stage = f'{"remote open" if self.source.is_remote else "open local"} "{source}"'
        try:
            with self.source.reading(source) as reader:
                stage = f'{"dest open" if self.target.is_remote else "open local"} "{target}"'
                size = reader.attributes.size or 0
                with self.target.writing(target, WriteOptions(mode, size, key, self.options.sync)) as writer:
                    stage = f"copy {source} to {target}"
                    with self.progress(source, size, writer.offset) as progress:
                        writer.write(self.pace(progress.watch(reader.pieces(writer.offset))))
        except FileError as error:
            self.report(f"{stage}: {error}")
            if self.target.is_remote:
                self.report(f"failed to upload file {source} to {target}")
            return False
        return not self.options.preserve or self._set_attributes(target, attributes, mode)

    def _set_attributes(self, path: str, attributes: Attributes, mode: int) -> bool:
        try:
            self.target.set_attributes(path, Attributes(mode=mode, atime=attributes.atime, mtime=attributes.mtime))
        except FileError as error:
            self.report(f'set attributes of "{path}": {error}')
            return False
        return True

    @staticmethod
    def _side(files: Files) -> str:
        return "remote" if files.is_remote else "local"
