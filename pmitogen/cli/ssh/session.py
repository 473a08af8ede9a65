"""Run one session on a connection: copy the local streams, handle the terminal, return the exit status."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pmitogen.cli.ssh import notices
from pmitogen.cli.ssh.escape import HELP, Escape, EscapeReader
from pmitogen.cli.ssh.invocation import Invocation, SessionKind, TTYRequest
from pmitogen.cli.ssh.messages import SessionProblem
from pmitogen.cli.ssh.signals import ENDING_SIGNALS, SignalThread
from pmitogen.errors import ConnectError, ConnectionLost
from pmitogen.transport.connection import Connection
from pmitogen.transport.mux.streams import copy_input, copy_output, read_pieces, write_all
from pmitogen.transport.mux.terminal import RawTerminal, terminal_for, window_size
from pmitogen.transport.sessions.exec_command import ChannelStream, Command
from pmitogen.util import threads

if TYPE_CHECKING:
    from pmitogen.cli.ssh.mux.master import Master

STDIN, STDOUT, STDERR = 0, 1, 2
OPEN_TIMEOUT = 60.0  # seconds for a channel
FAILED = 255  # ssh's exit status for its own errors, and for a command killed by a signal
_REQUESTS = {SessionKind.SHELL: "shell", SessionKind.COMMAND: "exec", SessionKind.SUBSYSTEM: "subsystem"}
BREAK_LENGTH = 1000  # milliseconds (RFC 4335)


class Session:
    """The session of *invocation* on *connection*. Create and run it on the main thread."""

    def __init__(
        self, connection: Connection, invocation: Invocation, signals: SignalThread, on_start: Callable[[], None] = lambda: None
    ) -> None:
        self._connection = connection
        self._on_start = on_start  # called when the command has been requested
        self._signals = signals
        self._invocation = invocation
        self._terminal: RawTerminal | None = None
        self._command: Command | None = None

    def run(self) -> int:
        """Run the session to its end; return the exit status. Blocks. Raises ConnectError, ConnectionLost."""
        wants_tty = self._wants_tty()
        terminal = terminal_for(STDIN, os.environ.get("TERM", "dumb")) if wants_tty else None
        invocation = self._invocation
        argument = invocation.argument if invocation.argument else None
        subsystem = invocation.kind is SessionKind.SUBSYSTEM
        with Command(
            self._connection, argument, stdin=None, terminal=terminal, timeout=OPEN_TIMEOUT, subsystem=subsystem
        ) as command:
            self._command = command
            self._on_start()
            if wants_tty and os.isatty(STDIN):
                self._terminal = RawTerminal(STDIN)
                self._terminal.enter()
            self._signals.on_signal = self._on_signal
            try:
                return self._exchange(command, wants_tty)
            except ConnectError as error:
                raise SessionProblem(error.message, f"{_REQUESTS[invocation.kind]} request failed on channel 0") from None
            finally:
                self._restore_terminal()

    def _wants_tty(self) -> bool:
        wanted = self._invocation.tty
        if wanted is TTYRequest.FORCE:
            return True
        if wanted is TTYRequest.NO:
            return False
        if os.isatty(STDIN) and not self._invocation.stdin_null:
            return True
        self._notice("Pseudo-terminal will not be allocated because stdin is not a terminal.")
        return False

    def _exchange(self, command: Command, has_tty: bool) -> int:
        if self._invocation.stdin_null:
            command.end_input()
        else:
            threads.start(copy_input, "ssh stdin", command, self._input(command, has_tty))
        try:
            copy_output(command, STDOUT, STDERR, command.stop_output)
            ended = command.wait(None)
        except ConnectionLost:
            self._restore_terminal()
            raise
        self._restore_terminal()
        if has_tty:
            self._notice(f"Connection to {self._invocation.settings.hostname} closed.")
        return FAILED if ended.status is None else ended.status

    def _input(self, command: Command, has_tty: bool) -> Iterator[bytes]:
        """Yield standard input without escape sequences."""
        character = self._invocation.escape_char
        if not has_tty or character is None:
            yield from read_pieces(STDIN)
            return
        reader = EscapeReader(character)
        for piece in read_pieces(STDIN):
            for part in reader.feed(piece):
                if isinstance(part, bytes):
                    yield part
                else:
                    self._escape(part, command, character)

    def _escape(self, escape: Escape, command: Command, character: str) -> None:
        if escape is Escape.TERMINATE:
            self._write_notice(f"{character}.\r\n")
            self._end("")
        elif escape is Escape.HELP:
            self._write_notice(f"{character}?\r\n" + HELP.format(character).replace("\n", "\r\n"))
        elif escape is Escape.BREAK:
            command.send_break(BREAK_LENGTH)
        elif self._terminal is not None:
            self._terminal.leave()
            os.kill(os.getpid(), signal.SIGTSTP)
            time.sleep(0.01)  # the signal may be delivered to another thread first
            self._terminal.enter()

    # Signals --------------------------------------------------------------------------------------------------------------

    def _on_signal(self, signum: int) -> None:
        if signum in ENDING_SIGNALS:
            self._end(f"Killed by signal {signum}.")
        if self._terminal is not None and self._command is not None:
            self._command.resize(*window_size(STDIN))

    def _end(self, reason: str) -> None:
        """Close the connection and exit the program. Any thread."""
        self._restore_terminal()
        if reason and self._invocation.settings.loglevel in ("VERBOSE", "DEBUG", "DEBUG1", "DEBUG2", "DEBUG3"):
            self._write_notice(reason + "\r\n")
        elif not reason:
            self._notice(f"Connection to {self._invocation.settings.hostname} closed.")
        self._connection.close()
        os._exit(FAILED)

    def _restore_terminal(self) -> None:
        terminal, self._terminal = self._terminal, None
        if terminal is not None:
            terminal.leave()

    def _notice(self, line: str) -> None:
        if is_talkative(self._invocation.settings.loglevel):
            with contextlib.suppress(OSError):  # standard error is closed
                notices.write([line], self._invocation.settings, "\r\n" if self._terminal else "\n")

    @staticmethod
    def _write_notice(text: str) -> None:
        try:
            write_all(STDERR, text.encode("utf-8", "backslashreplace"))
        except OSError:
            pass  # standard error is closed


def is_talkative(loglevel: str) -> bool:
    """Return True if notices are printed at this LogLevel."""
    return loglevel not in ("QUIET", "SILENT", "FATAL", "ERROR")


def forward_stdio(connection: Connection, host: str, port: int) -> int:
    """``-W``: connect standard input and output to *host*:*port* through the server."""
    try:
        channel = connection.open_tunnel(host, port, time.monotonic() + OPEN_TIMEOUT)
    except ConnectError as error:
        raise SessionProblem(error.message, "stdio forwarding failed") from None
    with ChannelStream(connection, channel) as stream:
        threads.start(copy_input, "ssh stdin", stream, read_pieces(STDIN))
        copy_output(stream, STDOUT, STDERR, stream.close)
    return 0


def wait_for_end(connection: Connection, signals: SignalThread, master: Master | None) -> int:
    """``-N``: hold the connection open for its forwardings until it ends or a signal arrives. Raises ConnectionLost.

    A *master* also ends after ``-O stop``, when its last client has ended.
    """
    ended = threading.Event()
    reasons: list[str] = []

    def on_lost(reason: str) -> None:
        reasons.append(reason)
        ended.set()

    def on_signal(signum: int) -> None:
        if signum in ENDING_SIGNALS:
            connection.close()
            os._exit(FAILED)

    signals.on_signal = on_signal
    connection.on_lost(on_lost)
    if master is not None:
        master.wait_until_idle(None)
        if connection.end_reason is None:
            return FAILED  # as ssh
    ended.wait()
    raise ConnectionLost(reasons[0])
