"""Interfaces between a host and the rest of the hub. All methods are called on the hub's I/O thread; none blocks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from pmitogen.errors import Error
from pmitogen.hub.requests import Request


class Timers(Protocol):
    """Work that is due later. Implemented by scheduler.Guard."""

    def run(self, work: Callable[..., object], *args: object) -> None:
        """Call *work* now; if it raises, the owner is ended."""

    def call_later(self, seconds: float, work: Callable[..., object], *args: object) -> object:
        """Call *work* after *seconds*, unless the owner has ended before."""


class Replacement(Protocol):
    """The host that takes all further requests of one whose session is out of date."""

    @property
    def guard(self) -> Timers:
        """Runs work about the host."""

    @property
    def login(self) -> object:
        """The login; two hosts that share a connection have the same object."""

    @property
    def replacement(self) -> Replacement | None:
        """The host that replaces this one, or None."""

    def submit(self, request: Request) -> None:
        """Accept a request."""

    def end_chain(self, chain: int) -> None:
        """Forget the requests of *chain*, whose client has disconnected."""

    def fail(self, error: Error) -> None:
        """End the host with *error*."""


class Connector(Protocol):
    """Makes and ends the connection of one host. Blocking work is done on threads, whose results are calls of the host."""

    @property
    def host_count(self) -> int:
        """The number of hosts that have a connection, or are about to."""

    def connect(self, python: list[str] | None) -> None:
        """Log in and start Python.

        :param python: the interpreter that the first request names; None if it names none.
        """

    def start_python(self, python: list[str] | None) -> None:
        """Start Python on a connection that has none so far."""

    def abandon_start(self) -> None:
        """Close the channel of an interpreter that ended before it was up, once its last output has arrived."""

    def run_elsewhere(self, line: str, timeout: float) -> None:
        """Run a line of the login shell by a connection of its own. Any thread; blocks; raises Error, TimeoutError.

        :param timeout: seconds for the command, after the login.
        """

    def replace_session(self, reconnect: bool) -> Replacement:
        """Make a host with a new session on the same connection, or with a new connection if *reconnect*."""

    def close_session(self) -> None:
        """End the session; the connection stays if the replacement uses it."""

    def close(self) -> None:
        """Forget the host, and close its channel and its connection."""


class ShellBackend(Protocol):
    """Serves requests of one host without Python: by its login shell and SFTP."""

    def start(self, request: Request) -> None:
        """Begin to serve *request*; its answers come back by ``Host.on_shell_frame``."""

    def end_commands(self) -> None:
        """Kill the commands under way that would go on without the connection. Any thread but the I/O thread; blocks."""


class ConnectedHost(Protocol):
    """The attributes of a host that all of its parts use."""

    connector: Connector

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """Logs with the host's name."""

    @property
    def guard(self) -> Timers:
        """Runs work about the host."""

    @property
    def peer(self) -> str:
        """The account and address of the login."""
