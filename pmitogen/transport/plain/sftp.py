"""A client of SFTP version 3 (draft-ietf-secsh-filexfer-02) for what is needed here: to read a file, and to write one.

Memory is bounded whatever the server says: IN_FLIGHT requests of CHUNK bytes wait for their answers, an answer is at most
MAX_PACKET long and matches a request, and of a file's attributes nothing but the size is read, which is a hint and no more.

Upstream's ``SFTPClient`` is not used: it makes a list of all requests for the size that a server tells (a list without end for
2**62), takes packets of 16 MiB and answers to requests that were not made, and loops as often as a number in an answer says.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
from collections.abc import Iterable
from typing import IO

import paramiko

from pmitogen.transport.keys.wire import DecodeError, PacketReader, encode_string
from pmitogen.transport.paramiko_ext.channel import Channel
from pmitogen.util import peer_text

CHUNK = 32 << 10  # bytes of one read or write; what every server takes
IN_FLIGHT = 64  # requests that wait for their answer: 2 MiB
MAX_PACKET = 256 << 10  # bytes; OpenSSH's SFTP_MAX_MSG_LENGTH
MAX_HANDLE = 256  # bytes, by the draft
VERSION = 3
INIT, VERSION_ANSWER, OPEN, CLOSE, READ, WRITE = 1, 2, 3, 4, 5, 6
FSTAT, FSETSTAT, REMOVE, STAT, RENAME = 8, 10, 13, 17, 18
STATUS, HANDLE, DATA, ATTRS = 101, 102, 103, 105
EXTENDED = 200
OK, EOF, NO_SUCH_FILE = 0, 1, 2
FLAG_READ, FLAG_WRITE, FLAG_CREATE, FLAG_TRUNCATE = 1, 2, 8, 16
ATTR_SIZE, ATTR_UIDGID, ATTR_PERMISSIONS = 1, 2, 4
S_IFMT, S_IFDIR = 0o170000, 0o040000
CODES = {2: "no such file", 3: "permission denied", 4: "failure", 5: "bad message", 8: "operation not supported"}


class SFTPError(Exception):
    """The server refused something; the text is for people. *code* is SFTP's, None where its answer is not valid."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class SFTP:
    """One session on *channel*, whose subsystem is started. For one thread at a time; every method blocks.

    Methods raise SFTPError, and OSError, EOFError or SSHException where the channel ends.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._inbox = bytearray()
        self._ids = itertools.count(1)
        self._waiting: set[int] = set()  # requests whose answers have not come
        self._ignored: set[int] = set()  # the same, of requests that are no longer of interest
        self._channel.sendall(_packet(INIT, VERSION.to_bytes(4, "big")))
        kind, reader = self._read_packet()
        if kind != VERSION_ANSWER or reader.u32() < VERSION:
            raise SFTPError("the server does not speak version 3 of SFTP")

    def fetch(self, path: str, target: IO[bytes]) -> int:
        """Copy the file *path* there into *target*; returns its size."""
        handle = self._open(path, FLAG_READ)
        try:
            return _Fetch(self, handle, self._size(handle), target).run()
        finally:
            self._finish(handle)

    def put(self, pieces: Iterable[bytes], path: str, mode: int | None) -> None:
        """Write *pieces* to *path* there, which is created or cut; *mode* as in chmod, None: the server's default."""
        handle = self._open(path, FLAG_WRITE | FLAG_CREATE | FLAG_TRUNCATE)
        try:
            if mode is not None:
                attributes = ATTR_PERMISSIONS.to_bytes(4, "big") + mode.to_bytes(4, "big")
                self._ask(FSETSTAT, encode_string(handle), attributes)
            offset = 0
            for piece in pieces:
                for start in range(0, len(piece), CHUNK):
                    chunk = piece[start : start + CHUNK]
                    self.send(WRITE, encode_string(handle), offset.to_bytes(8, "big"), encode_string(chunk))
                    offset += len(chunk)
                    self._collect(IN_FLIGHT)
            self._collect(0)
            self._ask(CLOSE, encode_string(handle))
        except BaseException:
            self._finish(handle)
            raise

    def replace(self, old: str, new: str) -> None:
        """Rename *old* to *new*, in place of a file that is there."""
        try:
            self._ask(EXTENDED, encode_string("posix-rename@openssh.com"), _path(old), _path(new))
        except SFTPError:
            # A server without OpenSSH's extension: its own rename does not replace.
            if self._is_file(new):
                self.remove(new)
            self._ask(RENAME, _path(old), _path(new))

    def remove(self, path: str) -> None:
        """Delete a file."""
        self._ask(REMOVE, _path(path))

    def close(self) -> None:
        """End the session, and the channel."""
        self._channel.close()

    # Requests

    def send(self, kind: int, *fields: bytes) -> int:
        """Send a request without waiting; returns its number."""
        number = next(self._ids) & 0xFFFFFFFF
        self._waiting.add(number)
        self._channel.sendall(_packet(kind, number.to_bytes(4, "big"), *fields))
        return number

    def receive(self) -> tuple[int, int, PacketReader]:
        """The next answer: its kind, the number of the request, and the rest. Raises SFTPError if it answers nothing of ours."""
        while True:
            kind, reader = self._read_packet()
            number = reader.u32()
            if number in self._waiting:
                self._waiting.remove(number)
                return kind, number, reader
            if number not in self._ignored:
                raise SFTPError(f"the server answered an SFTP request that was not made (number {number})")
            self._ignored.remove(number)

    def _ask(self, kind: int, *fields: bytes) -> tuple[int, PacketReader]:
        """Send a request and wait for its answer. Raises SFTPError where it is a refusal."""
        number = self.send(kind, *fields)
        while True:
            kind, answered, reader = self.receive()
            if answered == number:
                if kind == STATUS:
                    check_status(reader)
                return kind, reader

    def _collect(self, most: int) -> None:
        """Take answers to writes until at most *most* are missing. Raises SFTPError at a refusal."""
        while len(self._waiting) > most:
            kind, _, reader = self.receive()
            if kind != STATUS:
                raise SFTPError("the server gave an invalid answer to a write")
            check_status(reader)

    def _open(self, path: str, flags: int) -> bytes:
        kind, reader = self._ask(OPEN, _path(path), flags.to_bytes(4, "big"), bytes(4))
        handle = reader.string() if kind == HANDLE else b""
        if not 0 < len(handle) <= MAX_HANDLE:
            raise SFTPError("the server gave an invalid file handle")
        return handle

    def _finish(self, handle: bytes) -> None:
        """Close *handle*, without interest in that or in what is still under way."""
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self.send(CLOSE, encode_string(handle))
        self._ignored |= self._waiting
        self._waiting.clear()

    def _size(self, handle: bytes) -> int:
        """How long the file says to be; 0: it does not say."""
        kind, reader = self._ask(FSTAT, encode_string(handle))
        return reader.u64() if kind == ATTRS and reader.u32() & ATTR_SIZE else 0

    def _is_file(self, path: str) -> bool:
        try:
            kind, reader = self._ask(STAT, _path(path))
        except SFTPError:
            return False
        flags = reader.u32() if kind == ATTRS else 0
        reader.take(8 * bool(flags & ATTR_SIZE) + 8 * bool(flags & ATTR_UIDGID))
        return not (flags & ATTR_PERMISSIONS and reader.u32() & S_IFMT == S_IFDIR)

    # Packets

    def _read_packet(self) -> tuple[int, PacketReader]:
        length = int.from_bytes(self._take(4), "big")
        if not 5 <= length <= MAX_PACKET:
            raise SFTPError(f"the server sent an SFTP packet of an invalid length ({length})")
        reader = PacketReader(self._take(length))
        return reader.byte(), reader

    def _take(self, count: int) -> bytes:
        while len(self._inbox) < count:
            piece = self._channel.recv(MAX_PACKET)
            if not piece:
                raise EOFError("the server ended SFTP")
            self._inbox += piece
        taken = bytes(self._inbox[:count])
        del self._inbox[:count]
        return taken


class _Piece:
    """A part of a file that was asked for."""

    def __init__(self, offset: int, size: int) -> None:
        self.offset, self.size = offset, size
        self.data = b""
        self.done = False  # whether no more of it will come


class _Fetch:
    """One file on its way here. Asks ahead up to the size that the file says to have, and then piece by piece to its real end."""

    def __init__(self, sftp: SFTP, handle: bytes, size: int, target: IO[bytes]) -> None:
        self._sftp, self._handle, self._size, self._target = sftp, handle, size, target
        self._pieces: collections.deque[_Piece] = collections.deque()
        self._by_number: dict[int, _Piece] = {}
        self._next_offset = 0

    def run(self) -> int:
        """Copy it; returns how many bytes there were."""
        got = 0
        while True:
            self._ask_ahead()
            self._take_answer()
            while self._pieces and self._pieces[0].done:
                piece = self._pieces.popleft()
                self._target.write(piece.data)
                got += len(piece.data)
                if len(piece.data) < piece.size:  # its end
                    return got

    def _ask_ahead(self) -> None:
        while not self._pieces or (len(self._by_number) < IN_FLIGHT > len(self._pieces) and self._next_offset < self._size):
            piece = _Piece(self._next_offset, CHUNK)
            self._next_offset += CHUNK
            self._pieces.append(piece)
            self._ask(piece)

    def _ask(self, piece: _Piece) -> None:
        offset, size = piece.offset + len(piece.data), piece.size - len(piece.data)
        number = self._sftp.send(READ, encode_string(self._handle), offset.to_bytes(8, "big"), size.to_bytes(4, "big"))
        self._by_number[number] = piece

    def _take_answer(self) -> None:
        kind, number, reader = self._sftp.receive()
        piece = self._by_number.pop(number)
        if kind == STATUS:
            try:
                check_status(reader)
            except SFTPError as error:
                if error.code != EOF:
                    raise
                piece.done = True
                return
        data = reader.string() if kind == DATA else b""
        if not 0 < len(data) <= piece.size - len(piece.data):
            raise SFTPError("the server gave an invalid answer to a read")
        piece.data += data
        piece.done = len(piece.data) == piece.size
        if not piece.done:
            self._ask(piece)


def check_status(reader: PacketReader) -> None:
    """Raise SFTPError for a status that is not success."""
    code = reader.u32()
    if code == OK:
        return
    try:
        text = peer_text.escape(reader.string())
    except DecodeError:  # some servers send the code alone
        text = ""
    raise SFTPError(text or CODES.get(code, f"status {code}"), code)


def _packet(kind: int, *fields: bytes) -> bytes:
    return (1 + sum(map(len, fields))).to_bytes(4, "big") + bytes((kind,)) + b"".join(fields)


def _path(path: str) -> bytes:
    return encode_string(path.encode("utf-8", "surrogateescape"))
