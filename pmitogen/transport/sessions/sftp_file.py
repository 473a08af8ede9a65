"""An open file of an SFTP session: reads and writes at offsets, many requests at a time."""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, NamedTuple

import paramiko

from pmitogen.transport.keys.wire import encode_string
from pmitogen.transport.sessions import sftp_packets as packets
from pmitogen.transport.sessions.sftp_packets import Attributes, SFTPError
from pmitogen.transport.sessions.sftp_session import Session, check_answer, check_status

if TYPE_CHECKING:
    from typing_extensions import Self

CHUNK = 32 << 10  # bytes of one read or write; every server takes as much
IN_FLIGHT = 64  # requests that wait for their answer: 2 MiB
FSYNC, COPY_DATA = "fsync@openssh.com", "copy-data"


class _Read(NamedTuple):
    """A read request without an answer."""

    number: int
    offset: int
    size: int


class RemoteFile:
    """An open file. One thread at a time, that of its session. Use it in a ``with`` block, whose end closes it.

    Methods raise SFTPError, and OSError, EOFError or SSHException if the channel ends. Offsets and sizes are in bytes.
    """

    def __init__(self, session: Session, handle: bytes) -> None:
        self._session = session
        self._handle = handle
        self._is_open = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def close(self) -> None:
        """Close the file. Idempotent. Raises SFTPError if the server could not write everything."""
        if self._is_open:
            self._is_open = False
            self._session.ask(packets.STATUS, packets.CLOSE, self._handle)

    def abandon(self) -> None:
        """Close the file without waiting and without errors. Idempotent."""
        if self._is_open:
            self._is_open = False
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                self._session.abandon(self._session.send(packets.CLOSE, self._handle))

    def attributes(self) -> Attributes:
        """Return the file's attributes."""
        return packets.read_attributes(self._session.ask(packets.ATTRS, packets.FSTAT, self._handle))

    def set_attributes(self, attributes: Attributes) -> None:
        """Set the attributes that are not None; a *size* truncates or extends the file."""
        self._session.ask(packets.STATUS, packets.FSETSTAT, self._handle, packets.encode_attributes(attributes))

    def sync(self) -> bool:
        """Ask the server to write the file to its disk. Returns False if the server lacks the extension for it."""
        if FSYNC not in self._session.extensions:
            return False
        self._session.ask(packets.STATUS, packets.EXTENDED, encode_string(FSYNC), self._handle)
        return True

    def copy_to(self, target: RemoteFile) -> None:
        """Ask the server to copy the whole file to *target*, a file of the same session. Raises SFTPError."""
        if COPY_DATA not in self._session.extensions:
            raise SFTPError(f"the server lacks the SFTP extension {COPY_DATA}", packets.UNSUPPORTED)
        fields = (self._handle, bytes(8), bytes(8), target._handle, bytes(8))  # offset, length (0: to the end), offset
        self._session.ask(packets.STATUS, packets.EXTENDED, encode_string(COPY_DATA), *fields)

    def read_at(self, offset: int, size: int) -> bytes:
        """Read *size* bytes from *offset* on; fewer only at the end of the file."""
        data = bytearray()
        with contextlib.closing(self._read(offset, offset + size, until=offset + size)) as pieces:
            for piece in pieces:
                data += piece
        return bytes(data)

    def read_pieces(self, offset: int = 0) -> Generator[bytes, None, None]:
        """Yield the file from *offset* to its end, in pieces of at most CHUNK bytes. Other requests may be made in between."""
        # The size is a hint: up to there requests are sent ahead, then one at a time to the real end.
        return self._read(offset, self.attributes().size or 0, until=None)

    def _read(self, offset: int, ahead: int, until: int | None) -> Generator[bytes, None, None]:
        reads: collections.deque[_Read] = collections.deque()
        following = offset
        try:
            while True:
                while (until is None or following < until) and (not reads or len(reads) < IN_FLIGHT and following < ahead):
                    size = CHUNK if until is None else min(CHUNK, until - following)
                    reads.append(self._request(following, size))
                    following += size
                if not reads:
                    return
                read = reads.popleft()
                data = self._data(read)
                if not data:
                    return
                if len(data) < read.size:
                    reads.appendleft(self._request(read.offset + len(data), read.size - len(data)))
                yield data
        finally:
            for read in reads:
                self._session.abandon(read.number)

    def _request(self, offset: int, size: int) -> _Read:
        fields = (self._handle, offset.to_bytes(8, "big"), size.to_bytes(4, "big"))
        return _Read(self._session.send(packets.READ, *fields, most=size), offset, size)

    def _data(self, read: _Read) -> bytes:
        """Return the answer to *read*; b"" at the end of the file."""
        answer = self._session.wait(read.number)
        if answer.kind == packets.STATUS and answer.status == packets.EOF:
            return b""
        data = check_answer(answer, packets.DATA).string()
        if not 0 < len(data) <= read.size:
            raise SFTPError("the server gave an invalid answer to a read")
        return data

    def write_at(self, offset: int, data: bytes) -> None:
        """Write *data* at *offset*."""
        self.write_pieces((data,), offset)

    def write_pieces(self, pieces: Iterable[bytes], offset: int = 0) -> int:
        """Write *pieces* of any size one after another from *offset* on; return the offset after them.

        The next piece is taken while earlier ones are under way. Exceptions of the iterable are raised, too.
        """
        pending: collections.deque[int] = collections.deque()
        try:
            for piece in pieces:
                for start in range(0, len(piece), CHUNK):
                    chunk = piece[start : start + CHUNK]
                    fields = (self._handle, offset.to_bytes(8, "big"), encode_string(chunk))
                    pending.append(self._session.send(packets.WRITE, *fields))
                    offset += len(chunk)
                    if len(pending) > IN_FLIGHT:
                        check_status(self._session.wait(pending.popleft()))
            while pending:
                check_status(self._session.wait(pending.popleft()))
        finally:
            for request_id in pending:
                self._session.abandon(request_id)
        return offset
