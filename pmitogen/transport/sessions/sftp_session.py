"""Requests and answers of one SFTP session, on a channel or a socket.

Memory is bounded for any server. An answer is at most MAX_PACKET bytes long and must match a request; an answer to a read is at
most as long as the data asked for. Of a status only the code and a short text are stored.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple, Protocol

from pmitogen.transport.keys.wire import encode_string
from pmitogen.transport.sessions import sftp_packets as packets
from pmitogen.transport.sessions.sftp_packets import Fields, SFTPError
from pmitogen.util import peer_text

MAX_PACKET = 256 << 10  # bytes; OpenSSH's SFTP_MAX_MSG_LENGTH
MAX_ABANDONED = 4096  # requests whose answers are outstanding and of no interest
DATA_OVERHEAD = 9  # bytes of an answer to a read besides the data: kind, request number, length


class Answer(NamedTuple):
    """An answer to a request. *status* and *text* are set if *kind* is STATUS; the text is escaped."""

    kind: int
    fields: Fields
    status: int = packets.OK
    text: str = ""


class ByteStream(Protocol):
    """A channel, or a socket."""

    def sendall(self, data: bytes, /) -> object:
        """Send *data*. Blocks."""

    def recv(self, size: int, /) -> bytes:
        """Return up to *size* bytes; b"" at the end. Blocks."""

    def settimeout(self, seconds: float | None, /) -> object:
        """Limit the time of each call. None: no limit."""

    def close(self) -> object:
        """Close it."""


class Session:
    """SFTP on *channel*, at whose other end an SFTP server runs. One thread at a time; every method blocks.

    *extensions*: the names of the extensions that the server announces. Methods raise SFTPError, and OSError, EOFError or
    SSHException if the channel ends.
    """

    def __init__(self, channel: ByteStream) -> None:
        self._channel = channel
        self._inbox = bytearray()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, int] = {}  # requests without an answer: number -> most bytes of data in the answer
        self._answers: dict[int, Answer] = {}  # answers that were not taken yet
        self._abandoned: set[int] = set()  # requests whose answers are dropped
        self._channel.sendall(packets.encode_packet(packets.INIT, packets.VERSION.to_bytes(4, "big")))
        kind, fields = self._read_packet()
        if kind != packets.VERSION_ANSWER or fields.u32() < packets.VERSION:
            raise SFTPError("the server does not speak version 3 of SFTP")
        self.extensions: frozenset[str] = frozenset(_extensions(fields))

    def set_timeout(self, seconds: float | None) -> None:
        """Set the time limit of each wait for the server; None: none."""
        self._channel.settimeout(seconds)

    def close(self) -> None:
        """End the session and the channel."""
        self._channel.close()

    def send(self, kind: int, *fields: bytes, most: int = MAX_PACKET) -> int:
        """Send a request without waiting; return its number. Then call :meth:`wait` or :meth:`abandon`.

        *most*: bytes of data that are asked for, in a read.
        """
        request_id = next(self._numbers) & 0xFFFFFFFF
        self._waiting[request_id] = most
        self._channel.sendall(packets.encode_packet(kind, request_id.to_bytes(4, "big"), *fields))
        return request_id

    def wait(self, request_id: int) -> Answer:
        """Wait for the answer to a request. Raises SFTPError also if the server answers a request that was not made."""
        while request_id not in self._answers:
            self._read_answer()
        return self._answers.pop(request_id)

    def abandon(self, request_id: int) -> None:
        """Drop the answer to a request when it arrives."""
        if self._answers.pop(request_id, None) is None and self._waiting.pop(request_id, None) is not None:
            self._abandoned.add(request_id)

    def ask(self, expected: int, kind: int, *fields: bytes) -> Fields:
        """Send a request and wait for an answer of the kind *expected*. Raises SFTPError if the server refuses the request."""
        return check_answer(self.wait(self.send(kind, *fields)), expected)

    def _read_answer(self) -> None:
        kind, fields = self._read_packet()
        request_id = fields.u32()
        if request_id in self._abandoned:
            self._abandoned.remove(request_id)
            return
        most = self._waiting.pop(request_id, None)
        if most is None:
            raise SFTPError(f"the server answered an SFTP request that was not made (number {request_id})")
        if len(self._abandoned) > MAX_ABANDONED:
            raise SFTPError(f"the server left more than {MAX_ABANDONED} SFTP requests unanswered")
        if kind == packets.STATUS:
            self._answers[request_id] = _status(fields)
        elif len(fields.data) > most + DATA_OVERHEAD:
            raise SFTPError("the server gave an invalid answer to a read")
        else:
            self._answers[request_id] = Answer(kind, fields)

    def _read_packet(self) -> tuple[int, Fields]:
        length = int.from_bytes(self._take(4), "big")
        if not 5 <= length <= MAX_PACKET:
            raise SFTPError(f"the server sent an SFTP packet of an invalid length ({length})")
        fields = Fields(self._take(length))
        return fields.byte(), fields

    def _take(self, count: int) -> bytes:
        while len(self._inbox) < count:
            piece = self._channel.recv(MAX_PACKET)
            if not piece:
                raise EOFError("the server ended SFTP")
            self._inbox += piece
        taken = bytes(self._inbox[:count])
        del self._inbox[:count]
        return taken


def check_answer(answer: Answer, expected: int) -> Fields:
    """Return the fields of an answer. Raises SFTPError if it is a failure, or not of the kind *expected*."""
    if answer.kind == packets.STATUS and answer.status != packets.OK:
        raise SFTPError(answer.text or packets.TEXTS.get(answer.status, f"status {answer.status}"), answer.status)
    if answer.kind != expected:
        raise SFTPError("the server gave an invalid answer to an SFTP request")
    return answer.fields


def check_status(answer: Answer) -> None:
    """Raise SFTPError unless *answer* says that the request succeeded."""
    check_answer(answer, packets.STATUS)


def handle_of(fields: Fields) -> bytes:
    """Return the handle in the answer to an open, encoded as in a request. Raises SFTPError."""
    handle = fields.string()
    if not 0 < len(handle) <= 256:  # the draft's limit
        raise SFTPError("the server gave an invalid file handle")
    return encode_string(handle)


def _status(fields: Fields) -> Answer:
    code = fields.u32()
    try:
        text = peer_text.escape(fields.string())
    except SFTPError:  # some servers send the code alone
        text = ""
    return Answer(packets.STATUS, Fields(b""), code, text)


def _extensions(fields: Fields) -> list[str]:
    names = []
    while fields.left:
        names.append(fields.string().decode("utf-8", "replace"))
        fields.string()
    return names
