"""Packets of SFTP version 3 (draft-ietf-secsh-filexfer-02): numbers, attributes, names and errors. No I/O."""

from __future__ import annotations

import stat
from typing import NamedTuple

from pmitogen.transport.keys.wire import DecodeError, PacketReader, encode_string, encode_u32
from pmitogen.util import peer_text

VERSION = 3
INIT, VERSION_ANSWER, OPEN, CLOSE, READ, WRITE = 1, 2, 3, 4, 5, 6
LSTAT, FSTAT, SETSTAT, FSETSTAT, OPENDIR, READDIR = 7, 8, 9, 10, 11, 12
REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME, READLINK, SYMLINK = 13, 14, 15, 16, 17, 18, 19, 20
STATUS, HANDLE, DATA, NAME, ATTRS = 101, 102, 103, 104, 105
EXTENDED, EXTENDED_ANSWER = 200, 201
OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE, UNSUPPORTED = 0, 1, 2, 3, 4, 5, 8
FLAG_READ, FLAG_WRITE, FLAG_CREATE, FLAG_TRUNCATE, FLAG_EXCLUSIVE = 1, 2, 8, 16, 32
ATTR_SIZE, ATTR_OWNER, ATTR_PERMISSIONS, ATTR_TIMES, ATTR_EXTENDED = 1, 2, 4, 8, 0x80000000
TEXTS = {
    1: "end of file",
    2: "no such file",
    3: "permission denied",
    4: "failure",
    5: "bad message",
    8: "operation not supported",
}
MAX_PATH = 32 << 10  # bytes of a path in a request; Linux allows 4096


class SFTPError(Exception):
    """An operation failed; the message is for the user.

    *code*: the status code of the server's answer (such as NO_SUCH_FILE), or of a request that this client refuses to send. None
    if the answer is invalid: then the session cannot be used any longer.
    """

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class Fields(PacketReader):
    """The fields of one answer; raises SFTPError if the answer is too short."""

    def take(self, count: int) -> bytes:
        """Return the next *count* bytes."""
        try:
            return super().take(count)
        except DecodeError as error:
            raise SFTPError(f"the server sent a malformed SFTP packet: {error}") from None


class Attributes(NamedTuple):
    """Attributes of a file. None: unknown, or leave unchanged.

    *size*: bytes. *mode*: type and permissions as in ``st_mode``. *atime*, *mtime*: seconds since 1970, 32 bits. SFTP transfers
    *uid* with *gid*, and *atime* with *mtime*: use both or neither.
    """

    size: int | None = None
    uid: int | None = None
    gid: int | None = None
    mode: int | None = None
    atime: int | None = None
    mtime: int | None = None

    @property
    def is_directory(self) -> bool:
        """True if it is a directory, according to the server."""
        return self.mode is not None and stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        """True if it is a symbolic link; for the results of lstat and of listings."""
        return self.mode is not None and stat.S_ISLNK(self.mode)

    @property
    def is_file(self) -> bool:
        """True if it is a regular file. A server may omit the type: that counts as a regular file."""
        return self.mode is None or stat.S_IFMT(self.mode) in (0, stat.S_IFREG)


class Entry(NamedTuple):
    """One name in a directory. *description*: the server's line for ``ls -l``, escaped."""

    name: str
    attributes: Attributes
    description: str = ""


def read_attributes(fields: Fields) -> Attributes:
    """Read the attributes at the end of an answer. Extended ones, which nothing here needs, are left unread."""
    return _read_attributes(fields)[0]


def read_entry(fields: Fields) -> Entry:
    """Read one entry of a listing."""
    name = fields.string().decode("utf-8", "surrogateescape")
    description = peer_text.escape(fields.string())
    attributes, flags = _read_attributes(fields)
    if flags & ATTR_EXTENDED:
        for _ in range(fields.u32()):  # a count that is too large ends with the packet
            fields.string(), fields.string()
    return Entry(name, attributes, description)


def _read_attributes(fields: Fields) -> tuple[Attributes, int]:
    flags = fields.u32()
    size = fields.u64() if flags & ATTR_SIZE else None
    uid, gid = (fields.u32(), fields.u32()) if flags & ATTR_OWNER else (None, None)
    mode = fields.u32() if flags & ATTR_PERMISSIONS else None
    atime, mtime = (fields.u32(), fields.u32()) if flags & ATTR_TIMES else (None, None)
    return Attributes(size, uid, gid, mode, atime, mtime), flags


def encode_attributes(attributes: Attributes) -> bytes:
    """Encode the attributes that are not None. The mode's type is left out."""
    size, uid, gid, mode, atime, mtime = attributes
    flags = 0
    parts = b""
    if size is not None:
        flags |= ATTR_SIZE
        parts += size.to_bytes(8, "big")
    if uid is not None and gid is not None:
        flags |= ATTR_OWNER
        parts += encode_u32(uid) + encode_u32(gid)
    if mode is not None:
        flags |= ATTR_PERMISSIONS
        parts += encode_u32(stat.S_IMODE(mode))
    if atime is not None and mtime is not None:
        flags |= ATTR_TIMES
        parts += encode_u32(_clamp(atime)) + encode_u32(_clamp(mtime))
    return encode_u32(flags) + parts


def encode_path(path: str) -> bytes:
    """Encode a path. Raises SFTPError if no server could take it."""
    raw = path.encode("utf-8", "surrogateescape")
    if b"\0" in raw:
        raise SFTPError("the path contains a NUL character", BAD_MESSAGE)
    if len(raw) > MAX_PATH:
        raise SFTPError(f"the path is longer than {MAX_PATH} bytes", BAD_MESSAGE)
    return encode_string(raw)


def encode_packet(kind: int, *fields: bytes) -> bytes:
    """Encode a packet with its length."""
    return encode_u32(1 + sum(map(len, fields))) + bytes((kind,)) + b"".join(fields)


def check_name(name: str) -> None:
    """Raise SFTPError unless *name*, from a listing, is the name of an entry of that directory.

    A name with a slash would let a server choose where a recursive copy writes.
    """
    if not name or "/" in name or "\0" in name:
        raise SFTPError(f"the server listed {peer_text.escape(name) or 'an empty name'}, which is not a valid file name")


def _clamp(seconds: int) -> int:
    """Return the nearest time that version 3 of SFTP can express."""
    return min(max(seconds, 0), 0xFFFFFFFF)
