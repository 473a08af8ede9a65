"""A master: ``pmitogen ssh`` with ControlMaster, which shares its one connection."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

from pmitogen.cli.ssh.forwards import OpenForwardings
from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.connection import Connection
from pmitogen.transport.mux import messages
from pmitogen.transport.mux.listener import Listener


class Master:
    """Serves clients on *path* with *connection*, until the connection ends or is no longer used. Create it on the main thread.

    A client with other options decides itself whether to use the connection. Raises OSError if the socket cannot be made.
    """

    def __init__(self, connection: Connection, settings: Settings, path: str, forwardings: OpenForwardings) -> None:
        self._connection = connection
        self.open_forward, self.close_forward = forwardings.open, forwardings.close
        self._digest = messages.digest(settings)
        self._listener = Listener(path, self)
        self.on_resize = self._listener.on_resize
        connection.at_end(self._listener.end)

    def stop_listening(self) -> None:
        """Accept no further clients, and remove the socket. Idempotent; any thread."""
        self._listener.stop()

    def wait_until_idle(self, seconds: float | None) -> None:
        """Wait until there has been no client for *seconds*, or none is left after :meth:`stop_listening`. None: no limit.

        Blocks.
        """
        self._listener.wait_until_idle(seconds)

    # The owner of the listener

    accepts_control = True

    @contextlib.contextmanager
    def lend(self, digest: str | None) -> Iterator[tuple[Connection, str]]:
        yield self._connection, self._digest

    def on_control(self, kind: int) -> None:
        self._listener.stop()
        if kind == messages.TERMINATE:
            os.kill(os.getpid(), signal.SIGTERM)  # ends the program with its terminal restored
