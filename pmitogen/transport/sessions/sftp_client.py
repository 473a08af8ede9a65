"""A client of SFTP version 3 (draft-ietf-secsh-filexfer-02), with the extensions of OpenSSH's server that matter to files.

Every answer is checked and bounded (sftp_session.py). A size from the server is only a hint; a listing comes in
pieces, has at most MAX_ENTRIES names, and no name in it leads out of its directory.

Upstream's ``SFTPClient`` is not used. It builds a list of all requests for the reported size (endless for 2**62), and accepts
packets of 16 MiB and answers to requests that were not made. It loops as often as a number in an answer says.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator
from typing import IO, NamedTuple

from pmitogen.transport.keys.wire import encode_string
from pmitogen.transport.sessions import sftp_packets as packets
from pmitogen.transport.sessions.sftp_file import RemoteFile
from pmitogen.transport.sessions.sftp_packets import Attributes, Entry, Fields, SFTPError, encode_attributes, encode_path
from pmitogen.transport.sessions.sftp_session import ByteStream, Session, handle_of

MAX_ENTRIES = 1_000_000  # names in one directory
POSIX_RENAME, HARDLINK, EXPAND_PATH = "posix-rename@openssh.com", "hardlink@openssh.com", "expand-path@openssh.com"
STATVFS = "statvfs@openssh.com"
READ = packets.FLAG_READ
REWRITE = packets.FLAG_WRITE | packets.FLAG_CREATE | packets.FLAG_TRUNCATE  # create the file, or truncate it
CREATE = packets.FLAG_WRITE | packets.FLAG_CREATE | packets.FLAG_EXCLUSIVE  # fail if the file exists
UPDATE = packets.FLAG_WRITE  # fail if the file does not exist


class FileSystem(NamedTuple):
    """Statistics of a file system, as in statvfs(3). *block_size*: bytes of one block. *flags*: OpenSSH PROTOCOL, section 4.4."""

    block_size: int
    blocks: int
    free_blocks: int
    available_blocks: int  # to users other than root
    files: int
    free_files: int
    available_files: int
    system_id: int
    flags: int

    @property
    def is_read_only(self) -> bool:
        """True if nothing can be changed in it."""
        return bool(self.flags & 1)


class SFTP:
    """One session on *channel*, at whose other end an SFTP server runs. For one thread at a time; every method blocks.

    Paths are text, with ``surrogateescape`` for bytes that are not UTF-8; relative ones begin in the directory of the login.
    Methods raise SFTPError, and OSError, EOFError or SSHException if the channel ends.
    """

    def __init__(self, channel: ByteStream) -> None:
        self._session = Session(channel)

    @property
    def extensions(self) -> frozenset[str]:
        """The names of the extensions that the server announces."""
        return self._session.extensions

    def set_timeout(self, seconds: float | None) -> None:
        """Set the time limit of each wait for the server; None: none. A wait that exceeds it raises TimeoutError, an OSError."""
        self._session.set_timeout(seconds)

    def close(self) -> None:
        """End the session, and the channel."""
        self._session.close()

    # Attributes and names

    def stat(self, path: str) -> Attributes:
        """Return the attributes of the file; links are followed."""
        return packets.read_attributes(self._session.ask(packets.ATTRS, packets.STAT, encode_path(path)))

    def lstat(self, path: str) -> Attributes:
        """Return the attributes of the file, or of the link itself."""
        return packets.read_attributes(self._session.ask(packets.ATTRS, packets.LSTAT, encode_path(path)))

    def set_attributes(self, path: str, attributes: Attributes) -> None:
        """Set the attributes that are not None; links are followed."""
        self._change(packets.SETSTAT, encode_path(path), encode_attributes(attributes))

    def realpath(self, path: str) -> str:
        """Return the absolute path without links, ``.`` and ``..``, as far as the server resolves it."""
        return self._name(packets.REALPATH, encode_path(path))

    def expand_path(self, path: str) -> str:
        """Return *path* with ``~`` and ``~user`` at its start expanded. Raises SFTPError also if the server cannot do that."""
        self._require(EXPAND_PATH)
        return self._name(packets.EXTENDED, encode_string(EXPAND_PATH), encode_path(path))

    def readlink(self, path: str) -> str:
        """Return the target of a symbolic link."""
        return self._name(packets.READLINK, encode_path(path))

    # Directories

    def list_directory(self, path: str, max_entries: int = MAX_ENTRIES) -> Generator[list[Entry], None, None]:
        """Yield the entries of a directory in pieces as the server sends them, without ``.`` and ``..``.

        Raises SFTPError also for more than *max_entries* names, and for a name that is not one of that directory.
        """
        handle = handle_of(self._session.ask(packets.HANDLE, packets.OPENDIR, encode_path(path)))
        total = 0
        with RemoteFile(self._session, handle):
            while True:
                try:
                    fields = self._session.ask(packets.NAME, packets.READDIR, handle)
                except SFTPError as error:
                    if error.code == packets.EOF:
                        return
                    raise
                entries = list(_entries(fields))
                if not entries:  # the end as well, for OpenSSH's client
                    return
                total += len(entries)
                if total > max_entries:
                    raise SFTPError(f"the server listed more than {max_entries} names")
                yield [entry for entry in entries if entry.name not in (".", "..")]

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """Create a directory; the server's umask applies to *mode*."""
        self._change(packets.MKDIR, encode_path(path), encode_attributes(Attributes(mode=mode)))

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        self._change(packets.RMDIR, encode_path(path))

    def file_system(self, path: str) -> FileSystem:
        """Return the statistics of the file system of *path*. Raises SFTPError also if the server cannot do that."""
        self._require(STATVFS)
        fields = self._session.ask(packets.EXTENDED_ANSWER, packets.EXTENDED, encode_string(STATVFS), encode_path(path))
        fields.u64()  # the preferred block size
        return FileSystem(*(fields.u64() for _ in FileSystem._fields))

    # Files

    def open(self, path: str, flags: int = READ, mode: int | None = None) -> RemoteFile:
        """Open a file. *flags*: READ, REWRITE, CREATE or UPDATE. *mode*: of a new file, before the server's umask."""
        attributes = encode_attributes(Attributes(mode=mode))
        fields = (encode_path(path), flags.to_bytes(4, "big"), attributes)
        return RemoteFile(self._session, handle_of(self._session.ask(packets.HANDLE, packets.OPEN, *fields)))

    def fetch(self, path: str, target: IO[bytes]) -> int:
        """Copy the file *path* there into *target*; return its size."""
        size = 0
        with self.open(path) as file, contextlib.closing(file.read_pieces()) as pieces:
            for piece in pieces:
                target.write(piece)
                size += len(piece)
        return size

    def put(self, pieces: Iterable[bytes], path: str, mode: int | None) -> None:
        """Write *pieces* to *path* there, which is created or truncated; *mode* as in chmod, None: the server's default."""
        with self.open(path, REWRITE) as file:
            if mode is not None:
                file.set_attributes(Attributes(mode=mode))
            file.write_pieces(pieces)

    def copy(self, old: str, new: str) -> None:
        """Ask the server to copy a file, with its permissions. Raises SFTPError also if the server cannot do that."""
        with self.open(old) as source:
            mode = source.attributes().mode
            with self.open(new, REWRITE, None if mode is None else mode & 0o777) as target:
                source.copy_to(target)

    def remove(self, path: str) -> None:
        """Delete a file or a link."""
        self._change(packets.REMOVE, encode_path(path))

    def rename(self, old: str, new: str) -> None:
        """Rename *old* to *new*. Servers differ in their behaviour if *new* exists."""
        self._change(packets.RENAME, encode_path(old), encode_path(new))

    def replace(self, old: str, new: str) -> None:
        """Rename *old* to *new*, and replace an existing file.

        Atomic if the server has OpenSSH's extension. Otherwise *new* is removed first, unless it is a directory.
        """
        if POSIX_RENAME in self.extensions:
            self._change(packets.EXTENDED, encode_string(POSIX_RENAME), encode_path(old), encode_path(new))
            return
        try:
            self.rename(old, new)
        except SFTPError as error:
            if error.code is None or not (self._is_no_directory(old) and self._is_no_directory(new)):
                raise
            self.remove(new)
            self.rename(old, new)

    def symlink(self, target: str, path: str) -> None:
        """Create a symbolic link at *path*."""
        # OpenSSH's server, and so all others, take the two in the reverse of the draft's order (OpenSSH PROTOCOL, section 4.1).
        self._change(packets.SYMLINK, encode_path(target), encode_path(path))

    def hardlink(self, existing: str, path: str) -> None:
        """Create a hard link at *path* to *existing*. Raises SFTPError also if the server cannot do that."""
        self._require(HARDLINK)
        self._change(packets.EXTENDED, encode_string(HARDLINK), encode_path(existing), encode_path(path))

    # Requests

    def _change(self, kind: int, *fields: bytes) -> None:
        self._session.ask(packets.STATUS, kind, *fields)

    def _name(self, kind: int, *fields: bytes) -> str:
        """Return the one name in the answer to a request."""
        answer = self._session.ask(packets.NAME, kind, *fields)
        name = answer.string() if answer.u32() == 1 else b""
        if not name or b"\0" in name:
            raise SFTPError("the server gave an invalid answer to a request for a path")
        return name.decode("utf-8", "surrogateescape")

    def _require(self, extension: str) -> None:
        if extension not in self.extensions:
            raise SFTPError(f"the server lacks the SFTP extension {extension}", packets.UNSUPPORTED)

    def _is_no_directory(self, path: str) -> bool:
        """Return True if there is a file or link of this name."""
        try:
            return not self.lstat(path).is_directory
        except SFTPError:
            return False


def _entries(fields: Fields) -> Iterator[Entry]:
    for _ in range(fields.u32()):  # a count that is too large ends with the packet
        entry = packets.read_entry(fields)
        packets.check_name(entry.name)
        yield entry
