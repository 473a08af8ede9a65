"""One simple command under way: a session, and no thread while there is nothing to wait for.

The I/O thread asks for the session. The transport's thread sends the command once the session is open, and wakes the I/O
thread when the command has ended, or when there is more output than the answer should carry.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import paramiko

from pmitogen.errors import ConnectError, ConnectionLost, Error
from pmitogen.hub import bootstrap
from pmitogen.hub.host.states import State
from pmitogen.hub.requests import KILL_EXIT_CODES, SHUTDOWN_GRACE, Request, RequestWithoutPython, error_frame
from pmitogen.hub.without_python import simple_commands
from pmitogen.hub.without_python.group_killer import KILL_TIMEOUT, GroupKiller
from pmitogen.hub.without_python.session import Opening, OutputWatch
from pmitogen.protocol.framing import CHUNK, CREDIT_WINDOW
from pmitogen.protocol.operations import Op
from pmitogen.transport.errors import SessionRefused
from pmitogen.transport.keys.wire import encode_string
from pmitogen.transport.login_limits import SLOT_TIMEOUT

if TYPE_CHECKING:
    from pmitogen.hub.without_python.shell_requests import ShellHost
    from pmitogen.protocol.messages_to_client import Answer
    from pmitogen.protocol.requests import FollowUp
    from pmitogen.transport.connection import Connection
    from pmitogen.transport.paramiko_ext.channel import Channel

WINDOW = 4 << 20  # bytes of output that wait here
OPEN_TIMEOUT = 60.0  # seconds for the session


class SimpleRequest:
    """One simple command. Methods are for the I/O thread unless they say otherwise.

    ``_is_exact``: its output counts only if nothing on the way changes it.

    :param text: the command for ``/bin/sh``.
    :param others: the simple commands of the host under way; it removes itself at its end.
    :param timeout: seconds until ``/bin/sh`` has begun the command.
    :param submit: calls a function, which must not raise, on a thread that may block.
    """

    _is_exact = False

    def __init__(
        self,
        host: ShellHost,
        request: Request,
        connection: Connection,
        text: simple_commands.Text,
        others: dict[RequestWithoutPython, None],
        timeout: float,
        submit: Callable[[Callable[[], object]], None],
    ) -> None:
        self._host, self._request, self._connection = host, request, connection
        self._others, self._submit = others, submit
        token = bootstrap.new_token()
        self._line = simple_commands.line(token, text)
        self._started = simple_commands.Started(token, self._is_exact)
        self._killer = GroupKiller(connection, self._signal, host.connector.run_elsewhere)
        self._started_at, self._timeout = time.monotonic(), timeout
        self._channel: Channel | None = None  # once the command is sent
        self._watch: OutputWatch | None = None
        self._reading = threading.Lock()  # of the channel's output
        self._output: tuple[list[bytes], list[bytes]] = ([], [])
        self._size = 0  # bytes in it
        self._window = CREDIT_WINDOW
        self._streaming = bool(request.header.get("stream_output"))
        self._is_cancelled = self._is_closing = self._is_answered = self._is_late = False

    def start(self) -> None:
        """Ask for the session."""
        self._others[self] = None
        opening = Opening(self._on_opened)
        opening.channel = self._connection.begin_session(WINDOW, opening, self._submit)
        if opening.is_answered:
            self._submit(opening.check)

    def check_start(self) -> float | None:
        """Fail if the command has not begun in time. Returns the seconds that are left; None if it has begun or ended."""
        if self._channel is not None:
            self._take()
        if self._is_answered or self._is_cancelled or self._started.has_run:
            return None
        limit = self._timeout if self._channel is not None else min(OPEN_TIMEOUT, self._timeout)
        left = self._started_at + limit - time.monotonic()
        if left > 0:
            return left
        self._is_cancelled = True  # also before it is sent
        peer = self._connection.peer
        if self._channel is None:
            self._fail(ConnectError(f"{peer}: no answer within the timeout to a request for a channel", "exec"))
        else:
            with contextlib.suppress(ConnectError):  # no thread for it: the channel is closed with the connection
                self._submit(self._close_channel)
            self._fail(ConnectError(f"{peer}: the login shell did not begin a command within {limit:.3g} seconds", "exec"))
        return None

    # The session: the transport's thread, or one that may block

    def _on_opened(self, channel: Channel) -> None:
        if channel.open_failure is not None:
            self._attempt(self._submit, self._open_after_others)
        elif self._connection.settings.forwardagent:  # the agent is connected to
            self._attempt(self._submit, functools.partial(self._attempt, self._begin, channel))
        else:
            self._attempt(self._begin, channel)

    def _attempt(self, work: Callable[..., object], *args: object) -> None:
        """Call *work*. An exception ends the request. Any thread; raises nothing."""
        try:
            work(*args)
        except Exception as exc:
            self._host.guard.defer(self._fail, exc)

    def _open_after_others(self) -> None:
        """Ask once more: the server has refused a session. Wait for the end of another one; that of Python does not end."""
        timeout = 0.0 if self._host.state in (State.BOOTING, State.UP) else SLOT_TIMEOUT
        self._attempt(lambda: self._begin(self._connection.open_session(OPEN_TIMEOUT, WINDOW, timeout)))

    def _begin(self, channel: Channel) -> None:
        """Send the command."""
        if not channel.active:
            raise ConnectionLost(self._end_message)
        if self._is_cancelled:
            self._submit(channel.close)
            raise ConnectionLost(f"{self._host.name}: cancelled before it began")
        self._channel = channel
        self._watch = watch = OutputWatch(self._host.guard.defer, self._pump, channel)
        watch.is_eager = self._streaming
        channel.on_exit = watch.set
        for buffer in (channel.in_buffer, channel.in_stderr_buffer):
            buffer.set_event(cast("threading.Event", watch))
        if self._request.body:
            self._connection.start_command(channel, self._line, wait=False)
            self._submit(self._send_input)
        else:
            self._connection.start_command_without_input(channel, self._line)
        if self._request.is_cancelled:  # meanwhile
            watch.schedule()

    def _send_input(self) -> None:
        channel = cast("Channel", self._channel)
        try:
            channel.sendall(self._request.body)
            channel.shutdown_write()
        except (OSError, EOFError, paramiko.SSHException):
            return  # the command reads no more, or has ended

    # Frames of the client

    def follow(self, header: FollowUp, body: bytes) -> None:
        """Handle credit or a cancellation."""
        if header["op"] == Op.CREDIT:
            self._window += header["count"]
            self._pump()
        elif header["op"] == Op.KILL and not self._is_cancelled:
            self._is_cancelled = True
            self._pump()
            try:
                self._killer.cancel(self._close_channel)
            except Error:  # no thread; closing the channel here would wait for a lock that this thread then holds
                with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                    self._signal("TERM")
                self._host.guard.call_later(KILL_TIMEOUT, self._fail, ConnectionLost(f"{self._host.name}: cancelled"))

    def end(self) -> None:
        """Wait for no credit any more: no frame reaches the client. I/O thread."""
        self._is_closing = True
        self._pump()

    def kill_group(self) -> None:
        """Kill the process group, because the connection ends. Any thread but the I/O thread; blocks."""
        self._is_closing = True
        if self._watch is not None:
            self._watch.is_eager = True
        self._take()
        self._killer.kill()

    def _kill_remaining(self) -> None:
        """Kill the process group of a request that has ended. Blocks."""
        self.kill_group()
        self._host.guard.defer(self._others.pop, self, None)

    def _close_channel(self) -> None:
        channel = self._channel
        if channel is not None and not channel.closed:
            try:
                self._signal("TERM")
                channel.close()
            except (OSError, EOFError, paramiko.SSHException):
                return

    def _signal(self, name: str) -> None:
        if self._channel is not None:
            self._channel.request("signal", encode_string(name), want_reply=False)

    # Output

    def _pump(self) -> None:
        """Pass on output that must not wait for the command's end, as far as the credit allows, and detect that end."""
        channel, watch = self._channel, self._watch
        if channel is None or watch is None or self._is_answered:
            return
        is_given_up = self._is_cancelled or self._is_closing
        watch.is_eager = watch.is_eager or is_given_up
        if not self._streaming or self._window > 0 or is_given_up:
            self._take()
            if self._is_cancelled:
                self._killer.begin()
            if self._streaming or self._size > CHUNK:
                self._streaming = watch.is_eager = True
                self._send_output()
            if _has_input(channel):
                self._host.guard.call_later(0, self._pump)
                return
        if watch.has_ended and not _has_input(channel) and not self._is_late:  # else the timer finishes it
            self._finish()

    def _take(self) -> None:
        """Move the output that has arrived from the channel. Any thread."""
        channel = self._channel
        if channel is None:
            return
        with self._reading:
            out, grant = channel.drain(2 * CHUNK)
            err, more = channel.drain_stderr(2 * CHUNK)
            for stream, data in ((0, self._started.output(0, out)), (1, self._started.output(1, err))):
                self._output[stream].append(data)
                self._size += len(data)
        self._killer.note_process(self._started.process, self._started.has_no_process)
        if grant + more:
            self._submit(functools.partial(self._grant, channel, grant + more))

    def _grant(self, channel: Channel, count: int) -> None:
        try:
            self._connection.grant_window(channel, count)
        except (OSError, EOFError, paramiko.SSHException):
            return

    def _send_output(self) -> None:
        for stream in (0, 1):
            data = b"".join(self._output[stream])
            self._output[stream].clear()
            for start in range(0, len(data), CHUNK):
                piece = data[start : start + CHUNK]
                self._window -= len(piece)
                self._send({"op": "out", "stream": stream + 1}, piece)
        self._size = 0

    # The end

    def _finish(self) -> None:
        """Report how the command ended."""
        if self._is_answered:
            return
        from pmitogen.transport.sessions.exec_command import ExitStatus

        channel, connection = cast("Channel", self._channel), self._connection
        code = ExitStatus(channel.exit_status if channel.exit_status >= 0 else None, channel.exit_signal).code
        # The status may come before the end of the output: a connection that breaks between them has cut the output.
        lost = channel.timeout_reason or (None if channel.exit_reported and not channel.is_cut else connection.end_reason)
        if lost is None or self._is_cancelled:
            self._killer.note_end()
        if code in KILL_EXIT_CODES and self._is_closing:
            return  # the hub closed it: the end of the host is the failure to report
        if code in KILL_EXIT_CODES and not self._request.is_cancelled and lost is None:
            if not self._is_late:  # a host that shuts down kills processes first, and then ends the connection
                self._is_late = True
                self._host.guard.call_later(SHUTDOWN_GRACE, self._finish)
                return
            lost = connection.end_reason
        if lost and not self._is_cancelled:
            self._fail(ConnectionLost(f"{connection.peer}: {lost}"))
        elif channel.refusal_reason is not None:
            advice = "check ForceCommand and the account's shell on the server"
            self._fail(ConnectError(f"{connection.peer}: {channel.refusal_reason} to run a command; {advice}", "exec"))
        elif not self._is_cancelled and (not self._started.may_have_run or self._has_failed(code)):
            self._end()
            self._host.run_by_agent(self._request)
        else:
            self._end()
            self._report(code)

    def _has_failed(self, code: int) -> bool:
        """Return whether Python must serve the request because the login shell could not."""
        return self._started.is_failure(code, b"".join(self._output[0]))

    def _report(self, code: int) -> None:
        """Send the final answer. *code*: the exit status as a shell reports it."""
        rest = (b"", b"") if self._is_cancelled else (self._started.rest(0), self._started.rest(1))
        out, err = b"".join(self._output[0]) + rest[0], b"".join(self._output[1]) + rest[1]
        self._send({"op": "exit", "rc": code, "stdout_size": len(out)}, out + err)

    def _fail(self, error: Exception) -> None:
        """End with *error*; or if no session can be had, have Python run the command."""
        if self._is_answered:
            return
        self._end()
        if isinstance(error, SessionRefused) and not (self._is_cancelled or self._request.is_cancelled):
            self._host.run_by_agent(self._request)
            return
        if isinstance(error, (OSError, EOFError, paramiko.SSHException)):  # none of these is an Error
            error = ConnectionLost(self._end_message)
        if not isinstance(error, Error):
            self._host.log.error("internal error", exc_info=error)
            error = ConnectionLost(f"{self._host.name}: internal error: {type(error).__name__}")
        if self._channel is not None and self._connection.end_reason is None:  # its channel alone has ended
            # Its processes may go on, and the connection must not be closed before they have the signal.
            self._others[self] = None
            with contextlib.suppress(ConnectError):  # no thread for it; the end of the connection does it
                self._submit(self._kill_remaining)
        elif self._connection.end_reason is not None and isinstance(error, ConnectionLost):
            self._killer.note_end()
            self._host.fail(error)  # so that the next request finds another connection
        self._send(error_frame(error))

    def _end(self) -> None:
        self._is_answered = True
        self._others.pop(self, None)
        if self._watch is not None:
            self._watch.stop()
        if self._channel is not None and not self._channel.closed:
            with contextlib.suppress(ConnectError):  # no thread for it; the transport closes it when the server does
                self._submit(self._channel.close)

    @property
    def _end_message(self) -> str:
        return f"{self._connection.peer}: {self._connection.end_reason or 'the connection is closed'}"

    def _send(self, header: Answer, body: bytes = b"") -> None:
        self._host.on_shell_frame(self._request, header, body)


def _has_input(channel: Channel) -> bool:
    return channel.has_input or channel.in_stderr_buffer.read_ready()
