"""The errors of transfers are those of the host's Python. The messages of programs and servers tell which."""

from __future__ import annotations

import errno
import os

from pmitogen.errors import RemoteError

FIFO = "a named pipe, which has no end of its own"
# What a message in English ends with, in lower case: glibc, musl, BSD and macOS. Those of dash and busybox are ambiguous:
# "Directory nonexistent" is ENOTDIR, too.
_TEXTS = {
    "no such file or directory": "ENOENT",
    "permission denied": "EACCES",
    "operation not permitted": "EPERM",
    "is a directory": "EISDIR",
    "not a directory": "ENOTDIR",
    "file name too long": "ENAMETOOLONG",
    "filename too long": "ENAMETOOLONG",
    "too many levels of symbolic links": "ELOOP",
    "symbolic link loop": "ELOOP",
    "no space left on device": "ENOSPC",
    "disk quota exceeded": "EDQUOT",
    "disc quota exceeded": "EDQUOT",
    "quota exceeded": "EDQUOT",
    "read-only file system": "EROFS",
    "file too large": "EFBIG",
    "file size limit exceeded": "EFBIG",
    "text file busy": "ETXTBSY",
    "input/output error": "EIO",
    "i/o error": "EIO",
}


def transfer_error(label: str, name: str, text: str = "") -> RemoteError:
    """Return the error that begins with *label*. *name*: of the errno, or empty; *text*: instead of the system's."""
    return RemoteError(f"{label}: {text or os.strerror(getattr(errno, name))}", code=name)


def name_in(messages: str) -> str:
    """Return the name of the errno that the last understood line of *messages* tells; empty if none is understood."""
    for line in reversed(messages.lower().splitlines()):
        for text, name in _TEXTS.items():
            if f": {line}".rstrip(" .)\r").endswith(f": {text}"):
                return name
    return ""
