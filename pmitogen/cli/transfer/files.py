"""Interface to the files of one machine, either this one or an SFTP server, for copies between any two of them."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from pmitogen.transport.sessions.sftp_packets import Attributes, Entry

MAX_PART_NAME = 150  # bytes of a file's name that the name of its part repeats


class FileError(Exception):
    """An operation on one file failed; others may be tried. The text is the reason alone.

    *is_missing*: there is no such file. *is_denied*: the account lacks the permission.
    """

    def __init__(self, reason: str, is_missing: bool = False, is_denied: bool = False) -> None:
        super().__init__(reason)
        self.is_missing = is_missing
        self.is_denied = is_denied


class WriteOptions(NamedTuple):
    """How to write a file. *mode*: of a new file, before the umask. *size*: expected bytes. *sync*: write it to the disk.

    *part_key*: with it, an interrupted write leaves its part beside the file, and one with the same key continues it.
    """

    mode: int
    size: int = 0
    part_key: str | None = None
    sync: bool = False


class Reader(Protocol):
    """An open file to read."""

    attributes: Attributes

    def pieces(self, offset: int) -> Generator[bytes, None, None]:
        """Yield the file from *offset* to its end."""
        ...


class Writer(Protocol):
    """An open file to write."""

    offset: int  # at which the writing continues

    def write(self, pieces: Iterable[bytes]) -> None:
        """Write *pieces* from :attr:`offset` on. Exceptions of the iterable are raised, too."""
        ...


class Files(Protocol):
    """The files of one machine. One thread. Methods raise FileError, and ConnectionLost if the server is gone."""

    is_remote: bool

    def stat(self, path: str) -> Attributes:
        """Return attributes; links are followed."""
        ...

    def entries(self, path: str) -> list[Entry]:
        """Return the entries of a directory, with the attributes of links themselves."""
        ...

    def make_directory(self, path: str, mode: int) -> None:
        """Create a directory."""
        ...

    def set_attributes(self, path: str, attributes: Attributes) -> None:
        """Set the mode and the times that are not None."""
        ...

    def reading(self, path: str) -> AbstractContextManager[Reader]:
        """Open a regular file."""
        ...

    def writing(self, path: str, options: WriteOptions) -> AbstractContextManager[Writer]:
        """Open a file to write. It replaces an existing one at the end of the block, unless the block raises."""
        ...


def part_key(source: str, attributes: Attributes) -> str:
    """Return a key for one version of a source file."""
    text = repr((source, attributes.size, attributes.mtime))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def part_name(name: str, key: str) -> str:
    """Return the name of the part of the file *name*: hidden, and not too long for a file system."""
    prefix = name.encode("utf-8", "surrogateescape")[:MAX_PART_NAME].decode("utf-8", "surrogateescape")
    return f".{prefix}.{key}.part"


def is_existing_directory(files: Files, path: str) -> bool:
    """Return whether *path* is an existing directory; links are followed."""
    try:
        return files.stat(path).is_directory
    except FileError:
        return False


def join(directory: str, name: str) -> str:
    """Return *name* in *directory*; "" is the current one."""
    return f"{directory.rstrip('/')}/{name}" if directory.strip("/") else f"{'/' if directory else ''}{name}"


def base_name(path: str) -> str:
    """Return the last component; "" if it is none that a copy could be named after."""
    name = path.rstrip("/").rpartition("/")[2]
    return "" if name in (".", "..") else name
