"""Connections to the jump hosts of a run: one to each, shared by all targets behind it.

Jump hosts are equal if their settings and credentials are (see connection_identity.py). The first caller that needs one connects;
others wait for it until their own deadlines, and get its failure too: one attempt with a wrong key is enough. A lost connection
is replaced for the next caller.

Tunnels are ``direct-tcpip`` channels (RFC 4254 section 7.2), which sshd does not count against MaxSessions.
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from pmitogen.errors import ConnectError
from pmitogen.flags.ssh.settings import JumpHop, Settings
from pmitogen.transport.auth.credentials import Credentials
from pmitogen.transport.connection_identity import connection_key
from pmitogen.transport.keys.key_file import KeyCache
from pmitogen.transport.proxy_command import ProxyCommands

if TYPE_CHECKING:
    from pmitogen.transport.connection import Connection

Resolver = Callable[[JumpHop, Settings], Settings]
"""Return the settings of a hop of a destination with these settings: :func:`pmitogen.flags.ssh.resolve.resolve_hop`."""


class JumpHostPool:
    """Connections to jump hosts, and the decrypted keys of the run. Thread-safe. Close it when the run ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: dict[Hashable, concurrent.futures.Future[Connection]] = {}
        self._closed = False
        self.proxy_commands = ProxyCommands()  # through which jump hosts are reached
        self.key_cache = KeyCache()  # of all connections of the run, to jump hosts and to targets

    def connect(
        self, settings: Settings, credentials: Credentials, deadline: float, make: Callable[[], Connection]
    ) -> Connection:
        """Return the live connection to this jump host; call *make* if there is none. Raises its error, or ConnectError."""
        key = connection_key(settings), credentials.identity()
        with self._lock:
            if self._closed:
                raise ConnectError(f"{settings.endpoint}: the run is ending", "local")
            future = self._connections.get(key)
            makes_it = future is None or _is_lost(future)
            if makes_it:
                future = self._connections[key] = concurrent.futures.Future()
        assert future is not None
        if makes_it:
            return self._make(key, future, make)
        try:
            return future.result(max(0.0, deadline - time.monotonic()))
        except concurrent.futures.TimeoutError:
            raise ConnectError(f"{settings.endpoint}: timed out waiting for the connection to the jump host", "proxy") from None

    def _make(self, key: Hashable, future: concurrent.futures.Future[Connection], make: Callable[[], Connection]) -> Connection:
        try:
            connection = make()
        except BaseException as error:
            with self._lock:
                if self._connections.get(key) is future:
                    del self._connections[key]
            future.set_exception(error)
            raise
        future.set_result(connection)
        with self._lock:
            too_late = self._closed
        if too_late:
            connection.close()
        return connection

    def connections(self) -> list[Connection]:
        """Return the connections that are open."""
        with self._lock:
            futures = list(self._connections.values())
        return [future.result() for future in futures if future.done() and not _is_lost(future)]

    def close(self) -> None:
        """Close every connection; later requests fail. Idempotent."""
        with self._lock:
            self._closed = True
            futures, self._connections = list(self._connections.values()), {}
        self.key_cache.clear()
        for future in futures:
            if future.done() and future.exception() is None:
                future.result().close()
        self.proxy_commands.close()  # of jump hosts that are still being connected


def _is_lost(future: concurrent.futures.Future[Connection]) -> bool:
    return future.done() and (future.exception() is not None or future.result().end_reason is not None)
