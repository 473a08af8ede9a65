"""Mitogen messages on the channel to the hub; see ``mitogen.core.Message``.

Mitogen's own core is not sent to hosts: it would be half of the bundle and a fifth of the start.
"""

import struct
import sys

from pmitogen.protocol.framing import TO_AGENT_PACKED, TO_AGENT_UNPACKED
from pmitogen.target.agent.event_loop import Peer

MYPY = False
if MYPY:
    from typing import Callable  # noqa: F401
    from pmitogen.target.agent.event_loop import Loop  # noqa: F401

HEADER = struct.Struct(">hLLLLLL")  # kind, destination, source, authority, handle, handle for a reply, size of the data
KIND = 0x4D49  # "MI": plain data
HUB = 0  # its number as a context
MAX_MESSAGE = 80 << 20  # bytes: above the largest frame


class HubConnection(object):
    """The connection to the hub. ``peer`` is its end of the channel.

    *on_message*: called with the data of each message, and True if it is part of the packed stream. Messages for other contexts
    or handles are dropped.
    *on_end*: called once when the hub is gone.
    """

    def __init__(self, loop, in_fd, out_fd, on_message, on_end):
        # type: (Loop, int, int, Callable[[bytes, bool], object], Callable[[], object]) -> None
        self._context_id = int(sys.argv[4])
        self.peer = Peer(loop, in_fd, out_fd, self._on_data, on_end)
        self._on_message = on_message
        self._buf = bytearray()

    def send(self, handle, data):
        # type: (int, bytes) -> None
        own = self._context_id
        self.peer.write(HEADER.pack(KIND, HUB, own, own, handle, 0, len(data)) + data)

    def _on_data(self, data):
        # type: (bytes) -> None
        self._buf += data
        buf, pos = self._buf, 0
        while len(buf) - pos >= HEADER.size:
            kind, destination, _, _, handle, _, size = HEADER.unpack_from(buf, pos)
            if kind != KIND or size > MAX_MESSAGE:
                self.peer.close()
                return
            end = pos + HEADER.size + size
            if end > len(buf):
                break
            if destination == self._context_id and handle in (TO_AGENT_UNPACKED, TO_AGENT_PACKED):
                self._on_message(bytes(buf[pos + HEADER.size : end]), handle == TO_AGENT_PACKED)
            pos = end
        del buf[:pos]
