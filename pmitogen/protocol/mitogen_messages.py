"""Read the Mitogen messages that one host's agent sends.

Each has a header of 22 bytes: kind, destination, source, authority, handle, handle for a reply, and size of the data. An agent
sends to the hub only (context 0), in its own name only, on two handles, and wants no reply. Anything else breaks the protocol:
the hub routes, serves and ignores nothing else.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from pmitogen.protocol.error_kinds import ProtocolError
from pmitogen.protocol.framing import TO_HUB_PACKED, TO_HUB_UNPACKED
from pmitogen.protocol.limits import TARGET_MESSAGE

HEADER = struct.Struct(">hLLLLLL")
KIND = 0x4D49  # "MI": plain data
HUB = 0  # its number as a context


class ChannelMessage(NamedTuple):
    """One message of an agent."""

    packed: bool
    data: bytes


class ChannelReader:
    """Splits the bytes from the agent with the context ID *agent* into messages. Holds one incomplete message at most."""

    def __init__(self, agent: int) -> None:
        self._agent = agent
        self._buffer = bytearray()
        self._start = 0  # offset of the next message

    def feed(self, data: bytes) -> None:
        """Add bytes that have arrived."""
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        self._buffer += data

    def next(self) -> ChannelMessage | None:
        """Return the next message, or None if it is not complete. Raises ProtocolError as soon as its header is wrong."""
        start, buffer = self._start, self._buffer
        if len(buffer) - start < HEADER.size:
            return None
        kind, destination, source, authority, handle, reply, size = HEADER.unpack_from(buffer, start)
        if kind != KIND:
            raise ProtocolError("bytes that are not a Mitogen message")
        if destination != HUB:
            raise ProtocolError(f"a message for context {destination}")
        if source != self._agent or authority != self._agent:
            raise ProtocolError(f"a message in the name of context {source if source != self._agent else authority}")
        if handle not in (TO_HUB_UNPACKED, TO_HUB_PACKED):
            raise ProtocolError(f"a message on handle {handle}")
        if reply:
            raise ProtocolError(f"a message that wants a reply on handle {reply}")
        if not 0 < size <= TARGET_MESSAGE:
            raise ProtocolError(f"a message of {size} bytes")
        begin = start + HEADER.size
        if len(buffer) < begin + size:
            return None
        self._start = begin + size
        return ChannelMessage(handle == TO_HUB_PACKED, bytes(memoryview(buffer)[begin : begin + size]))
