"""The socket of an agent: accepts programs of its own account, with one thread for each.

Processes of this account and of root may connect: the kernel reports the peer's uid (SO_PEERCRED), and the socket's mode excludes
others as well. The number of clients, the size of a message and the time for its arrival are bounded.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import threading
from types import FrameType

from pmitogen.cli.agent.keyring import Keyring
from pmitogen.cli.agent.protocol import ClientConnection
from pmitogen.errors import ConnectError
from pmitogen.transport.keys.ssh_agent_client import MAX_MESSAGE
from pmitogen.transport.keys.wire import encode_string
from pmitogen.util import processes, threads
from pmitogen.util.peer_text import escape_lines
from pmitogen.util.streams import read_exactly

MAX_CLIENTS = 128
MESSAGE_TIMEOUT = 30.0  # seconds from a message's first byte to its last, and for its answer
PARENT_INTERVAL = 10.0  # seconds between checks that the command still runs, on systems without pidfd
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stop(Exception):
    """A signal that ends the agent has arrived."""


class Server:
    """Serves *listener* until a signal arrives or the process *parent* ends."""

    def __init__(self, listener: socket.socket, lifetime: int | None, parent: int | None) -> None:
        self._listener = listener
        self._lifetime = lifetime
        self._parent = parent
        self._keyring = Keyring()
        self._places = threading.BoundedSemaphore(MAX_CLIENTS)
        self._asking = threading.Lock()  # the user is asked one question at a time

    def run(self) -> None:
        """Serve. Main thread."""
        for signum in STOP_SIGNALS:
            signal.signal(signum, _stop)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        self._listener.setblocking(False)
        with contextlib.ExitStack() as stack, contextlib.suppress(Stop):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
            watched = self._watch_parent(stack, poll)
            while self._parent is None or os.getppid() == self._parent:
                for descriptor, _ in poll.poll(self._timeout(watched)):
                    if descriptor == self._listener.fileno():
                        self._accept()

    def _watch_parent(self, stack: contextlib.ExitStack, poll: select.poll) -> bool:
        if self._parent is None or not hasattr(os, "pidfd_open"):
            return False
        try:
            descriptor = os.pidfd_open(self._parent)
        except OSError:
            return False
        stack.callback(os.close, descriptor)
        poll.register(descriptor, select.POLLIN)
        return True

    def _timeout(self, parent_watched: bool) -> float | None:
        """Return the milliseconds until the next check of the parent or the lifetimes; None: no limit."""
        expiry = self._keyring.next_expiry()
        waits = [] if expiry is None else [expiry]
        if self._parent is not None:
            waits.append(1.0 if parent_watched else PARENT_INTERVAL)
        return min(waits) * 1000 + 1 if waits else 60_000

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        if processes.peer_uid(connection) not in (os.geteuid(), 0, None) or not self._places.acquire(blocking=False):
            connection.close()
            return
        try:
            threads.start(self._serve, "agent client", connection)
        except ConnectError:  # the system has no more threads
            connection.close()
            self._places.release()

    def _serve(self, connection: socket.socket) -> None:
        client = ClientConnection(self._keyring, self._confirm, self._lifetime)
        try:
            with connection, contextlib.suppress(OSError, EOFError):
                while (message := _receive(connection)) is not None:
                    answer = client.answer(message)
                    if len(answer) > MAX_MESSAGE:
                        return
                    connection.sendall(encode_string(answer))
        finally:
            self._places.release()

    def _confirm(self, question: str) -> bool:
        program = os.environ.get("SSH_ASKPASS")
        if not program:
            return False
        environment = {**os.environ, "SSH_ASKPASS_PROMPT": "confirm"}
        text = "\n".join(escape_lines(question))
        with self._asking:
            try:
                done = subprocess.run(
                    [program, text], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False
                )
            except OSError:
                return False
        return done.returncode == 0 and done.stdout.strip().lower() in (b"", b"yes")


def _receive(connection: socket.socket) -> bytes | None:
    """Return one message without its length; None at the end of the connection, or if the message is too long."""
    connection.settimeout(None)
    head = connection.recv(1)
    connection.settimeout(MESSAGE_TIMEOUT)
    if not head:
        return None
    head += read_exactly(connection.recv, 3)
    size = int.from_bytes(head, "big")
    return read_exactly(connection.recv, size) if 0 < size <= MAX_MESSAGE else None


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise Stop
