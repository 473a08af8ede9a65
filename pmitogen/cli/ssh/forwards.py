"""The forwardings of a command: ``-L``, ``-R`` and ``-D``, with ssh's messages for failures."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from pmitogen.cli.ssh import notices
from pmitogen.cli.ssh.invocation import Invocation
from pmitogen.cli.ssh.messages import SessionProblem
from pmitogen.errors import ConnectError, UsageError
from pmitogen.flags.ssh.values.forwards import Forward, Forwardings
from pmitogen.transport.connection import Connection
from pmitogen.transport.forwarding import requested
from pmitogen.transport.forwarding.address import TCPAddress
from pmitogen.transport.forwarding.local import LocalForwarding
from pmitogen.transport.forwarding.remote import RemoteForwarding
from pmitogen.transport.mux.messages import DYNAMIC, LOCAL, REMOTE


class OpenForwardings:
    """The forwardings of a connection, which end with it. Any thread."""

    def __init__(self, connection: Connection, wanted: Forwardings) -> None:
        self._connection = connection
        self._wanted = wanted
        self._lock = threading.Lock()
        self._open: dict[tuple[int, Forward], LocalForwarding | RemoteForwarding] = {}

    def open(self, kind: int, forward: Forward) -> int | None:
        """Start a forwarding, unless there is the same already; return the port if the server has chosen it.

        *kind*: LOCAL, DYNAMIC or REMOTE of mux/messages.py. Raises ConnectError.
        """
        with self._lock:
            made = self._open.get((kind, forward))
        if made is None:
            begin = requested.start_remote if kind == REMOTE else requested.start_local
            made = begin(self._connection, self._wanted, forward)
            with self._lock:
                self._open[kind, forward] = made
        is_chosen = kind == REMOTE and forward.listen_path is None and forward.listen_port == 0
        return made.address.port if is_chosen and isinstance(made.address, TCPAddress) else None

    def close(self, kind: int, forward: Forward) -> None:
        """End a forwarding; its open connections go on, as with ssh. Raises UsageError if there is none."""
        with self._lock:
            made = self._open.pop((kind, forward), None)
        if made is None:
            raise UsageError("port not forwarded")
        made.stop_listening()


def start(connection: Connection, invocation: Invocation) -> OpenForwardings:
    """Start all forwardings of a command line. Raises ConnectError if one fails and ExitOnForwardFailure is set."""
    made, wanted = OpenForwardings(connection, invocation.forwardings), invocation.forwardings
    for kind, forwards in ((LOCAL, wanted.local), (DYNAMIC, wanted.dynamic)):
        for forward in forwards:
            with _failure_is_a_warning(invocation, "Could not request local forwarding."):
                made.open(kind, forward)
    for forward in wanted.remote:
        with _failure_is_a_warning(invocation, None):
            port = made.open(REMOTE, forward)
            if port is not None:
                line = f"Allocated port {port} for remote forward to {_target_text(forward)}"
                notices.write([line], invocation.settings)
    return made


@contextlib.contextmanager
def _failure_is_a_warning(invocation: Invocation, further_line: str | None) -> Iterator[None]:
    try:
        yield
    except ConnectError as error:
        if invocation.exit_on_forward_failure:
            if further_line is None:
                raise
            raise SessionProblem(error.message, further_line) from None
        lines = [f"Warning: {error.message}"] + ([] if further_line is None else [further_line])
        notices.write(lines, invocation.settings)


def _target_text(forward: Forward) -> str:
    return forward.connect_path or f"{forward.connect_host}:{forward.connect_port}"
