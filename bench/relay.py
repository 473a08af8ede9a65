"""A TCP relay on loopback that counts bytes and direction changes, and can delay both directions: ``python -m bench.relay``.

Its own process, so that its work is nobody else's. It takes one JSON object as its argument, ``{"addresses": [...],
"listen": port, "to": port, "delay": seconds}``; a connection to an address goes on to the same address, other port. Each line
on standard input is answered with the counts, a line of JSON, which start from zero again. It ends with its standard input.

A delayed direction is a queue of (when due, bytes), so each byte comes *delay* seconds late and throughput is what it was, up to
QUEUE bytes under way. A turn is a change of direction on one connection: two to a round trip that is waited for.
"""

from __future__ import annotations

import asyncio
import collections
import json
import sys

QUEUE = 64 << 20  # bytes under way in one direction before its reader is held back


class Counts:
    """The traffic of all connections since the last reset."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.connections = self.up = self.down = self.direction_changes = 0

    def as_dict(self) -> dict[str, int]:
        return {"connections": self.connections, "up": self.up, "down": self.down, "direction_changes": self.direction_changes}


class Conversation:
    """The two directions of one connection, and which of them spoke last."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._last: str | None = None

    def count(self, direction: str, size: int) -> None:
        if direction == "up":
            self._counts.up += size
        else:
            self._counts.down += size
        if direction != self._last:
            self._last = direction
            self._counts.direction_changes += 1


class Side(asyncio.Protocol):
    """One socket of a connection. Its data is written to its *peer*, *delay* seconds later."""

    peer: Side
    transport: asyncio.Transport

    def __init__(self, conversation: Conversation, direction: str, delay: float) -> None:
        self._conversation = conversation
        self._direction = direction
        self._delay = delay
        self._queue: collections.deque[tuple[float, bytes]] = collections.deque()  # b"" is the end of file
        self._queued = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=4 << 20)

    def data_received(self, data: bytes) -> None:
        self._conversation.count(self._direction, len(data))
        if not self._delay:
            self.peer.transport.write(data)
            return
        self._enqueue(data)
        if self._queued > QUEUE:
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        if self._delay:
            self._enqueue(b"")
        else:
            self._pass_on(b"")
        return True  # keep the other direction open

    def connection_lost(self, error: Exception | None) -> None:
        if not self._delay or not self._queue:
            self.peer.transport.close()
        else:
            self._enqueue(b"")

    def pause_writing(self) -> None:
        self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        self.peer.transport.resume_reading()

    def _enqueue(self, data: bytes) -> None:
        self._queue.append((self._loop.time() + self._delay, data))
        self._queued += len(data)
        if self._timer is None:
            self._timer = self._loop.call_later(self._delay, self._deliver)

    def _deliver(self) -> None:
        """Passes on what is due, and sets the clock for the next."""
        self._timer = None
        now = self._loop.time() + 0.0005
        while self._queue and self._queue[0][0] <= now:
            _, data = self._queue.popleft()
            self._queued -= len(data)
            self._pass_on(data)
        if self._queue:
            self._timer = self._loop.call_at(self._queue[0][0], self._deliver)
        if self._queued < QUEUE // 2 and not self.transport.is_closing():
            self.transport.resume_reading()

    def _pass_on(self, data: bytes) -> None:
        if self.peer.transport.is_closing():
            return
        if data:
            self.peer.transport.write(data)
        elif self.peer.transport.can_write_eof():
            self.peer.transport.write_eof()
            if self.transport.is_closing():
                self.peer.transport.close()


class Front(Side):
    """The client's side: on its arrival the relay connects onwards."""

    def __init__(self, counts: Counts, port: int, delay: float) -> None:
        super().__init__(Conversation(counts), "up", delay)
        self._counts, self._port = counts, port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._counts.connections += 1
        # Not at once: in Python 3.10 the transport begins to read after this method, even if it was told to pause.
        self._loop.call_soon(self.transport.pause_reading)
        self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        address = self.transport.get_extra_info("sockname")[0]
        back = Side(self._conversation, "down", self._delay)
        back.peer = self
        try:
            _, protocol = await self._loop.create_connection(lambda: back, address, self._port)
        except OSError:
            self.transport.abort()
            return
        self.peer = protocol
        self.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if hasattr(self, "peer"):
            super().connection_lost(error)


async def serve(addresses: list[str], listen: int, to: int, delay: float) -> None:
    loop = asyncio.get_running_loop()
    counts = Counts()
    await loop.create_server(lambda: Front(counts, to, delay), addresses, listen, backlog=256)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("ready", flush=True)
    while await reader.readline():
        print(json.dumps(counts.as_dict()), flush=True)
        counts.reset()


if __name__ == "__main__":
    asyncio.run(serve(**json.loads(sys.argv[1])))
