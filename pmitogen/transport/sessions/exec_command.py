"""Run commands and subsystems, each on a session channel of its own.

The caller's thread reads the output of a :class:`Command`; another thread sends its input, because both directions can be
full at once. An exit status, a signal and the loss of the connection are reported differently. file_transfer.py copies files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import paramiko

from pmitogen.errors import ConnectError, ConnectionLost, RemoteError
from pmitogen.transport.connection import Connection
from pmitogen.transport.keys.wire import encode_string
from pmitogen.transport.paramiko_ext.channel import RAW_MODES, Channel, ExitSignal
from pmitogen.util import threads

if TYPE_CHECKING:
    from typing_extensions import Self

READ_SIZE = 1 << 20  # bytes of output that are handed out at once
WINDOW = 4 << 20  # bytes of output that wait here; OpenSSH's client has 2 MiB
MAX_OUTPUT = 4 << 20  # bytes of a whole output that is collected here
OPEN_TIMEOUT = 60.0  # seconds for the session channel
EXIT_STATUS_TIMEOUT = 5.0  # seconds between the end of the output and the exit status
# signal(7) on Linux; only for the shell's exit status after a signal.
SIGNAL_NUMBERS = {
    "HUP": 1,
    "INT": 2,
    "QUIT": 3,
    "ILL": 4,
    "ABRT": 6,
    "FPE": 8,
    "KILL": 9,
    "USR1": 10,
    "SEGV": 11,
    "USR2": 12,
    "PIPE": 13,
    "ALRM": 14,
    "TERM": 15,
}


@dataclasses.dataclass(frozen=True)
class ExitStatus:
    """The end of a command: its *status*, or the *signal* that killed it; both None if the server sent neither."""

    status: int | None
    signal: ExitSignal | None = None

    @property
    def code(self) -> int:
        """One number, as a shell and ``ssh`` report it: 128 + n for signal n, 255 if unknown."""
        if self.status is not None:
            return self.status
        return 128 + SIGNAL_NUMBERS.get(self.signal.name, 127) if self.signal else 255


class Terminal(NamedTuple):
    """A terminal for a command. *modes*: RFC 4254 section 8; those that are not named are as the server has them."""

    term: str
    columns: int
    rows: int
    modes: tuple[tuple[int, int], ...] = RAW_MODES


class ChannelStream:
    """The bytes of an open channel. One thread reads them; any thread may :meth:`send`, :meth:`end_input` or :meth:`close`."""

    def __init__(self, connection: Connection, channel: Channel) -> None:
        self._connection = connection
        self._channel = channel
        self._data_ready = threading.Event()
        self._cancelled = False
        self._failure: Exception | None = None
        # Paramiko sets and clears an event at any time; this one is cleared by the reader only, so that no change is missed.
        for buffer in (channel.in_buffer, channel.in_stderr_buffer):
            buffer.set_event(_SetOnlyEvent(self._data_ready))  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Send *data*. Blocks while the peer does not read. Data for a channel that has ended is dropped."""
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.sendall(data)

    def end_input(self) -> None:
        """Send the end of the data (EOF)."""
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.shutdown_write()

    def read(self, timeout: float | None = None) -> tuple[bytes, bytes] | None:
        """Wait for output, and return that of (stdout, stderr) since the last call. None: there is no more.

        Raises TimeoutError after *timeout* seconds without output, ConnectionLost, and any error of the input's source.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._data_ready.clear()
            ended = self._channel.ended
            out, stdout_credit = self._channel.drain(READ_SIZE)
            err, stderr_credit = self._channel.drain_stderr(READ_SIZE)
            if out or err:
                self._connection.grant_window(self._channel, stdout_credit + stderr_credit)
                return out, err
            if ended:
                self._raise_if_lost()
                return None
            if not self._data_ready.wait(None if deadline is None else max(0.0, deadline - time.monotonic())):
                raise TimeoutError

    def _raise_if_lost(self) -> None:
        if self._failure is not None:
            raise self._failure
        # The status of a cancelled command may still arrive; the loss of the connection is then not reported.
        end_reason = self._channel.timeout_reason or (None if self._channel.exit_reported else self._connection.end_reason)
        if end_reason and not self._cancelled:
            raise ConnectionLost(f"{self._connection.peer}: {end_reason}")

    def close(self) -> None:
        """Close the channel. Idempotent. A command that still runs loses its input and output."""
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.close()


class Command(ChannelStream):
    """A running command. One thread reads it; any thread may :meth:`send`, :meth:`end_input` or :meth:`cancel`.

    *command*: for the login shell; None: the login shell itself; with *subsystem*, the name of a subsystem such as ``sftp``.
    *stdin*: its input, as a whole or in pieces; None: :meth:`send` sends it. With a *terminal* the output is one stream.
    *slot_timeout*: as of :meth:`Connection.open_session`. *on_open* is called before the command is started, and may raise.
    Raises SessionRefused, ConnectError (stage ``exec``) if the server refuses the command, ConnectionLost. Close it (``with``).
    """

    def __init__(
        self,
        connection: Connection,
        command: bytes | str | None,
        *,
        stdin: bytes | Iterable[bytes] | None = b"",
        terminal: Terminal | None = None,
        timeout: float = OPEN_TIMEOUT,
        slot_timeout: float = math.inf,
        subsystem: bool = False,
        on_open: Callable[[Command], object] = lambda command: None,
    ) -> None:
        channel = connection.open_session(timeout, WINDOW, slot_timeout)
        super().__init__(connection, channel)
        self._feeder: threading.Thread | None = None
        self._is_subsystem = subsystem
        try:
            on_open(self)
            if terminal is not None:
                channel.request_pty(*terminal)
            if command is None:
                connection.start_shell(channel)
            elif subsystem:
                connection.request_subsystem(channel, command)
            else:
                connection.start_command(channel, command, wait=False)
            if stdin is not None:
                self.feed(stdin)
        except BaseException:
            channel.close()
            raise

    def feed(self, stdin: bytes | Iterable[bytes]) -> None:
        """Send its whole input, for a command that was made without *stdin*. Does not wait for pieces."""
        if isinstance(stdin, bytes) and len(stdin) <= self._channel.out_window_size:
            self.send(stdin)
            self.end_input()
            return
        pieces = [stdin] if isinstance(stdin, bytes) else stdin
        self._feeder = threads.start(self._feed_all, "command stdin", pieces)

    def _feed_all(self, pieces: Iterable[bytes]) -> None:
        try:
            for piece in pieces:
                self._channel.sendall(piece)
            self.end_input()
        except (OSError, EOFError, paramiko.SSHException):
            pass  # the command has closed its input or ended; the reader notices its end
        except Exception as error:
            self._failure = error  # the source's own: the reader raises it
            self.cancel()

    def close(self) -> None:
        """Close the channel, and wait for the thread that sends the input. Idempotent."""
        super().close()
        if self._feeder is not None and self._feeder is not threading.current_thread():
            self._feeder.join(EXIT_STATUS_TIMEOUT)

    def wait(self, timeout: float | None = EXIT_STATUS_TIMEOUT) -> ExitStatus:
        """Return how the command ended. Call it after :meth:`read` returned None.

        *timeout*: seconds to wait for the status; None: no limit, for a command that closes its output and continues.
        Raises ConnectError if the command did not start, and ConnectionLost.
        """
        self._channel.status_event.wait(timeout)
        self._raise_if_lost()
        if self._channel.refusal_reason is not None:
            refusal = f"{self._connection.peer}: {self._channel.refusal_reason}"
            raise ConnectError(
                f"{refusal} to start the subsystem; check Subsystem in its sshd_config"
                if self._is_subsystem
                else f"{refusal} to run a command; check ForceCommand and the account's shell on the server",
                "exec",
            )
        status = self._channel.exit_status
        return ExitStatus(status if status >= 0 else None, self._channel.exit_signal)

    def resize(self, columns: int, rows: int) -> None:
        """Tell the command's terminal its size (RFC 4254 section 6.7)."""
        size = columns.to_bytes(4, "big") + rows.to_bytes(4, "big") + bytes(8)
        self._request("window-change", size)

    def signal(self, name: str) -> None:
        """Ask the server to send the command a signal; *name* is without SIG (RFC 4254 section 6.9)."""
        self._request("signal", encode_string(name))

    def send_break(self, milliseconds: int) -> None:
        """Ask the server for a BREAK of its serial console (RFC 4335)."""
        self._request("break", milliseconds.to_bytes(4, "big"))

    def stop_output(self) -> None:
        """Tell the server that the output is not read any more: its writer gets SIGPIPE (OpenSSH PROTOCOL, section 2.1)."""
        self._request("eow@openssh.com")

    def _request(self, kind: str, *fields: bytes) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.request(kind, *fields, want_reply=False)

    def cancel(self) -> None:
        """Ask the server to end it, close its pipes or terminal, and read no more.

        sshd sends the signal to the command's process group, but not in a root login; a terminal's end is a HUP for everyone.
        """
        self._cancelled = True
        self.signal("TERM")
        self.close()


class _SetOnlyEvent:
    """An event whose ``clear`` has no effect for Paramiko."""

    def __init__(self, event: threading.Event) -> None:
        self.set = event.set

    def clear(self) -> None:
        """Do nothing: the reader clears the event."""


def run(
    connection: Connection,
    command: bytes | str,
    *,
    stdin: bytes | Iterable[bytes] = b"",
    terminal: Terminal | None = None,
    on_output: Callable[[bytes, bytes], None] | None = None,
    timeout: float | None = None,
    slot_timeout: float = math.inf,
    max_output: int = MAX_OUTPUT,
) -> tuple[ExitStatus, bytes, bytes]:
    """Run *command* to its end, and return how it ended and its output, unless *on_output* gets that piece by piece.

    *timeout* in seconds is for the whole but the opening of the channel, for which *slot_timeout* is as in
    :meth:`Connection.open_session`; at its end the command is cancelled and TimeoutError raised. Where there is no
    *on_output*, more output than *max_output* bytes raises RemoteError. Blocks.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    outs: list[bytes] = []
    errs: list[bytes] = []
    size = 0
    with Command(connection, command, stdin=stdin, terminal=terminal, slot_timeout=slot_timeout) as running:
        while True:
            try:
                piece = running.read(None if deadline is None else deadline - time.monotonic())
            except TimeoutError:
                running.cancel()
                raise
            if piece is None:
                return running.wait(), b"".join(outs), b"".join(errs)
            if on_output is not None:
                on_output(*piece)
                continue
            outs.append(piece[0])
            errs.append(piece[1])
            size += len(piece[0]) + len(piece[1])
            if size > max_output:
                running.cancel()
                raise RemoteError(f"{connection.peer}: the output of a command exceeds {max_output} bytes")
