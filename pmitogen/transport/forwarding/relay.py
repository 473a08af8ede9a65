"""Copy bytes between a channel and a local socket, with half-close in both directions."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import paramiko

from pmitogen.errors import ConnectError
from pmitogen.util import threads

if TYPE_CHECKING:
    from pmitogen.transport.paramiko_ext.channel import Channel

READ_SIZE = 32 << 10  # bytes
WINDOW = 2 << 20  # bytes that the server may send on one forwarded connection before they are read


def relay(channel: Channel, sock: socket.socket, sockets: OpenSockets) -> None:
    """Copy both ways until both have ended, then close both. Blocks; starts one thread for the way to the server.

    *sockets*: those of the forwarding. Closing it ends this.
    """
    try:
        sockets.add_channel(channel)
        sender = threads.start(_send, "forwarding", channel, sock)
        while data := channel.recv(READ_SIZE):
            sock.sendall(data)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_WR)
        sender.join()
    except OSError:
        pass  # the local program has closed its socket: closing the channel informs the server
    finally:
        sockets.remove_channel(channel)
        channel.close()
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)  # ends a read of the other thread
        sock.close()


def _send(channel: Channel, sock: socket.socket) -> None:
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        while data := sock.recv(READ_SIZE):
            channel.sendall(data)
        channel.shutdown_write()


class OpenSockets:
    """The local sockets of one forwarding and their channels, so that closing it closes them. Any thread."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._channels: set[Channel] = set()
        self._count = 0
        self._closed = False

    def reserve(self) -> bool:
        """Count one more connection; False: there are too many, or the forwarding is closed."""
        with self._lock:
            admitted = self._count < self._limit and not self._closed
            self._count += admitted
            return admitted

    def release(self) -> None:
        """Count one connection less: it has ended."""
        with self._lock:
            self._count -= 1

    @contextlib.contextmanager
    def holding(self, sock: socket.socket) -> Iterator[None]:
        """Register *sock* during the body, so that :meth:`close` shuts it down. Raises OSError if the forwarding is closed."""
        with self._lock:
            if self._closed:
                sock.close()
                raise OSError("the forwarding is closed")
            self._sockets.add(sock)
        try:
            yield
        finally:
            with self._lock:
                self._sockets.discard(sock)

    def add_channel(self, channel: Channel) -> None:
        """Let :meth:`close` close *channel*, too. Raises OSError if the forwarding is closed."""
        with self._lock:
            if self._closed:
                raise OSError("the forwarding is closed")
            self._channels.add(channel)

    def remove_channel(self, channel: Channel) -> None:
        """Forget *channel*."""
        with self._lock:
            self._channels.discard(channel)

    def close(self) -> None:
        """Shut all of them down. Idempotent; does not wait."""
        with self._lock:
            self._closed = True
            sockets, channels = list(self._sockets), list(self._channels)
            self._channels.clear()
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        if channels:  # closing them may wait, as while keys change; without them, a relay waits for a server that says nothing
            with contextlib.suppress(ConnectError):
                threads.start(_close_each, "forwarding close", channels)


def _close_each(channels: Iterable[Channel]) -> None:
    for channel in channels:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            channel.close()
