"""Read from sockets, channels and other objects with a ``recv`` method."""

from __future__ import annotations

from collections.abc import Callable


def read_exactly(receive: Callable[[int], bytes], count: int) -> bytes:
    """Read *count* bytes. Blocks as *receive* does. Raises EOFError if the stream ends before.

    *receive*: returns at most that many bytes, and ``b""`` at the end of the stream, as ``socket.recv`` does.
    """
    data = bytearray()
    while len(data) < count:
        piece = receive(count - len(data))
        if not piece:
            raise EOFError("the stream has ended")
        data += piece
    return bytes(data)
