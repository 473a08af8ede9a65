"""A running command, for tasks."""

from __future__ import annotations

import signal
from typing import Any, Generic, Protocol, TypeVar, cast

from pmitogen.aio.waiting import Suspending
from pmitogen.api import arguments
from pmitogen.api.commands import newline_decoder
from pmitogen.api.exchange import Exchange
from pmitogen.api.running import Running
from pmitogen.api.waiting import Runtime

Text = TypeVar("Text", bytes, str)
RUNTIME = Suspending()


class Carrier(Protocol):
    """The streams of a process, or the contents of a file."""

    @property
    def exchange(self) -> Exchange:
        """The request that they belong to."""

    async def read(self, stream: int, size: int, runtime: Runtime) -> bytes:
        """Return some output of a stream; empty at its end."""

    async def write(self, data: bytes, runtime: Runtime) -> None:
        """Send input."""


class InputStream(Generic[Text]):
    """Writer for the input of a process, or for a file; nothing is held back."""

    def __init__(self, running: Carrier, encoding: tuple[str, str] | None) -> None:
        self._running, self._encoding = running, encoding
        self._closed = False

    async def write(self, data: Text) -> None:
        """Send *data*; returns when all is on its way. Raises TypeError, BrokenPipeError, and as :meth:`Process.wait`."""
        if self._closed:
            raise ValueError("write to closed stream")
        raw: object = data.encode(self._encoding[0]) if isinstance(data, str) and self._encoding is not None else data
        if not isinstance(raw, bytes) or self._encoding is not None and isinstance(data, bytes):
            arguments.wrong("write", "bytes" if self._encoding is None else "str", data)
        await self._running.write(raw, RUNTIME)

    def close(self) -> None:
        """End the input. Idempotent."""
        self._closed = True
        self._running.exchange.end_input()


class OutputStream(Generic[Text]):
    """Output of a process, or of a file that is read: iterate over its lines (``async for``), or call :meth:`read`.

    For one task at a time.
    """

    def __init__(self, running: Carrier, stream: int, encoding: tuple[str, str] | None) -> None:
        self._running, self._stream = running, stream
        self._decoder: Any = None
        self._empty: Any = b""
        if encoding is not None:
            self._decoder = newline_decoder(encoding)
            self._empty = ""
        self._buffer: Any = self._empty  # the newest data, and
        self._taken = 0  # how much of it has been returned: cutting that off for each line would copy the rest each time
        self._ended = False

    async def _fill(self) -> bool:
        """Get more into the buffer, which is empty. False: the end."""
        while not self._ended:
            data = await self._running.read(self._stream, -1, RUNTIME)
            self._ended = not data
            self._buffer, self._taken = data if self._decoder is None else self._decoder.decode(data, self._ended), 0
            if self._buffer:
                return True
        return False

    def _take(self, end: int | None = None) -> Any:
        """Return the buffer up to *end* (None: all of it)."""
        begin, self._taken = self._taken, len(self._buffer) if end is None else min(end, len(self._buffer))
        return self._buffer[begin : self._taken]

    async def _take_up_to(self, end: Any) -> Text:
        """Return the data up to and including *end*; None: up to the end of the stream. A cancelled task loses no data."""
        parts: list[Any] = []
        try:
            while self._taken < len(self._buffer) or await self._fill():
                found = -1 if end is None else self._buffer.find(end, self._taken)
                parts.append(self._take(None if found < 0 else found + 1))
                if found >= 0:
                    break
        except BaseException:
            self._buffer, self._taken = self._empty.join([*parts, self._take()]), 0
            raise
        return cast(Text, self._empty.join(parts))

    async def read(self, size: int = -1) -> Text:
        """Return at most *size* bytes or characters as soon as there are any; -1: all up to the end. Empty: the end."""
        if size < 0:
            return await self._take_up_to(None)
        if size and self._taken == len(self._buffer):
            await self._fill()
        return cast(Text, self._take(self._taken + size))

    async def readline(self) -> Text:
        """Return the next line, with its end; the last one may have none. Empty: the end."""
        return await self._take_up_to("\n" if self._decoder is not None else b"\n")

    def __aiter__(self) -> OutputStream[Text]:
        return self

    async def __anext__(self) -> Text:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line


class Process(Generic[Text]):
    """A command that runs on a host. Made by :meth:`Host.start`. Leaving its ``async with`` block ends it.

    A command waits while its output is not read. So :meth:`wait` alone never returns for a command that prints more than a few
    MiB: read the output, or use :meth:`communicate`.
    """

    def __init__(self, running: Running, encoding: tuple[str, str] | None) -> None:
        self._running, self._encoding = running, encoding
        self.stdin: InputStream[Text] = InputStream(running, encoding)
        self.stdout: OutputStream[Text] = OutputStream(running, 0, encoding)
        self.stderr: OutputStream[Text] = OutputStream(running, 1, encoding)

    def __repr__(self) -> str:
        return f"<pmitogen.aio.Process on {self._running.account}: {self._running.state}>"

    @property
    def returncode(self) -> int | None:
        """The exit status, 128 + n for signal n; None while it runs, and where the connection ended first."""
        return self._running.returncode

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs. Raises ConnectError, ConnectionLost, BecomeError."""
        return self._running.poll()

    async def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit and return its status.

        Raises TimeoutExpired after *timeout* seconds (the process keeps running), ConnectError, ConnectionLost, BecomeError.
        """
        return await self._running.wait(RUNTIME, arguments.seconds(timeout, "wait: timeout"))

    async def communicate(self, input: Text | None = None, timeout: float | None = None) -> tuple[Text, Text]:
        """Send *input*, close stdin, read all output, wait for the exit, and return (stdout, stderr).

        Raises TimeoutExpired after *timeout* seconds, with the output so far, and as :meth:`wait`. The process keeps running; a
        second call, without *input*, returns all of the output. Data that a stream has read before, also ahead, is not in it.
        """
        data = arguments.source(input, "communicate: input", self._encoding[0] if self._encoding else None)
        if not isinstance(data, bytes):
            arguments.wrong("communicate: input", "bytes or str", data)
        limit = arguments.seconds(timeout, "communicate: timeout")
        return await self._running.communicate(data, RUNTIME, limit, self._encoding)

    def send_signal(self, signum: int | signal.Signals) -> None:
        """Send a signal to its process group. Nothing, if it has ended. Raises TypeError, UsageError."""
        self._running.send_signal(signum)

    def terminate(self) -> None:
        """Send SIGTERM to its process group."""
        self._running.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to its process group."""
        self._running.send_signal(signal.SIGKILL)

    def resize(self, columns: int, lines: int) -> None:
        """Change the size of its terminal. Raises UsageError if it has none."""
        width = arguments.integer(columns, "resize: columns", 0, 65535)
        self._running.resize(width, arguments.integer(lines, "resize: lines", 0, 65535))

    async def close(self) -> None:
        """End the process group with SIGTERM, and with SIGKILL two seconds later; wait for its end. Idempotent."""
        await self._running.end(RUNTIME)

    async def __aenter__(self) -> Process[Text]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
