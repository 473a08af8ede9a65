"""Errors of a host's operating system: a RemoteError, and the OSError that it would be on this machine.

So ``except FileNotFoundError`` and ``except pmitogen.RemoteError`` both catch a file that a host does not have.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from pmitogen.errors import RemoteError


class RemoteOSError(RemoteError, OSError):
    """An error of the host's operating system. It has ``errno``, ``strerror`` and ``filename`` as any OSError."""

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return os_error, (self.message, self.code, self.strerror, self.filename)


class RemoteFileNotFoundError(RemoteOSError, FileNotFoundError):
    """The file or directory does not exist on the host."""


class RemotePermissionError(RemoteOSError, PermissionError):
    """The account has no permission for the operation."""


class RemoteFileExistsError(RemoteOSError, FileExistsError):
    """The file or directory exists on the host already."""


class RemoteIsADirectoryError(RemoteOSError, IsADirectoryError):
    """The path is a directory on the host."""


class RemoteNotADirectoryError(RemoteOSError, NotADirectoryError):
    """The path, or a part of it, is not a directory on the host."""


_CLASSES: dict[str, type[RemoteOSError]] = {
    "ENOENT": RemoteFileNotFoundError,
    "EACCES": RemotePermissionError,
    "EPERM": RemotePermissionError,
    "EEXIST": RemoteFileExistsError,
    "EISDIR": RemoteIsADirectoryError,
    "ENOTDIR": RemoteNotADirectoryError,
}


def os_error(message: str, code: str, text: str | None = None, path: str | None = None) -> RemoteOSError:
    """Return the exception for an error of the host's system.

    :param message: the whole line, with host and path.
    :param code: its name, such as ``ENOENT``; one that is unknown here counts as EIO.
    :param text: the host's own text; None: this machine's text for *code*.
    :param path: the file; None: unknown.
    """
    value = getattr(errno, code, None)
    if not isinstance(value, int):
        code, value = "EIO", errno.EIO
    error = _CLASSES.get(code, RemoteOSError)(message, code=code)
    error.errno, error.strerror, error.filename = value, os.strerror(value) if text is None else text, path
    return error
