"""Requests to a host that has no usable Python, served by its login shell and SFTP: a thread each.

Commands run unchanged, files are transferred by SFTP or ``cat``, and the small operations become shell commands. Before a
Python payload, Python is searched for again, because an earlier task may have installed it; if there is none, the error says
what to do. If the login shell cannot run ``/bin/sh``, only commands and SFTP work.
"""

from __future__ import annotations

import io
import logging
import queue
import threading
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Protocol, cast

from pmitogen.errors import ConnectError, ConnectionLost, Error, RemoteError
from pmitogen.hub.host.states import State
from pmitogen.hub.requests import Request, error_frame
from pmitogen.hub.without_python import shell_lines, simple_commands
from pmitogen.hub.without_python.download import Download
from pmitogen.hub.without_python.group_killer import CLOSE_TIMEOUT
from pmitogen.hub.without_python.request_streams import InboxReader, OutboxWriter
from pmitogen.hub.without_python.simple_request import SimpleRequest
from pmitogen.protocol.error_kinds import InterpreterUnavailable, NoPythonError, WrapperNeeded
from pmitogen.protocol.framing import CHUNK, CREDIT_WINDOW, from_wire, to_wire
from pmitogen.protocol.operations import Fs, Op
from pmitogen.util import threads
from pmitogen.util.peer_text import escape

if TYPE_CHECKING:
    from pmitogen.hub.host.interfaces import Connector
    from pmitogen.hub.login import Login
    from pmitogen.hub.scheduler import Guard
    from pmitogen.protocol.messages_to_client import Answer
    from pmitogen.protocol.requests import FollowUp, RequestHeader
    from pmitogen.transport.connection import Connection
    from pmitogen.transport.sessions import exec_command

LOG = logging.getLogger("pmitogen.hub")
CHECK_INTERVAL = 20.0  # seconds between looks for simple commands that wait too long for a session
NO_SHELL = "modules need a login shell that can run /bin/sh; the raw module works without"


class ShellHost(Protocol):
    """The host of the requests."""

    name: str
    state: State
    connector: Connector
    login: Login | None
    runs_sh: bool
    python_is_broken: bool
    no_python_reason: str

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """Logs with the host's name."""

    @property
    def guard(self) -> Guard:
        """Runs work about the host."""

    @property
    def peer(self) -> str:
        """The account and address of the login."""

    def retry_boot(self, request: Request) -> None:
        """Try again to start Python, for *request*."""

    def fail(self, error: Error) -> None:
        """End the host: the connection is lost."""

    def run_by_agent(self, request: Request) -> None:
        """Pass on to Python a simple command that the login shell has not run."""

    def on_shell_frame(self, request: Request, header: Answer, body: bytes) -> None:
        """Pass on a frame for the client."""


class ShellRequests:
    """See interfaces.ShellBackend. One for each host."""

    def __init__(self, host: ShellHost, submit: Callable[[Callable[[], object]], None]) -> None:
        self._host, self._submit = host, submit
        self._simple: dict[SimpleRequest, None] = {}  # the simple commands under way
        self._is_checking = False  # for some that wait too long

    def end_commands(self) -> None:
        """Kill the simple commands under way, and wait until they have got the signal. Any thread but the I/O thread."""
        begun = []
        for each in list(self._simple):
            try:
                begun.append(threads.start(each.kill_group, "pmitogen cancel"))
            except Error:  # no thread for it, as at the end of the program
                each.kill_group()
        for thread in begun:
            thread.join(CLOSE_TIMEOUT)

    def _check_openings(self) -> None:
        for each in list(self._simple):
            each.check_opening()
        self._is_checking = bool(self._simple)
        if self._is_checking:
            self._host.guard.call_later(CHECK_INTERVAL, self._check_openings)

    def start(self, request: Request) -> None:
        """Begin to serve *request*."""
        host, header = self._host, request.header
        if header["op"] == Op.RUN and not header.get("retried_boot"):
            header["retried_boot"] = True
            host.retry_boot(request)
        elif header.get("become") and (header["op"] != Op.RUN or host.python_is_broken):
            # Only the become plugin can wrap the command now, and the client has it.
            self._fail(request, WrapperNeeded(no_python(host)))
        elif header["op"] == Op.RUN or header["op"] == Op.FS and not host.runs_sh:
            # An interpreter that the agent cannot run in may still run a module that the client pipes into it.
            failure = InterpreterUnavailable if host.python_is_broken else NoPythonError
            self._fail(request, failure(no_python(host)))
        else:
            self._serve(request)

    def _serve(self, request: Request) -> None:
        host, header, login = self._host, request.header, self._host.login
        text = simple_commands.text_of(header) if header.get("simple") else None
        assert login is not None and login.connection is not None
        shell_request: SimpleRequest | ShellRequest
        if text is not None:
            login.before_close, login.commands = self.end_commands, self._simple
            kind = Download if header["op"] == Op.GET else SimpleRequest
            shell_request = kind(host, request, login.connection, text, self._simple, self._submit)
        else:
            shell_request = ShellRequest(host, request)
        request.account = None
        request.shell_request = shell_request
        for follow_header, body in request.followups:
            shell_request.follow(follow_header, body)
        request.followups.clear()
        try:
            if isinstance(shell_request, SimpleRequest):
                shell_request.start()
            else:
                threads.start(shell_request.run, f"pmitogen shell {host.name}")
        except Error as exc:
            self._fail(request, ConnectError(f"{host.name}: {exc.message}", "local"))
        if self._simple and not self._is_checking:
            self._is_checking = True
            host.guard.call_later(CHECK_INTERVAL, self._check_openings)

    def _fail(self, request: Request, error: Error) -> None:
        self._host.on_shell_frame(request, error_frame(error), b"")


def no_python(host: ShellHost) -> str:
    """Return the error message for a module on a host without Python."""
    advice = (
        "modules need one: install it with the raw module (raw: apt-get install -y python3), "
        "or name one in ansible_python_interpreter"
    )
    return f"{host.peer}: {host.no_python_reason}; {advice if host.runs_sh else NO_SHELL}"


class ShellRequest:
    """One request on its own thread. The I/O thread calls :meth:`follow`."""

    def __init__(self, host: ShellHost, request: Request) -> None:
        self._host, self._request = host, request
        self._inbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._window_grown = threading.Semaphore(0)
        self._window = CREDIT_WINDOW
        self._command: exec_command.Command | None = None
        self._cancelled = False

    def follow(self, header: FollowUp, body: bytes) -> None:
        """Handle data, the end of input, credit or a cancellation."""
        op = header["op"]
        if op == Op.DATA:
            self._inbox.put(body)
        elif op == Op.EOF:
            self._inbox.put(None)
        elif op == Op.CREDIT:
            self._window += header["count"]
            self._window_grown.release()
        elif op == Op.SIGNAL:
            if self._command is not None:
                self._command.signal(shell_lines.signal_name(header["signal"]))
        elif op == Op.RESIZE:
            lines, columns = header["terminal_size"]
            if self._command is not None:
                self._command.resize(columns, lines)
        elif op == Op.KILL:
            self._cancelled = True
            self._inbox.put(None)
            self._window_grown.release()
            if self._command is not None:
                try:
                    threads.start(self._command.cancel, "pmitogen cancel")
                except Error:  # no thread: the few bytes are sent on this one
                    self._command.cancel()

    def run(self) -> None:
        """Serve the request. The final frame is sent in every case."""
        header = self._request.header
        try:
            {"exec": self._exec, "put": self._put, "get": self._get, "fs": self._file_operation}[header["op"]](header)
        except Error as exc:
            if isinstance(exc, ConnectionLost) and self._connection.end_reason is not None:
                # End the host now, so that the client's next request finds another connection.
                self._host.guard.defer(self._host.fail, exc)
            self._send(error_frame(exc))
        except Exception as exc:
            self._host.log.exception("internal error")
            self._send(error_frame(ConnectionLost(f"{self._host.name}: internal error: {type(exc).__name__}")))

    def _send(self, header: Answer, body: bytes = b"") -> None:
        self._host.guard.defer(self._host.on_shell_frame, self._request, header, body)

    def _out(self, stream: int, data: bytes) -> None:
        """Send output within the client's credit."""
        for start in range(0, len(data), CHUNK):
            piece = data[start : start + CHUNK]
            while self._window <= 0 and not self._cancelled:
                self._window_grown.acquire()
            self._window -= len(piece)
            self._send({"op": "out", "stream": stream}, piece)

    @property
    def _connection(self) -> Connection:
        login = self._host.login
        assert login is not None and login.connection is not None
        return login.connection

    # Operations

    def _exec(self, header: RequestHeader) -> None:
        from pmitogen.transport.sessions import exec_command

        argv = [from_wire(argument).decode("utf-8", "surrogateescape") for argument in header["argv"]]
        interactive = bool(header.get("more"))
        line = shell_lines.command_line(argv, header) if argv[0] else argv[2]  # sshd itself calls the account's shell
        with exec_command.Command(
            self._connection,
            line,
            stdin=None if interactive else self._request.body,
            terminal=shell_lines.terminal(header) if header.get("tty") else None,
        ) as command:
            self._command = command
            if self._cancelled:  # before the session was open
                command.cancel()
            if interactive:
                threads.start(self._feed, "pmitogen feed", command, self._request.body)
            held: tuple[list[bytes], list[bytes]] = ([], [])
            size, streaming = 0, bool(header.get("stream_output"))
            while (read := command.read()) is not None:
                size += len(read[0]) + len(read[1])
                streaming = streaming or size > CHUNK
                for stream in (0, 1):
                    held[stream].append(read[stream])
                    if streaming:
                        self._out(stream + 1, b"".join(held[stream]))
                        held[stream].clear()
            code = command.wait().code
        out, err = b"".join(held[0]), b"".join(held[1])
        self._send({"op": "exit", "rc": code, "stdout_size": len(out)}, out + err)

    def _feed(self, command: exec_command.Command, first: bytes) -> None:
        try:
            if first:
                command.send(first)
            while (data := self._inbox.get()) is not None:
                command.send(data)
                self._send({"op": "credit", "count": len(data)})
            command.end_input()
        except Error:
            self._host.log.debug("a command no longer reads")

    def _put(self, header: RequestHeader) -> None:
        from pmitogen.transport.sessions.file_transfer import FileTransfer

        more = header.get("more")
        body = InboxReader(self._inbox, self._send, lambda: self._cancelled) if more else io.BytesIO(self._request.body)
        source = cast("IO[bytes]", body)
        size = header.get("size", None if more else len(self._request.body))
        files = FileTransfer(self._connection)
        try:
            path, label = shell_lines.text(header["path"]), header.get("label", "")
            files.put(source, size, path, header.get("mode"), label, lambda: self._cancelled)
        finally:
            files.close()
        self._send({"op": "ok"})

    def _get(self, header: RequestHeader) -> None:
        from pmitogen.transport.sessions.file_transfer import FileTransfer

        files = FileTransfer(self._connection)
        try:
            target = cast("IO[bytes]", OutboxWriter(self._send_content))
            files.fetch(shell_lines.text(header["path"]), target, header.get("label", ""))
        finally:
            files.close()
        self._send({"op": "ok"})

    def _send_content(self, data: bytes) -> None:
        if self._cancelled:
            raise RemoteError("cancelled")
        self._out(1, data)

    def _file_operation(self, header: RequestHeader) -> None:
        from pmitogen.transport.sessions import exec_command

        exit_, out, err = exec_command.run(self._connection, shell_lines.shell_command(header))
        if header["action"] == Fs.EXISTS:
            self._send({"op": "ok", "exists": exit_.code == 0})
        elif exit_.code:
            raise RemoteError(f"{header.get('label', header['action'])}: {escape(err, keep_end=True)}")
        else:
            last = out.rstrip(b"\n").rpartition(b"\n")[2]
            self._send({"op": "ok", "path": to_wire(last)})
