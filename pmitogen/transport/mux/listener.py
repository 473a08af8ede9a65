"""Listen on a socket for clients of a connection, and run their sessions on it.

Anyone who reaches the socket acts as its owner, so the socket has mode 0600, and only this account and root are served. Each
client has one thread, which ends with the client or the connection.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from pmitogen.errors import Error
from pmitogen.flags.ssh.values.forwards import Forward
from pmitogen.transport.connection import Connection
from pmitogen.transport.forwarding.address import TCPAddress
from pmitogen.transport.keys.wire import DecodeError, PacketReader, encode_string, encode_u32
from pmitogen.transport.mux import messages
from pmitogen.transport.mux.messages import MuxError, MuxSocket
from pmitogen.transport.mux.streams import READ_SIZE, ClientOutput, copy_input, copy_output
from pmitogen.transport.mux.terminal import terminal_for, window_size
from pmitogen.transport.sessions.exec_command import ChannelStream, Command
from pmitogen.util import threads

MAX_CLIENTS = 256
BACKLOG = 64
OPEN_TIMEOUT = 60.0  # seconds for a channel
HELLO_TIMEOUT = 20.0  # seconds for a client's hello
FAILED = 255  # ssh's exit status for its own errors
_CONTROL = (messages.STOP_LISTENING, messages.TERMINATE, messages.OPEN_FORWARD, messages.CLOSE_FORWARD)
_BUSY_WAIT = 0.1  # seconds until the next try where no descriptor is left


class Owner(Protocol):
    """The program that shares its connections. Any thread."""

    def lend(self, digest: str | None) -> AbstractContextManager[tuple[Connection, str]]:
        """Return the connection for a client, and the digest of its options, for the time of the block.

        *digest*: of the client's options; None if it has sent none. Raises MuxError if there is no connection for it.
        """

    @property
    def accepts_control(self) -> bool:
        """True if clients may send STOP_LISTENING and TERMINATE, and open and close forwardings."""

    def on_control(self, kind: int) -> None:
        """Carry out STOP_LISTENING or TERMINATE."""

    def open_forward(self, kind: int, forward: Forward) -> int | None:
        """Start a forwarding; return the port that the server has chosen, None if it had not to. Raises Error."""

    def close_forward(self, kind: int, forward: Forward) -> None:
        """End a forwarding. Raises Error."""


class Listener:
    """Serves clients on *path*, with the connections of *owner*.

    *slot_timeout*: seconds that a client waits where the server allows no further session on the connection.
    Raises OSError if the socket cannot be made, ConnectError if no thread can be started.
    """

    def __init__(self, path: str, owner: Owner, slot_timeout: float = math.inf) -> None:
        self._owner = owner
        self._slot_timeout = slot_timeout
        self._path = path
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._clients = 0
        self._is_stopped = self._is_ended = False
        self._terminals: dict[Command, int] = {}  # sessions with a terminal, and the descriptor that tells its size
        self._listener = _listen(path)
        self._inode = os.stat(path).st_ino
        try:
            threads.start(self._accept, "ssh mux listener")
        except Error:
            self.stop()
            raise

    def stop(self) -> None:
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

    def end(self) -> None:
        """Stop as :meth:`stop` does; clients that are left count no more. Idempotent; any thread."""
        self.stop()
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()

    def wait_until_idle(self, seconds: float | None) -> None:
        """Wait until there has been no client for *seconds*, or none is left after :meth:`stop`. None: no limit. Blocks."""
        with self._changed:
            while not self._is_ended:
                if self._clients:
                    self._changed.wait()
                elif self._is_stopped or not self._changed.wait_for(lambda: self._clients or self._is_stopped, seconds):
                    return

    def on_resize(self) -> None:
        """Tell the sessions the sizes of their terminals."""
        for command, descriptor in list(self._terminals.items()):
            command.resize(*window_size(descriptor))

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
                self._start(MuxSocket(sock))
            else:
                sock.close()

    def _start(self, client: MuxSocket) -> None:
        try:
            threads.start(self._serve, "ssh mux client", client)
        except Error:  # the system has no more threads
            client.close()
            self._client_ended()

    def _client_ended(self) -> None:
        with self._changed:
            self._clients -= 1
            self._changed.notify_all()

    def _serve(self, client: MuxSocket) -> None:
        try:
            with client, contextlib.suppress(MuxError, DecodeError, OSError):  # the last: no descriptor is left
                client.check_peer()
                client.settimeout(HELLO_TIMEOUT)
                digest = client.receive_hello()
                with self._owner.lend(digest) as (connection, own_digest):
                    client.send_hello(own_digest)
                    client.settimeout(None)
                    while True:
                        self._answer(connection, client, *client.receive())
        finally:
            self._client_ended()

    def _answer(self, connection: Connection, client: MuxSocket, kind: int, fields: PacketReader) -> None:
        request = encode_u32(fields.u32())
        if kind == messages.ALIVE_CHECK:
            client.send(messages.ALIVE, request, encode_u32(os.getpid()))
        elif kind in _CONTROL and not self._owner.accepts_control:
            client.send(messages.PERMISSION_DENIED, request, encode_string("not for clients"))
        elif kind in (messages.STOP_LISTENING, messages.TERMINATE):
            client.send(messages.OK, request)
            self._owner.on_control(kind)
        elif kind in (messages.OPEN_FORWARD, messages.CLOSE_FORWARD):
            self._forward(client, request, kind, fields)
        elif kind == messages.NEW_SESSION:
            self._session(connection, client, request, fields)
        elif kind == messages.NEW_STDIO_FORWARD:
            self._stdio_forward(connection, client, request, fields)
        else:
            client.send(messages.FAILURE, request, encode_string("unsupported request"))

    def _forward(self, client: MuxSocket, request: bytes, kind: int, fields: PacketReader) -> None:
        port = None
        try:
            forward = messages.read_forward(fields)
            if kind == messages.OPEN_FORWARD:
                port = self._owner.open_forward(*forward)
            else:
                self._owner.close_forward(*forward)
        except Error as error:
            client.send(messages.FAILURE, request, encode_string(error.message))
            return
        if port is None:
            client.send(messages.OK, request)
        else:
            client.send(messages.REMOTE_PORT, request, encode_u32(port))

    def _session(self, connection: Connection, client: MuxSocket, request: bytes, fields: PacketReader) -> None:
        fields.string()  # reserved
        wants_tty, _x11, _agent, subsystem, _escape = (fields.u32() for _ in range(5))
        term, argument = fields.text(), fields.string()
        with _descriptors(client, 3) as (stdin, stdout, stderr):
            terminal = terminal_for(stdin, term) if wants_tty else None
            try:
                command = Command(
                    connection,
                    argument or None,
                    stdin=None,
                    terminal=terminal,
                    timeout=OPEN_TIMEOUT,
                    slot_timeout=self._slot_timeout,
                    subsystem=bool(subsystem),
                )
            except Error as error:  # the command has not started: FAILURE permits the client to run it in another way
                client.send(messages.FAILURE, request, encode_string(error.message))
                return
            with command:
                session = encode_u32(next(self._numbers))
                client.send(messages.SESSION_OPENED, request, session)
                if wants_tty:
                    self._terminals[command] = stdin
                try:
                    status = self._exchange(client, command, stdin, stdout, stderr)
                finally:
                    self._terminals.pop(command, None)
                client.send(messages.EXIT, session, encode_u32(status))
        raise MuxError("the session ended")  # OpenSSH's client waits for the end of the connection

    def _exchange(self, client: MuxSocket, command: Command, stdin: int, stdout: int, stderr: int) -> int:
        """Copy the streams of a session to its end; return the exit status."""
        with _copying_input(client, command, stdin):
            try:
                copy_output(command, stdout, stderr, command.stop_output, ClientOutput(client.fileno()).write_all)
                ended = command.wait(None)
            except Error:
                return FAILED
        return FAILED if ended.status is None else ended.status

    def _stdio_forward(self, connection: Connection, client: MuxSocket, request: bytes, fields: PacketReader) -> None:
        fields.string()  # reserved
        target = TCPAddress(fields.text(), fields.u32())
        with _descriptors(client, 2) as (stdin, stdout):
            try:
                channel = connection.open_stream(target, None, time.monotonic() + OPEN_TIMEOUT)
            except Error as error:
                client.send(messages.FAILURE, request, encode_string(error.message))
                return
            with ChannelStream(connection, channel) as stream:
                client.send(messages.SESSION_OPENED, request, encode_u32(next(self._numbers)))
                with _copying_input(client, stream, stdin), contextlib.suppress(Error):
                    copy_output(stream, stdout, stdout, stream.close, ClientOutput(client.fileno()).write_all)
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
    """Receive file descriptors of the client; they are closed at the end of the block."""
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
    ready = [fd for fd, _ in poll.poll()]
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
