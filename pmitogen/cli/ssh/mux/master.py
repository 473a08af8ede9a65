"""A master: it listens on the socket of ControlPath, and runs the sessions of clients on its connection.

Anyone who reaches the socket acts as its owner, so the socket has mode 0600, and only this account and root are served. Each
client has one thread, which ends with the client or the connection.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator

from pmitogen.cli.ssh.mux import messages
from pmitogen.cli.ssh.mux.messages import MuxError, MuxSocket, number
from pmitogen.cli.ssh.session import FAILED, OPEN_TIMEOUT
from pmitogen.cli.ssh.streams import READ_SIZE, copy_input, copy_output
from pmitogen.cli.ssh.terminal import terminal_for, window_size
from pmitogen.errors import Error
from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.connection import Connection
from pmitogen.transport.forwarding.address import TCPAddress
from pmitogen.transport.keys.wire import DecodeError, PacketReader, encode_string
from pmitogen.transport.plain.exec_command import ChannelStream, Command
from pmitogen.util import threads

MAX_CLIENTS = 256
BACKLOG = 64
_BUSY_WAIT = 0.1  # seconds until the next try where no descriptor is left


class Master:
    """Serves clients on *path* with *connection*, until the connection ends or nobody needs it. Create it on the main thread.

    Raises OSError if the socket cannot be made.
    """

    def __init__(self, connection: Connection, settings: Settings, path: str) -> None:
        self._connection = connection
        self._settings = settings
        self._path = path
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._clients = 0
        self._is_stopped = False
        self._terminals: dict[Command, int] = {}  # sessions with a terminal, and the descriptor that tells its size
        self._listener = _listen(path)
        self._inode = os.stat(path).st_ino
        connection.at_end(self._on_connection_end)
        threads.start(self._accept, "ssh mux listener")

    def stop_listening(self) -> None:
        """Accept no further clients, and remove the socket. Idempotent; any thread."""
        with self._changed:
            stopped, self._is_stopped = self._is_stopped, True
            self._changed.notify_all()
        if stopped:
            return
        with contextlib.suppress(OSError):
            if os.stat(self._path).st_ino == self._inode:  # not that of a later master
                os.unlink(self._path)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def wait_until_idle(self, seconds: float | None) -> None:
        """Wait until there has been no client for *seconds*, or none is left after :meth:`stop_listening`. None: no limit.

        Blocks.
        """
        with self._changed:
            while self._connection.end_reason is None:
                if self._clients:
                    self._changed.wait()
                elif self._is_stopped or not self._changed.wait_for(lambda: self._clients or self._is_stopped, seconds):
                    return

    def on_resize(self) -> None:
        """Tell the sessions the sizes of their terminals."""
        for command, descriptor in list(self._terminals.items()):
            command.resize(*window_size(descriptor))

    def _on_connection_end(self) -> None:
        self.stop_listening()

    # Clients

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE):
                    return
                time.sleep(_BUSY_WAIT)  # until a client ends
                continue
            with self._changed:
                accepted = self._clients < MAX_CLIENTS and not self._is_stopped
                self._clients += accepted
                self._changed.notify_all()
            if accepted:
                threads.start(self._serve, "ssh mux client", MuxSocket(sock))
            else:
                sock.close()

    def _serve(self, client: MuxSocket) -> None:
        try:
            with client, contextlib.suppress(MuxError, DecodeError, OSError):  # the last: no descriptor is left
                client.check_peer()
                client.exchange_hello(self._settings)
                while True:
                    self._answer(client, *client.receive())
        finally:
            with self._changed:
                self._clients -= 1
                self._changed.notify_all()

    def _answer(self, client: MuxSocket, kind: int, fields: PacketReader) -> None:
        request = number(fields.u32())
        if kind == messages.ALIVE_CHECK:
            client.send(messages.ALIVE, request, number(os.getpid()))
        elif kind == messages.STOP_LISTENING:
            client.send(messages.OK, request)
            self.stop_listening()
        elif kind == messages.TERMINATE:
            client.send(messages.OK, request)
            self.stop_listening()
            os.kill(os.getpid(), signal.SIGTERM)  # ends the program with its terminal restored
        elif kind == messages.NEW_SESSION:
            self._session(client, request, fields)
        elif kind == messages.NEW_STDIO_FORWARD:
            self._stdio_forward(client, request, fields)
        else:
            client.send(messages.FAILURE, request, encode_string("unsupported request"))

    def _session(self, client: MuxSocket, request: bytes, fields: PacketReader) -> None:
        fields.string()  # reserved
        wants_tty, _x11, _agent, subsystem, _escape = (fields.u32() for _ in range(5))
        term, argument = fields.text(), fields.string()
        with _descriptors(client, 3) as (stdin, stdout, stderr):
            pty = terminal_for(stdin, term) if wants_tty else None
            try:
                command = Command(
                    self._connection, argument or None, stdin=None, pty=pty, timeout=OPEN_TIMEOUT, subsystem=bool(subsystem)
                )
            except Error as error:
                client.send(messages.FAILURE, request, encode_string(error.message))
                return
            with command:
                session = number(next(self._numbers))
                client.send(messages.SESSION_OPENED, request, session)
                if wants_tty:
                    self._terminals[command] = stdin
                try:
                    status = self._exchange(client, command, stdin, stdout, stderr)
                finally:
                    self._terminals.pop(command, None)
                client.send(messages.EXIT, session, number(status))
        raise MuxError("the session ended")  # OpenSSH's client waits for the end of the connection

    def _exchange(self, client: MuxSocket, command: Command, stdin: int, stdout: int, stderr: int) -> int:
        """Copy the streams of a session to its end; return the exit status."""
        with _copying_input(client, command, stdin):
            try:
                copy_output(command, stdout, stderr, command.stop_output)
                ended = command.wait(None)
            except Error:
                return FAILED
        return FAILED if ended.status is None else ended.status

    def _stdio_forward(self, client: MuxSocket, request: bytes, fields: PacketReader) -> None:
        fields.string()  # reserved
        target = TCPAddress(fields.text(), fields.u32())
        with _descriptors(client, 2) as (stdin, stdout):
            try:
                channel = self._connection.open_stream(target, None, time.monotonic() + OPEN_TIMEOUT)
            except Error as error:
                client.send(messages.FAILURE, request, encode_string(error.message))
                return
            with ChannelStream(self._connection, channel) as stream:
                client.send(messages.SESSION_OPENED, request, number(next(self._numbers)))
                with _copying_input(client, stream, stdin), contextlib.suppress(Error):
                    copy_output(stream, stdout, stdout, stream.close)
        raise MuxError("the forwarding ended")  # the end of the connection tells the client


def _listen(path: str) -> socket.socket:
    """Listen on a socket that appears under its name only when it is complete, and replaces nothing."""
    temporary = f"{path}.{os.urandom(8).hex()}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(temporary)
        try:
            os.chmod(temporary, 0o600)
            listener.listen(BACKLOG)
            os.link(temporary, path)
        finally:
            os.unlink(temporary)
    except BaseException:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def _descriptors(client: MuxSocket, count: int) -> Iterator[list[int]]:
    """Receive open files of the client; they are closed at the end of the block."""
    received: list[int] = []
    try:
        for _ in range(count):
            received.append(client.receive_descriptor())
        yield received
    finally:
        for descriptor in received:
            os.close(descriptor)


@contextlib.contextmanager
def _copying_input(client: MuxSocket, stream: ChannelStream, stdin: int) -> Iterator[None]:
    """Copy *stdin* to the channel during the block, and close the channel if the client ends.

    Nothing is read from *stdin* after the block: it may be a terminal, whose next reader is another program.
    """
    reader, writer = os.pipe()
    copier = threads.start(copy_input, "ssh mux stdin", stream, _pieces(stdin, reader))
    watcher = threads.start(_watch, "ssh mux watch", client, stream, reader)
    try:
        yield
    finally:
        os.close(writer)  # both threads see the end of the pipe
        copier.join()
        watcher.join()
        os.close(reader)


def _wait(descriptor: int, end: int) -> int:
    """Wait until one of both can be read or has ended, and return it; *end* if both have.

    Unlike select, poll takes any descriptor.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.register(end, select.POLLIN)
    ready = [number for number, _ in poll.poll()]
    return end if end in ready else descriptor


def _pieces(descriptor: int, end: int) -> Iterator[bytes]:
    while True:
        try:
            if _wait(descriptor, end) == end:
                return
            data = os.read(descriptor, READ_SIZE)
        except BlockingIOError:
            continue
        except OSError:
            return
        if not data:
            return
        yield data


def _watch(client: MuxSocket, stream: ChannelStream, end: int) -> None:
    """Close the channel when the client ends. A client sends nothing during a session."""
    if _wait(client.fileno(), end) != end:
        stream.close()
