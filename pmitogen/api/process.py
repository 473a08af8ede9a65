"""A running command, for threads: streams and methods as those of :class:`subprocess.Popen`."""

from __future__ import annotations

import io
import signal
from typing import IO, Any, Generic, TypeVar, cast

from pmitogen.api import arguments
from pmitogen.api.running import Running
from pmitogen.api.waiting import Blocking, finish
from pmitogen.protocol.framing import CHUNK

Text = TypeVar("Text", bytes, str)
RUNTIME = Blocking()


class Process(Generic[Text]):
    """A command that runs on a host. Made by :meth:`Host.start`. Leaving its ``with`` block ends it.

    Any thread may use it; each stream is for one thread at a time. A command waits while its output is not read. So :meth:`wait`
    alone never returns for a command that prints more than a few MiB: read the output, or use :meth:`communicate`.
    """

    stdin: IO[Text]
    """The input of the command, unbuffered. ``close()`` ends the input."""
    stdout: IO[Text]
    """The output of the command: iterate over its lines, or ``read``."""
    stderr: IO[Text]
    """The error output of the command; empty with a terminal, which merges both."""

    def __init__(self, running: Running, encoding: tuple[str, str] | None) -> None:
        self._running = running
        self._encoding = encoding
        stdin: Any = _Stdin(running)
        # Large enough for the data of one read; read1 and readline return the available data.
        outputs: list[Any] = [io.BufferedReader(_Output(running, stream), CHUNK) for stream in (0, 1)]
        if encoding is not None:
            stdin = io.TextIOWrapper(stdin, *encoding, newline="", write_through=True)
            outputs = [io.TextIOWrapper(stream, *encoding) for stream in outputs]
        self.stdin, self.stdout, self.stderr = cast("IO[Text]", stdin), outputs[0], outputs[1]

    def __repr__(self) -> str:
        return f"<pmitogen.Process on {self._running.account}: {self._running.state}>"

    @property
    def returncode(self) -> int | None:
        """The exit status, 128 + n for signal n; None while it runs, and where the connection ended first."""
        return self._running.returncode

    def poll(self) -> int | None:
        """Return the exit status, or None while it runs. Raises ConnectError, ConnectionLost, BecomeError."""
        return self._running.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit and return its status.

        Raises TimeoutExpired after *timeout* seconds (the process keeps running), ConnectError, ConnectionLost, BecomeError.
        """
        return finish(self._running.wait(RUNTIME, arguments.seconds(timeout, "wait: timeout")))

    def communicate(self, input: Text | None = None, timeout: float | None = None) -> tuple[Text, Text]:
        """Send *input*, close stdin, read all output, wait for the exit, and return (stdout, stderr).

        Raises TimeoutExpired after *timeout* seconds, with the output so far, and as :meth:`wait`. The process keeps running; a
        second call, without *input*, returns all of the output. Data that a stream has read before, also ahead, is not in it.
        """
        data = arguments.source(input, "communicate: input", self._encoding[0] if self._encoding else None)
        if not isinstance(data, bytes):
            arguments.wrong("communicate: input", "bytes or str", data)
        limit = arguments.seconds(timeout, "communicate: timeout")
        return finish(self._running.communicate(data, RUNTIME, limit, self._encoding))

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

    def close(self) -> None:
        """End the process group with SIGTERM, and with SIGKILL two seconds later; wait for its end. Idempotent."""
        finish(self._running.end(RUNTIME))

    def __enter__(self) -> Process[Text]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Output(io.RawIOBase):
    """A stream of output, unbuffered."""

    def __init__(self, running: Running, stream: int) -> None:
        self._running, self._stream = running, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = finish(self._running.read(self._stream, len(buffer), RUNTIME))
        buffer[: len(data)] = data
        return len(data)


class _Stdin(io.BufferedIOBase):
    """The input of a process. ``write`` returns when all is on its way."""

    def __init__(self, running: Running) -> None:
        self._running = running

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self.closed:
            raise ValueError("write to closed file")
        if isinstance(data, str):
            arguments.wrong("write", "bytes (or start the process with text=True)", data)
        view = bytes(data)
        finish(self._running.write(view, RUNTIME))
        return len(view)

    def close(self) -> None:
        if not self.closed:
            self._running.exchange.end_input()
        super().close()
