"""A running command: the one implementation below both kinds of :class:`Process`."""

from __future__ import annotations

import errno
import time
import weakref
from typing import TYPE_CHECKING, Any, NoReturn

from pmitogen.api.account import Account
from pmitogen.api.core import refuse_pickling
from pmitogen.api.exchange import Exchange
from pmitogen.api.waiting import Runtime
from pmitogen.errors import UsageError
from pmitogen.protocol.framing import CHUNK

if TYPE_CHECKING:
    from pmitogen.protocol.requests import RequestHeader

KILL_TIMEOUT = 10.0  # seconds for a process to end after SIGTERM
LAST_SIGNAL = 64
Encoding = tuple[str, str] | None


class Running:
    """One command that runs. Any thread or task may use it; each stream is for one at a time."""

    def __init__(self, account: Account, header: RequestHeader) -> None:
        self.account = account
        self.is_terminal = bool(header["tty"])
        self._input = memoryview(b"")  # of communicate: the rest of the input
        self._parts: tuple[list[bytes], list[bytes]] = ([], [])  # of communicate: the output so far
        self.exchange = Exchange(account, {**header, "stream_output": True}, b"", feeds=True)
        weakref.finalize(self, self.exchange.kill).atexit = False

    def __reduce__(self) -> NoReturn:
        refuse_pickling(f"a command of {self.account}")

    @property
    def returncode(self) -> int | None:
        """The exit status; None while it runs."""
        final = self.exchange.final
        return int(final["rc"]) if final is not None and final["op"] == "exit" else None

    @property
    def state(self) -> str:
        """Return the state, for its repr."""
        if self.exchange.final is None:
            return "running"
        return "lost" if self.returncode is None else f"ended with {self.returncode}"

    def poll(self) -> int | None:
        """Return the exit status; None while it runs. Raises what :meth:`wait` raises."""
        self.account.core.check_process(self.account)
        return None if self.exchange.final is None else int(self.exchange.result()["rc"])

    async def read(self, stream: int, size: int, runtime: Runtime) -> bytes:
        """Return some output of a stream, at most *size* bytes (-1: all available). Empty: its end."""
        request = self.exchange
        await request.until(lambda: request.has_output(stream), runtime)
        data = request.take(stream, size)
        if not data and request.final is not None:
            request.result()  # the connection may be what ended
        return data

    async def write(self, data: bytes, runtime: Runtime) -> None:
        """Send input. Raises BrokenPipeError once the process has ended."""
        if not await self.exchange.send(data, runtime):
            self.exchange.result()
            raise BrokenPipeError(errno.EPIPE, "the process has ended")

    async def wait(self, runtime: Runtime, timeout: float | None) -> int:
        """Wait for its end."""
        try:
            await self.exchange.until(lambda: False, runtime, None if timeout is None else time.monotonic() + timeout)
        except TimeoutError:
            raise self.account.timed_out(timeout) from None
        return int(self.exchange.result()["rc"])

    async def communicate(self, data: bytes, runtime: Runtime, timeout: float | None, encoding: Encoding) -> tuple[Any, Any]:
        """Send *data*, close stdin, read all output, and wait for the exit. After a timeout, a second call continues."""
        request = self.exchange
        deadline = None if timeout is None else time.monotonic() + timeout
        self._input = memoryview(bytes(self._input) + data) if self._input else memoryview(data)

        def is_ready() -> bool:
            return request.has_any_output() or bool(self._input) and request.has_room()

        def outputs() -> tuple[Any, Any]:
            return decode(b"".join(self._parts[0]), encoding), decode(b"".join(self._parts[1]), encoding)

        try:
            ended = False
            while not ended:
                if not self._input:
                    request.end_input()
                await request.until(is_ready, runtime, deadline)
                ended = request.final is not None
                for stream in (0, 1):
                    self._parts[stream].append(request.take(stream))
                if self._input and not ended and request.has_room():
                    piece, self._input = bytes(self._input[:CHUNK]), self._input[CHUNK:]
                    await request.send(piece, runtime)
        except TimeoutError:
            raise self.account.timed_out(timeout, *outputs()) from None
        request.result()
        return outputs()

    def send_signal(self, signum: Any) -> None:
        """Send a signal to its process group."""
        try:
            value = int(signum)
        except (TypeError, ValueError):
            raise TypeError(f"send_signal: expected a signal's number, not {type(signum).__name__}") from None
        if not 1 <= value <= LAST_SIGNAL:
            raise UsageError(f"send_signal: {value}: expected 1 to {LAST_SIGNAL}")
        self.exchange.follow({"op": "signal", "signal": value})

    def resize(self, columns: int, lines: int) -> None:
        """Change the size of its terminal."""
        if not self.is_terminal:
            raise UsageError(f"{self.account}: resize: the process has no terminal")
        self.exchange.follow({"op": "resize", "terminal_size": [lines, columns]})

    async def end(self, runtime: Runtime) -> None:
        """Kill it if it runs, and wait for its end."""
        request = self.exchange
        if request.final is None and not self.account.core.in_forked_process:  # there, it is the parent's
            request.kill()
            deadline = time.monotonic() + KILL_TIMEOUT
            try:
                while request.final is None:
                    await request.until(request.has_any_output, runtime, deadline)
                    request.take(0)  # so that it can end
                    request.take(1)
            except TimeoutError:
                pass


def decode(data: bytes, encoding: Encoding) -> bytes | str:
    """Return output as bytes or as text; line ends of a text are ``\\n``."""
    if encoding is None:
        return data
    return data.decode(*encoding).replace("\r\n", "\n").replace("\r", "\n")
