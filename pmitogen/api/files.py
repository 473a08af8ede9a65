"""Files of a host, for threads: operations with the names of ``os`` and ``pathlib``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import IO, Any, Literal, overload

from pmitogen.api import arguments, opened, remote_files, trees
from pmitogen.api.account import Account
from pmitogen.api.arguments import AnyPath, wire_path
from pmitogen.api.remote_files import DirEntry, perform
from pmitogen.api.trees import Changes
from pmitogen.api.waiting import Blocking, finish

RUNTIME = Blocking()


class Files:
    """The part of :class:`Host` that is about files. Errors of the host's system are OSError, with errno and path.

    A leading ``~`` or ``~user`` in a path is expanded. On a host without Python they use SFTP: times are then whole seconds,
    ``chown`` takes numbers only, and trees read the files of equal size to compare them. They raise as :meth:`Host.run` besides.
    """

    _account: Account

    def stat(self, path: AnyPath, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return the result of stat(2), or with ``follow_symlinks=False`` of lstat(2)."""
        return finish(remote_files.stat(self._account, RUNTIME, path, follow_symlinks))

    def exists(self, path: AnyPath) -> bool:
        """Return whether *path* exists, also as a dangling link."""
        return bool(finish(perform(self._account, RUNTIME, "exists", wire_path(path, "exists: path"), path=path)))

    def listdir(self, path: AnyPath = ".") -> list[str]:
        """Return the names in a directory, sorted."""
        return finish(remote_files.names(self._account, RUNTIME, "listdir", wire_path(path, "listdir: path"), path=path))

    def scandir(self, path: AnyPath = ".") -> list[DirEntry]:
        """Return the entries of a directory with the result of lstat(2) for each, sorted by name, in one round trip."""
        return finish(remote_files.scandir(self._account, RUNTIME, path))

    def walk(self, top: AnyPath) -> list[tuple[str, list[str], list[str]]]:
        """Return a list as os.walk yields it: (directory, names of directories, names of others), in one round trip."""
        return finish(remote_files.walk(self._account, RUNTIME, top))

    def glob(self, pattern: AnyPath, *, recursive: bool = False) -> list[str]:
        """Return the paths that match, sorted. With *recursive*, ``**`` is any number of directories (not on Python 2.7)."""
        args = wire_path(pattern, "glob: pattern"), arguments.flag(recursive, "glob: recursive")
        return finish(remote_files.names(self._account, RUNTIME, "glob", *args, path=pattern))

    def mkdir(self, path: AnyPath, mode: int = 0o777, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a directory, under the account's umask; with *parents*, those above it too."""
        finish(remote_files.mkdir(self._account, RUNTIME, path, mode, parents, exist_ok))

    def remove(self, path: AnyPath, *, recursive: bool = False, missing_ok: bool = False) -> None:
        """Remove a file, a link or an empty directory; with *recursive*, all that is in it."""
        finish(remote_files.remove(self._account, RUNTIME, path, recursive, missing_ok))

    def rename(self, source: AnyPath, target: AnyPath) -> None:
        """Rename a file or directory, and replace *target* if it exists."""
        args = wire_path(source, "rename: source"), wire_path(target, "rename: target")
        finish(perform(self._account, RUNTIME, "rename", *args, path=source))

    def symlink(self, target: AnyPath, path: AnyPath) -> None:
        """Make *path* a symbolic link to *target*."""
        args = wire_path(target, "symlink: target"), wire_path(path, "symlink: path")
        finish(perform(self._account, RUNTIME, "symlink", *args, path=path))

    def readlink(self, path: AnyPath) -> str:
        """Return where a symbolic link leads to."""
        answer = finish(perform(self._account, RUNTIME, "readlink", wire_path(path, "readlink: path"), path=path))
        return remote_files.from_wire_text(answer)

    def chmod(self, path: AnyPath, mode: int) -> None:
        """Set the permission bits."""
        args = wire_path(path, "chmod: path"), arguments.integer(mode, "chmod: mode", 0, 0o7777)
        finish(perform(self._account, RUNTIME, "chmod", *args, path=path))

    def chown(
        self, path: AnyPath, user: str | int | None = None, group: str | int | None = None, *, follow_symlinks: bool = True
    ) -> None:
        """Set owner and group, by names or numbers of the host; None: leave it unchanged."""
        finish(remote_files.chown(self._account, RUNTIME, path, user, group, follow_symlinks))

    def put_tree(
        self,
        source: str | os.PathLike[str],
        target: AnyPath,
        *,
        delete: bool = False,
        exclude: Iterable[str] = (),
        times: bool = True,
        progress: Callable[[str], object] | None = None,
    ) -> Changes:
        """Make the directory *target* on the host like the local *source*, with modes and symbolic links.

        Only files that differ are copied. A directory that has files is replaced by a file or link only with *delete*.

        :param delete: remove files from *target* that do not exist in *source*, except excluded ones and their directories.
        :param exclude: patterns (fnmatch) of names or of paths below the directory, on both sides.
        :param times: set the times of modification, too.
        :param progress: called with the path below the directory of each file that has been copied.
        """
        options = trees.TreeOptions.checked("put_tree", delete, exclude, times, progress)
        return finish(trees.put_tree(self._account, RUNTIME, source, target, options))

    def get_tree(
        self,
        source: AnyPath,
        target: str | os.PathLike[str],
        *,
        delete: bool = False,
        exclude: Iterable[str] = (),
        times: bool = True,
        progress: Callable[[str], object] | None = None,
    ) -> Changes:
        """Make the local directory *target* like *source* on the host. As :meth:`put_tree`, in the other direction."""
        options = trees.TreeOptions.checked("get_tree", delete, exclude, times, progress)
        return finish(trees.get_tree(self._account, RUNTIME, source, target, options))

    @overload
    def open(
        self, path: AnyPath, mode: Literal["r", "rt", "w", "wt"] = "r", *, encoding: str = "utf-8", permissions: int = 0o644
    ) -> IO[str]: ...

    @overload
    def open(
        self, path: AnyPath, mode: Literal["rb", "wb"], *, encoding: str = "utf-8", permissions: int = 0o644
    ) -> IO[bytes]: ...

    def open(
        self,
        path: AnyPath,
        mode: Literal["r", "rt", "w", "wt", "rb", "wb"] = "r",
        *,
        encoding: str = "utf-8",
        permissions: int = 0o644,
    ) -> IO[Any]:
        """Open a file to be read or written from its start to its end, in pieces.

        A written file appears when it is closed. If its ``with`` block is left by an exception, or the file is never closed,
        an existing file stays unchanged. Reading and writing need no Python on the host. *permissions* are those of a new file.
        Raises UsageError; the host's errors, RemoteError and OSError in one, come with the first read, and for writing at the
        latest with ``close()``.
        """
        return opened.open_file(self._account, path, opened.mode_of(mode), encoding, permissions)
