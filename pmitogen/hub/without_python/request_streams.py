"""The data of a request as files, for code that reads and writes files. A thread of the request's own uses them; they block."""

from __future__ import annotations

import io
import queue
from collections.abc import Callable
from typing import TYPE_CHECKING

from pmitogen.errors import RemoteError

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from pmitogen.protocol.messages_to_client import Answer


class InboxReader(io.RawIOBase):
    """A readable file with the client's data. Each piece that is read is acknowledged.

    *is_cancelled* tells the end of a cancelled request from that of the data: reading it raises RemoteError.
    """

    def __init__(
        self, inbox: queue.SimpleQueue[bytes | None], send: Callable[[Answer], None], is_cancelled: Callable[[], bool]
    ) -> None:
        self._inbox, self._send, self._is_cancelled = inbox, send, is_cancelled
        self._rest = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        wanted = size if size is not None and size >= 0 else 1 << 62
        parts = []
        while wanted > 0 and not (self._ended and not self._rest):
            if not self._rest:
                data = self._inbox.get()
                if data is None and self._is_cancelled():
                    raise RemoteError("cancelled")
                self._ended = data is None
                self._rest = data or b""
                if data:
                    self._send({"op": "credit", "count": len(data)})
                continue
            part, self._rest = self._rest[:wanted], self._rest[wanted:]
            wanted -= len(part)
            parts.append(part)
        return b"".join(parts)


class OutboxWriter(io.RawIOBase):
    """A writable file that sends its data to the client."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        taken = bytes(data)
        self._send(taken)
        return len(taken)
