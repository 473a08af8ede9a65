"""One request to a host without Python, on its own thread, served by the login shell and SFTP.

It ends with its host: the threads that wait for the client's data, or for room for output, are woken. A command tells its
process, if the login shell can run ``/bin/sh``; so it can be killed, and gets signals, as a simple command (group_killer.py).
"""

from __future__ import annotations

import io
import queue
import threading
from typing import IO, TYPE_CHECKING, cast

from pmitogen.errors import ConnectionLost, Error, RemoteError
from pmitogen.hub import bootstrap
from pmitogen.hub.requests import KILL_EXIT_CODES, SHUTDOWN_GRACE, Request, RequestWithoutPython, error_frame
from pmitogen.hub.without_python import shell_lines
from pmitogen.hub.without_python.group_killer import CLOSE_TIMEOUT, GroupKiller
from pmitogen.hub.without_python.process_line import ProcessLine
from pmitogen.hub.without_python.request_streams import InboxReader, OutboxWriter
from pmitogen.protocol.framing import CHUNK, CREDIT_WINDOW, from_wire, to_wire
from pmitogen.protocol.operations import Fs, Op
from pmitogen.util import threads
from pmitogen.util.peer_text import escape

if TYPE_CHECKING:
    from pmitogen.hub.without_python.shell_requests import ShellHost
    from pmitogen.protocol.messages_to_client import Answer
    from pmitogen.protocol.requests import FollowUp, RequestHeader
    from pmitogen.transport.connection import Connection
    from pmitogen.transport.sessions import exec_command


class ShellRequest:
    """One request. The I/O thread calls its methods unless they say otherwise.

    :param others: the requests of the host under way; it removes itself at its end.
    """

    def __init__(
        self, host: ShellHost, request: Request, connection: Connection, others: dict[RequestWithoutPython, None]
    ) -> None:
        self._host, self._request, self._connection, self._others = host, request, connection, others
        self._inbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._window_grown = threading.Semaphore(0)
        self._window = CREDIT_WINDOW
        self._command: exec_command.Command | None = None
        self._killer = GroupKiller(connection, self._signal, host.connector.run_elsewhere, bool(request.header.get("tty")))
        self._cancelled = False
        self._over = threading.Event()  # no frame reaches the client any more
        self._done = threading.Event()  # nothing is left to do on the host
        self._process_line: ProcessLine | None = None
        self._line = self._command_line(request.header) if request.header["op"] == Op.EXEC else ""
        if self._process_line is None:
            self._killer.note_process(None, has_none=True)

    def start(self) -> None:
        """Start the thread. Raises Error."""
        threads.start(self._run, f"pmitogen shell {self._host.name}")
        self._others[self] = None

    def follow(self, header: FollowUp, body: bytes) -> None:
        """Handle data, the end of input, a signal, credit or a cancellation."""
        op = header["op"]
        if op == Op.DATA:
            self._inbox.put(body)
        elif op == Op.EOF:
            self._inbox.put(None)
        elif op == Op.CREDIT:
            self._window += header["count"]
            self._window_grown.release()
        elif op == Op.SIGNAL:
            self._killer.send(shell_lines.signal_name(header["signal"]))
        elif op == Op.RESIZE:
            lines, columns = header["terminal_size"]
            if self._command is not None:
                self._command.resize(columns, lines)
        elif op == Op.KILL and not self._cancelled:
            self._cancelled = True
            self._wake()
            if self._request.header["op"] != Op.EXEC:
                return
            try:
                self._killer.cancel(self._close_command)
            except Error:  # no thread: the few bytes are sent on this one
                self._close_command()

    def end(self) -> None:
        """Wake the threads, because no frame reaches the client any more. Any thread."""
        self._over.set()
        self._wake()

    def _wake(self) -> None:
        self._inbox.put(None)
        self._window_grown.release()

    def kill_group(self) -> None:
        """End the command or transfer, because the connection ends. Any thread but the I/O thread; blocks."""
        self.end()
        if self._request.header["op"] == Op.PUT:
            self._done.wait(CLOSE_TIMEOUT)  # it removes the part that it has written
        elif self._killer.has_no_process:
            self._close_command()
        else:
            self._killer.kill()

    def _close_command(self) -> None:
        if self._command is not None:
            self._command.cancel()

    def _signal(self, name: str) -> None:
        if self._command is not None:
            self._command.signal(name)

    # The thread of the request

    def _run(self) -> None:
        """Serve the request. The final frame is sent in every case."""
        header, is_lost = self._request.header, False
        try:
            {"exec": self._exec, "put": self._put, "get": self._get, "fs": self._file_operation}[header["op"]](header)
        except Error as exc:
            is_lost = isinstance(exc, ConnectionLost)
            if is_lost and self._connection.end_reason is not None:
                # End the host now, so that the client's next request finds another connection.
                self._host.guard.defer(self._host.fail, exc)
            self._send(error_frame(exc))
        except Exception as exc:
            self._host.log.exception("internal error")
            self._send(error_frame(ConnectionLost(f"{self._host.name}: internal error: {type(exc).__name__}")))
        self.end()  # wakes the thread that reads the client's data
        if is_lost and self._connection.end_reason is None:  # its channel alone has ended: its processes may go on
            self._killer.kill()
        self._killer.note_end()
        self._done.set()
        self._host.guard.defer(self._others.pop, self, None)

    def _send(self, header: Answer, body: bytes = b"") -> None:
        if not self._over.is_set():  # else the end of the host is the failure to report
            self._host.guard.defer(self._host.on_shell_frame, self._request, header, body)

    def _out(self, stream: int, data: bytes) -> None:
        """Send output within the client's credit."""
        for start in range(0, len(data), CHUNK):
            piece = data[start : start + CHUNK]
            while self._window <= 0 and not self._cancelled and not self._over.is_set():
                self._window_grown.acquire()
            if self._over.is_set():
                return
            self._window -= len(piece)
            self._send({"op": "out", "stream": stream}, piece)

    # Operations

    def _exec(self, header: RequestHeader) -> None:
        from pmitogen.transport.sessions import exec_command

        interactive = bool(header.get("more"))
        process_line = self._process_line
        with exec_command.Command(
            self._connection,
            self._line,
            stdin=None if interactive else self._request.body,
            terminal=shell_lines.terminal(header) if header.get("tty") else None,
            on_open=self._note_command,
        ) as command:
            if interactive:
                threads.start(self._feed, "pmitogen feed", command, self._request.body)
            held: tuple[list[bytes], list[bytes]] = ([], [])
            size, streaming, ended = 0, bool(header.get("stream_output")), False
            while not ended:
                read = command.read()
                ended = read is None
                for stream in (1, 0):  # the process comes on stderr
                    piece = read[stream] if read is not None else b""
                    if process_line is not None:
                        piece = process_line.rest(stream) if ended else process_line.output(stream, piece)
                    size += len(piece)
                    held[stream].append(piece)
                if process_line is not None:
                    self._killer.note_process(process_line.process, process_line.has_come)
                streaming = streaming or size > CHUNK
                for stream in (0, 1) if streaming else ():
                    self._out(stream + 1, b"".join(held[stream]))
                    held[stream].clear()
            # An appliance may send no status. A command of /bin/sh has one, also if it closes its output and continues.
            code = command.wait(exec_command.EXIT_STATUS_TIMEOUT if process_line is None else None).code
            self._killer.note_end()
        if code in KILL_EXIT_CODES and not self._request.is_cancelled:
            self._over.wait(SHUTDOWN_GRACE)  # a host that shuts down kills processes first, and then ends the connection
        out, err = b"".join(held[0]), b"".join(held[1])
        self._send({"op": "exit", "rc": code, "stdout_size": len(out)}, out + err)

    def _command_line(self, header: RequestHeader) -> str:
        """Return the line for the login shell. It tells its process if that shell can run ``/bin/sh``."""
        argv = [from_wire(argument).decode("utf-8", "surrogateescape") for argument in header["argv"]]
        token = bootstrap.new_token()
        telling = shell_lines.telling_line(token, header) if argv[0] and self._host.runs_sh else None
        if telling is not None:
            self._process_line = ProcessLine(token)
            return telling
        return shell_lines.command_line(argv, header) if argv[0] else argv[2]  # sshd itself calls the account's shell

    def _note_command(self, command: exec_command.Command) -> None:
        """Note the command, whose session is open. Raises ConnectionLost if it is not to begin."""
        self._command = command
        if self._is_given_up():
            self._killer.note_end()
            raise ConnectionLost(f"{self._host.name}: cancelled before it began")

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

    def _is_given_up(self) -> bool:
        return self._cancelled or self._over.is_set()

    def _put(self, header: RequestHeader) -> None:
        from pmitogen.transport.sessions.file_transfer import FileTransfer

        more = header.get("more")
        body = InboxReader(self._inbox, self._send, self._is_given_up) if more else io.BytesIO(self._request.body)
        source = cast("IO[bytes]", body)
        size = header.get("size", None if more else len(self._request.body))
        files = FileTransfer(self._connection)
        try:
            path, label = shell_lines.text(header["path"]), header.get("label", "")
            files.put(source, size, path, header.get("mode"), label, self._is_given_up)
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
        self._out(1, data)
        if self._is_given_up():
            raise RemoteError("cancelled")

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
