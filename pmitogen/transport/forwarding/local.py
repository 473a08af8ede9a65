"""Forward local ports and sockets: each connection to them goes through the server (ssh's -L and -D).

A forwarding has one thread that accepts, and two for each connection; their number is limited.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

from pmitogen.errors import ConnectError, ConnectionLost, Error
from pmitogen.transport.forwarding import address, socks
from pmitogen.transport.forwarding.address import Address, TCPAddress, UnixPath
from pmitogen.transport.forwarding.relay import OpenSockets, relay
from pmitogen.util import threads
from pmitogen.util.streams import read_exactly

if TYPE_CHECKING:
    from typing_extensions import Self

    from pmitogen.transport.connection import Connection

LOG = logging.getLogger("pmitogen.transport")
MAX_CONNECTIONS = 512  # at once, of one forwarding
OPEN_TIMEOUT = 60.0  # seconds for the server to connect
HANDSHAKE_TIMEOUT = 30.0  # seconds for a SOCKS request
ACCEPT_RETRY_DELAY = 0.1  # seconds, where no descriptor is left


class LocalForwarding:
    """A listener here whose connections the server makes. Close it (``with``), or the connection that it belongs to.

    *target*: the address that the server connects to; None: a SOCKS client names it for each connection.
    Raises ConnectError (stage ``local``) if the address cannot be listened on. Any thread.
    """

    def __init__(
        self, connection: Connection, listen: Address, target: Address | None, *, bind_mask: int = 0o177, unlink: bool = False
    ) -> None:
        self._connection = connection
        self._target = target
        self._path = listen.path if isinstance(listen, UnixPath) else None
        self._open = OpenSockets(MAX_CONNECTIONS)
        self._closed = threading.Event()
        try:
            self._listeners = address.listen(listen, bind_mask=bind_mask, unlink=unlink)
        except OSError as error:
            raise ConnectError(f"{connection.peer}: cannot listen on {listen}: {error.strerror or error}", "local") from None
        bound = self._listeners[0].getsockname()
        self.address: Address = listen if isinstance(listen, UnixPath) else TCPAddress(listen.host, bound[1])
        connection.at_end(self.close)
        for listener in self._listeners:
            threads.start(self._accept, f"forwarding {listen}", listener)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and close the connections. Idempotent; does not wait."""
        self.stop_listening()
        self._open.close()

    def stop_listening(self) -> None:
        """Accept no further connections; those that are open go on. Idempotent; does not wait."""
        if self._closed.is_set():
            return
        self._closed.set()
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes its thread
            listener.close()
        if self._path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def _accept(self, listener: socket.socket) -> None:
        while not self._closed.is_set():
            try:
                client, origin = listener.accept()
            except OSError:
                if self._closed.wait(ACCEPT_RETRY_DELAY):
                    return
                continue
            if not self._open.reserve():
                client.close()
                continue
            try:
                threads.start(self._serve, "forwarding", client, origin)
            except ConnectError:
                self._open.release()
                client.close()

    def _serve(self, client: socket.socket, origin: object) -> None:
        try:
            with self._open.holding(client):
                self._connect(client, origin)
        except (OSError, EOFError, socks.NotSOCKS, Error) as error:
            LOG.info("%s: forwarding from %s: %s", self._connection.peer, self.address, error)
        finally:
            client.close()
            self._open.release()

    def _connect(self, client: socket.socket, origin: object) -> None:
        target, request = self._target, None
        if target is None:
            client.settimeout(HANDSHAKE_TIMEOUT)
            request = socks.read_request(functools.partial(read_exactly, client.recv), client.sendall)
            client.settimeout(None)
            target = request.address
        source = TCPAddress(str(origin[0]), int(origin[1])) if isinstance(origin, tuple) else None
        try:
            channel = self._connection.open_stream(target, source, time.monotonic() + OPEN_TIMEOUT)
        except (ConnectError, ConnectionLost):
            if request is not None:
                request.reply(False)
            raise
        if request is not None:
            request.reply(True)
        relay(channel, client, self._open)
