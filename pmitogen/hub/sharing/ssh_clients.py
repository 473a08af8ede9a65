"""Serve ``pmitogen ssh`` with the hub's connections, so that rsync and git need no login of their own.

A client gets a connection only if it would have made the same one: the digest of its options, groups and namespaces must be
equal (see transport/connection_identity.py). Only connections with ControlMaster and ControlPersist are shared, as with ssh. A
connection that was made with a password, passphrase or key of the play is not shared, because the client's user has not given
these. A connection with ControlPersist stays open until its last client has ended, even if its run has ended.

Clients speak the protocol of OpenSSH's ControlMaster, on a socket in the directory of the hubs, which is closed to all others.
"""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pmitogen.errors import UsageError
from pmitogen.flags.ssh.values.forwards import Forward
from pmitogen.transport.connection import Connection
from pmitogen.transport.mux.listener import Listener
from pmitogen.transport.mux.messages import MuxError

if TYPE_CHECKING:
    from pmitogen.hub.login import Login
    from pmitogen.hub.registry import HostRegistry

LOOKUP_LIMIT = 20.0  # seconds until the I/O thread has found a connection


class SSHClients:
    """Owner of the socket for ``pmitogen ssh``. Raises OSError if the socket cannot be made."""

    accepts_control = False

    def __init__(self, registry: HostRegistry, path: str) -> None:
        self._registry = registry
        self._listener = Listener(path, self, slot_timeout=0)  # a client logs in by itself at once
        self.on_resize = self._listener.on_resize

    def close(self) -> None:
        """Remove the socket. Idempotent."""
        self._listener.end()

    def on_control(self, kind: int) -> None:
        """Do nothing: clients may not end the hub, which ends with its runs."""

    def open_forward(self, kind: int, forward: Forward) -> int | None:
        """Refuse: clients may not open forwardings."""
        raise UsageError("not for clients")

    def close_forward(self, kind: int, forward: Forward) -> None:
        """Refuse: clients may not close forwardings."""
        raise UsageError("not for clients")

    @contextlib.contextmanager
    def lend(self, digest: str | None) -> Iterator[tuple[Connection, str]]:
        """Return the connection with these options. Any thread but the I/O thread. Raises MuxError if there is none."""
        if digest is None:
            raise MuxError("no digest of the client's options")
        login = self._on_io_thread(lambda: self._find(digest))
        if login is None or login.connection is None:
            raise MuxError("no connection with these options")
        try:
            yield login.connection, digest
        finally:
            self._registry.defer(self._registry.take_back, login)

    def _find(self, digest: str) -> Login | None:
        """Return the login with this digest, lent out. I/O thread."""
        for host in self._registry.hosts():
            login = host.login
            if login is not None and login.connection is not None and login.digest_for_clients() == digest:
                if login.connection.end_reason is None:
                    login.lent += 1
                    return login
        return None

    def _on_io_thread(self, find: Callable[[], Login | None]) -> Login | None:
        results: queue.SimpleQueue[Login | None] = queue.SimpleQueue()
        if not self._registry.defer(lambda: results.put(find())):
            return None
        try:
            return results.get(timeout=LOOKUP_LIMIT)
        except queue.Empty:
            return None
