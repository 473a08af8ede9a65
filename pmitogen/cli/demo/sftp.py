"""SFTP of the demo server: serves this machine's files as the server's user, through Paramiko's SFTP server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from paramiko import SFTPAttributes, SFTPHandle, SFTPServer, SFTPServerInterface
from paramiko.sftp import SFTP_FAILURE, SFTP_OK

if TYPE_CHECKING:
    from typing_extensions import Buffer


def _coded(action: Callable[[], object]) -> int:
    """Call *action*. Returns the SFTP status code for its result."""
    try:
        action()
    except OSError as error:
        return SFTPServer.convert_errno(error.errno or 0)
    return int(SFTP_OK)


class _Handle(SFTPHandle):
    def __init__(self, descriptor: int, flags: int) -> None:
        super().__init__(flags)
        self._descriptor = descriptor

    def close(self) -> None:
        super().close()
        os.close(self._descriptor)

    def read(self, offset: int, length: int) -> bytes | int:
        try:
            return os.pread(self._descriptor, length, offset)
        except OSError as error:
            return SFTPServer.convert_errno(error.errno or 0)

    def write(self, offset: int, data: Buffer) -> int:
        return _coded(lambda: os.pwrite(self._descriptor, data, offset))

    def stat(self) -> SFTPAttributes | int:
        try:
            return SFTPAttributes.from_stat(os.fstat(self._descriptor))
        except OSError as error:
            return SFTPServer.convert_errno(error.errno or 0)

    def chattr(self, attr: SFTPAttributes) -> int:
        return _coded(lambda: _set(self._descriptor, attr))


def _set(target: str | int, attr: SFTPAttributes) -> None:
    """Set the attributes in *attr* on a path or descriptor."""
    if attr.st_mode is not None:
        os.chmod(target, attr.st_mode & 0o7777)
    if attr.st_size is not None:
        os.truncate(target, attr.st_size)
    if attr.st_uid is not None and attr.st_gid is not None:
        os.chown(target, attr.st_uid, attr.st_gid)
    if attr.st_atime is not None and attr.st_mtime is not None:
        os.utime(target, (attr.st_atime, attr.st_mtime))


class FileServer(SFTPServerInterface):
    """Paths are absolute or relative to the user's home."""

    def canonicalize(self, path: str) -> str:
        return os.path.normpath(os.path.join(os.path.expanduser("~"), path))

    def list_folder(self, path: str) -> list[SFTPAttributes] | int:
        entries = []
        try:
            with os.scandir(self.canonicalize(path)) as listing:
                for entry in listing:
                    with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                        entries.append(SFTPAttributes.from_stat(entry.stat(follow_symlinks=False), entry.name))
        except OSError as error:
            return SFTPServer.convert_errno(error.errno or 0)
        return entries

    def _stat(self, path: str, follow: bool) -> SFTPAttributes | int:
        try:
            return SFTPAttributes.from_stat(os.stat(self.canonicalize(path), follow_symlinks=follow))
        except OSError as error:
            return SFTPServer.convert_errno(error.errno or 0)

    def stat(self, path: str) -> SFTPAttributes | int:
        return self._stat(path, True)

    def lstat(self, path: str) -> SFTPAttributes | int:
        return self._stat(path, False)

    def open(self, path: str, flags: int, attr: SFTPAttributes) -> SFTPHandle | int:
        mode = 0o666 if attr.st_mode is None else attr.st_mode & 0o7777
        try:
            # O_APPEND would make pwrite() ignore the offset that the client gives.
            return _Handle(os.open(self.canonicalize(path), flags & ~os.O_APPEND, mode), flags)
        except OSError as error:
            return SFTPServer.convert_errno(error.errno or 0)

    def remove(self, path: str) -> int:
        return _coded(lambda: os.remove(self.canonicalize(path)))

    def rename(self, oldpath: str, newpath: str) -> int:
        old, new = self.canonicalize(oldpath), self.canonicalize(newpath)
        if os.path.lexists(new):  # in SFTP version 3 a rename never replaces a file; posix_rename does
            return int(SFTP_FAILURE)
        return _coded(lambda: os.rename(old, new))

    def posix_rename(self, oldpath: str, newpath: str) -> int:
        return _coded(lambda: os.replace(self.canonicalize(oldpath), self.canonicalize(newpath)))

    def mkdir(self, path: str, attr: SFTPAttributes) -> int:
        mode = 0o777 if attr.st_mode is None else attr.st_mode & 0o7777
        return _coded(lambda: os.mkdir(self.canonicalize(path), mode))

    def rmdir(self, path: str) -> int:
        return _coded(lambda: os.rmdir(self.canonicalize(path)))

    def chattr(self, path: str, attr: SFTPAttributes) -> int:
        return _coded(lambda: _set(self.canonicalize(path), attr))

    def readlink(self, path: str) -> str | int:
        try:
            return os.readlink(self.canonicalize(path))
        except OSError as error:
            return SFTPServer.convert_errno(error.errno or 0)

    def symlink(self, target_path: str, path: str) -> int:
        return _coded(lambda: os.symlink(target_path, self.canonicalize(path)))
