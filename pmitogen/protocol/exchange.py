"""One request and its answers, as a client of the hub sees them: the only client loop there is.

The Ansible plugin speaks through a socket, the library through a queue in the same process; both are a :class:`HubConnection`. An
:class:`Exchange` sends the request, the rest of its body as far as the receiver has room for it, and credit for the output that
the caller has taken. Standard library only: workers import this in every task.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pmitogen.protocol.error_kinds import exception_from
from pmitogen.protocol.framing import CHUNK, CREDIT_WINDOW
from pmitogen.protocol.limits import INLINE
from pmitogen.protocol.operations import FINAL, Op

if TYPE_CHECKING:
    from pmitogen.protocol.messages_to_client import Answer
    from pmitogen.protocol.requests import ClientRequest


class HubConnection(Protocol):
    """A client's connection to the hub."""

    @property
    def is_paused(self) -> bool:
        """True while the hub accepts no further data. When that changes, :meth:`receive` must return."""

    def send(self, header: Mapping[str, object], body: bytes = b"") -> None:
        """Send one frame. Raises Error if the hub has ended."""

    def receive(self, timeout: float | None = None) -> tuple[Answer, bytes]:
        """Wait at most *timeout* seconds (None: no limit) for a frame. Raises Error if the hub has ended, TimeoutError."""


class Source(Protocol):
    """A file to read a body from."""

    def read(self, size: int, /) -> bytes:
        """Return at most *size* bytes, none at the end. May raise OSError."""


class Output(NamedTuple):
    """Output of the request's process, or a piece of a file."""

    stream: int  # 1: stdout, or the file; 2: stderr
    data: bytes


class Result(NamedTuple):
    """The final answer: ``exit`` or ``ok``, with its body."""

    header: Answer
    body: bytes


class Exchange:
    """A request that has been sent. Not thread-safe: one thread sends and reads.

    :param connection: the connection to the hub.
    :param header: the request, with its ``op`` and its number as ``id``.
    :param body: bytes or an open file. The first ``INLINE`` bytes of bytes are sent with the request, all else under credit.
    :param archive: the contents of a payload, sent if the hub asks for them.
    :param interactive: the caller continues with :meth:`write` and :meth:`end_input`.
    :raises Error: if the hub has ended.
    """

    def __init__(
        self,
        connection: HubConnection,
        header: ClientRequest,
        body: bytes | Source = b"",
        *,
        archive: bytes | memoryview = b"",
        interactive: bool = False,
    ) -> None:
        self._connection = connection
        self._id = header["id"]
        self._archive = archive
        self._source: Source | None = None
        self._credit = CREDIT_WINDOW  # bytes of the body that the receiver has room for
        self._unacknowledged = 0  # bytes of output that the caller has taken since the last credit
        self._has_ended = False
        inline = b""
        if not isinstance(body, bytes):
            self._source = body
        else:
            inline = body[:INLINE]
            if len(body) > INLINE:
                self._source = io.BytesIO(body)
                self._source.seek(INLINE)
        follows = {"more": True} if interactive or self._source is not None else {}
        connection.send({**header, **follows}, inline)

    def next(self, timeout: float | None = None) -> Output | Result:
        """Wait for output or the final answer. The next call acknowledges the output of this one as consumed.

        :param timeout: seconds between two frames; None: no limit.
        :raises TimeoutError: the request continues.
        :raises Error: the exception of the ``error`` frame, or the hub has ended.
        :raises OSError: the body cannot be read. The request is cancelled.
        """
        if self._unacknowledged:
            count, self._unacknowledged = self._unacknowledged, 0
            self._send(Op.CREDIT, count=count)
        while True:
            self._send_body()
            header, body = self._connection.receive(timeout)
            if header.get("id") != self._id:
                continue
            op = header["op"]
            if op == Op.OUT:
                self._unacknowledged = len(body)
                return Output(header["stream"], body)
            if op == Op.CREDIT:
                self._credit += header["count"]
            elif op == Op.NEED:
                self._connection.send({"op": Op.ARCHIVE.value, "archive": header["archive"]}, bytes(self._archive))
            elif op in FINAL:
                self._has_ended = True
                if op == Op.ERROR:
                    raise exception_from(header)
                return Result(header, body)

    def result(self, consume: Callable[[int, bytes], object]) -> Result:
        """Wait for the final answer. *consume* is called with the number of the stream (1 or 2) and data, on this thread.

        If *consume* raises, the request is cancelled. Raises as :meth:`next`.
        """
        while isinstance(event := self.next(), Output):
            try:
                consume(event.stream, event.data)
            except BaseException:
                self.cancel()
                raise
        return event

    def write(self, data: bytes, *, is_secret: bool = False) -> None:
        """Send *data* to the process's stdin. If it is secret, the hub fails the request where no secret may go to the host."""
        more = {"secret": True} if is_secret else {}
        for start in range(0, len(data), CHUNK):
            self._send(Op.DATA, data[start : start + CHUNK], **more)

    def end_input(self) -> None:
        """Close the process's stdin."""
        self._send(Op.EOF)

    def cancel(self) -> None:
        """Kill the process and discard further output. Does nothing after the final answer. Raises Error if the hub has ended."""
        if not self._has_ended:
            self._has_ended = True
            self._send(Op.KILL)

    def _send_body(self) -> None:
        while self._source is not None and self._credit > 0 and not self._connection.is_paused:
            try:
                piece = self._source.read(CHUNK)
            except BaseException:
                self.cancel()
                raise
            self._credit -= len(piece)
            if piece:
                self._send(Op.DATA, piece)
            else:
                self._source = None
                self._send(Op.EOF)

    def _send(self, op: Op, body: bytes = b"", **fields: object) -> None:
        self._connection.send({"op": op.value, "id": self._id, **fields}, body)
