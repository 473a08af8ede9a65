"""Data that arrived on a channel and was not read yet.

Missing upstream (Paramiko 5.1): ``BufferedPipe`` copies the rest of its data for each piece that is read, and returns all of
it with three copies in memory.
"""

from __future__ import annotations

import threading
from typing import Any

from paramiko.buffered_pipe import BufferedPipe
from paramiko.ssh_exception import SSHException


class InputBuffer(BufferedPipe):  # type: ignore[type-arg]
    """Upstream's pipe with another buffer, which loses bytes at its start without a copy. Thread-safe.

    *limit*: maximum of bytes in total, None: no maximum; *limited*: the kind of data, for the message.
    """

    limit: int | None = None
    limited = "output"

    # Upstream's, in no stub:
    _lock: threading.Lock
    _event: Any
    _closed: bool

    def __init__(self) -> None:
        super().__init__()
        self._buffer = bytearray()
        self._received = 0

    def _buffer_frombytes(self, data: bytes) -> None:
        self._buffer += data

    def _buffer_tobytes(self, limit: int | None = None) -> bytes:
        with memoryview(self._buffer) as view:
            return bytes(view[:limit])

    def feed(self, data: bytes) -> None:
        """Add *data*. Raises SSHException where it exceeds the limit (transport thread)."""
        self._received += len(data)
        if self.limit is not None and self._received > self.limit:
            raise SSHException(f"the server sent more than {self.limit >> 20} MiB of {self.limited}")
        super().feed(data)

    def take(self, limit: int | None) -> bytes:
        """Take at most *limit* bytes (None: all); never blocks. The event stays set while there is more."""
        with self._lock:
            out = self._buffer_tobytes(limit)
            del self._buffer[:limit]
            if self._event is not None and not self._buffer and not self._closed:
                self._event.clear()
            return out
