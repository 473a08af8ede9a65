"""Files of a host, for tasks: operations with the names of ``os`` and ``pathlib``."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from typing import Any, Literal, overload

from pmitogen.aio.opened import reading, writing
from pmitogen.aio.process import InputStream, OutputStream
from pmitogen.aio.waiting import Suspending
from pmitogen.api import arguments, remote_files, trees
from pmitogen.api.account import Account
from pmitogen.api.arguments import AnyPath, wire_path
from pmitogen.api.commands import text_encoding
from pmitogen.api.opened import mode_of
from pmitogen.api.remote_files import DirEntry, perform
from pmitogen.api.trees import Changes

RUNTIME = Suspending()


class Files:
    """The part of :class:`Host` that is about files. Errors of the host's system are OSError, with errno and path.

    A leading ``~`` or ``~user`` in a path is expanded. On a host without Python they use SFTP: times are then whole seconds,
    ``chown`` takes numbers only, and trees read the files of equal size to compare them. They raise as :meth:`Host.run` besides.
    """

    _account: Account

    async def stat(self, path: AnyPath, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return the result of stat(2), or with ``follow_symlinks=False`` of lstat(2)."""
        return await remote_files.stat(self._account, RUNTIME, path, follow_symlinks)

    async def exists(self, path: AnyPath) -> bool:
        """Return whether *path* exists, also as a dangling link."""
        return bool(await perform(self._account, RUNTIME, "exists", wire_path(path, "exists: path"), path=path))

    async def listdir(self, path: AnyPath = ".") -> list[str]:
        """Return the names in a directory, sorted."""
        return await remote_files.names(self._account, RUNTIME, "listdir", wire_path(path, "listdir: path"), path=path)

    async def scandir(self, path: AnyPath = ".") -> list[DirEntry]:
        """Return the entries of a directory with the result of lstat(2) for each, sorted by name, in one round trip."""
        return await remote_files.scandir(self._account, RUNTIME, path)

    async def walk(self, top: AnyPath) -> list[tuple[str, list[str], list[str]]]:
        """Return a list as os.walk yields it: (directory, names of directories, names of others), in one round trip."""
        return await remote_files.walk(self._account, RUNTIME, top)

    async def glob(self, pattern: AnyPath, *, recursive: bool = False) -> list[str]:
        """Return the paths that match, sorted. With *recursive*, ``**`` is any number of directories (not on Python 2.7)."""
        args = wire_path(pattern, "glob: pattern"), arguments.flag(recursive, "glob: recursive")
        return await remote_files.names(self._account, RUNTIME, "glob", *args, path=pattern)

    async def mkdir(self, path: AnyPath, mode: int = 0o777, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a directory, under the account's umask; with *parents*, those above it too."""
        await remote_files.mkdir(self._account, RUNTIME, path, mode, parents, exist_ok)

    async def remove(self, path: AnyPath, *, recursive: bool = False, missing_ok: bool = False) -> None:
        """Remove a file, a link or an empty directory; with *recursive*, all that is in it."""
        await remote_files.remove(self._account, RUNTIME, path, recursive, missing_ok)

    async def rename(self, source: AnyPath, target: AnyPath) -> None:
        """Rename a file or directory, and replace *target* if it exists."""
        args = wire_path(source, "rename: source"), wire_path(target, "rename: target")
        await perform(self._account, RUNTIME, "rename", *args, path=source)

    async def symlink(self, target: AnyPath, path: AnyPath) -> None:
        """Make *path* a symbolic link to *target*."""
        args = wire_path(target, "symlink: target"), wire_path(path, "symlink: path")
        await perform(self._account, RUNTIME, "symlink", *args, path=path)

    async def readlink(self, path: AnyPath) -> str:
        """Return where a symbolic link leads to."""
        answer = await perform(self._account, RUNTIME, "readlink", wire_path(path, "readlink: path"), path=path)
        return remote_files.from_wire_text(answer)

    async def chmod(self, path: AnyPath, mode: int) -> None:
        """Set the permission bits."""
        args = wire_path(path, "chmod: path"), arguments.integer(mode, "chmod: mode", 0, 0o7777)
        await perform(self._account, RUNTIME, "chmod", *args, path=path)

    async def chown(
        self, path: AnyPath, user: str | int | None = None, group: str | int | None = None, *, follow_symlinks: bool = True
    ) -> None:
        """Set owner and group, by names or numbers of the host; None: leave it unchanged."""
        await remote_files.chown(self._account, RUNTIME, path, user, group, follow_symlinks)

    async def put_tree(
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
        return await trees.put_tree(self._account, RUNTIME, source, target, options)

    async def get_tree(
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
        return await trees.get_tree(self._account, RUNTIME, source, target, options)

    @overload
    def open(
        self, path: AnyPath, mode: Literal["r", "rt"] = "r", *, encoding: str = "utf-8", permissions: int = 0o644
    ) -> contextlib.AbstractAsyncContextManager[OutputStream[str]]: ...

    @overload
    def open(
        self, path: AnyPath, mode: Literal["rb"], *, encoding: str = "utf-8", permissions: int = 0o644
    ) -> contextlib.AbstractAsyncContextManager[OutputStream[bytes]]: ...

    @overload
    def open(
        self, path: AnyPath, mode: Literal["w", "wt"], *, encoding: str = "utf-8", permissions: int = 0o644
    ) -> contextlib.AbstractAsyncContextManager[InputStream[str]]: ...

    @overload
    def open(
        self, path: AnyPath, mode: Literal["wb"], *, encoding: str = "utf-8", permissions: int = 0o644
    ) -> contextlib.AbstractAsyncContextManager[InputStream[bytes]]: ...

    def open(
        self,
        path: AnyPath,
        mode: Literal["r", "rt", "w", "wt", "rb", "wb"] = "r",
        *,
        encoding: str = "utf-8",
        permissions: int = 0o644,
    ) -> contextlib.AbstractAsyncContextManager[Any]:
        """Open a file to be read or written from its start to its end, in pieces, in ``async with``.

        A written file appears when the block is left; if that is by an exception, an existing file stays unchanged.
        Reading and writing need no Python on the host. *permissions* are those of a new file. The host's errors are RemoteError
        and OSError in one, raised where the file is read, and for writing at the latest when the block is left.
        """
        decoding = None if mode_of(mode).endswith("b") else text_encoding(True, encoding, "strict", "open")
        if mode.startswith("r"):
            return reading(self._account, path, decoding)
        return writing(self._account, path, decoding, permissions)
