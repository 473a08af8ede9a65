"""The forwardings of a command: ``-L``, ``-R`` and ``-D``, with ssh's messages for failures."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

from pmitogen.cli.ssh import notices
from pmitogen.cli.ssh.invocation import Invocation
from pmitogen.errors import ConnectError, UsageError
from pmitogen.flags.ssh.values import numbers
from pmitogen.flags.ssh.values.forwards import Forward
from pmitogen.transport.connection import Connection
from pmitogen.transport.forwarding.address import Address, TCPAddress, UnixPath
from pmitogen.transport.forwarding.local import LocalForwarding
from pmitogen.transport.forwarding.remote import RemoteForwarding
from pmitogen.transport.mux.messages import DYNAMIC, LOCAL, REMOTE


class OpenForwardings:
    """The forwardings of a connection, which end with it. Any thread."""

    def __init__(self, connection: Connection, invocation: Invocation) -> None:
        self._connection = connection
        self._invocation = invocation
        self._lock = threading.Lock()
        self._open: dict[tuple[int, Forward], LocalForwarding | RemoteForwarding] = {}

    def open(self, kind: int, forward: Forward) -> int | None:
        """Start a forwarding, unless there is the same already; return the port if the server has chosen it.

        *kind*: LOCAL, DYNAMIC or REMOTE of mux/messages.py. Raises ConnectError.
        """
        with self._lock:
            made = self._open.get((kind, forward))
        if made is None:
            made = self._start_remote(forward) if kind == REMOTE else self._start_local(forward)
            with self._lock:
                self._open[kind, forward] = made
        is_chosen = kind == REMOTE and forward.listen_path is None and forward.listen_port == 0
        return made.address.port if is_chosen and isinstance(made.address, TCPAddress) else None

    def close(self, kind: int, forward: Forward) -> None:
        """End a forwarding. Raises UsageError if there is none."""
        with self._lock:
            made = self._open.pop((kind, forward), None)
        if made is None:
            raise UsageError("port not forwarded")
        made.close()

    def _start_local(self, forward: Forward) -> LocalForwarding:
        invocation = self._invocation
        return LocalForwarding(
            self._connection,
            _listen_address(forward, invocation.gateway_ports),
            _target(forward),
            bind_mask=invocation.bind_mask,
            unlink=invocation.bind_unlink,
        )

    def _start_remote(self, forward: Forward) -> RemoteForwarding:
        listen: Address
        if forward.listen_path is not None:
            listen = UnixPath(forward.listen_path)
        else:
            host = "localhost" if forward.listen_host is None else "" if forward.listen_host == "*" else forward.listen_host
            listen = TCPAddress(host, forward.listen_port)
        return RemoteForwarding(self._connection, listen, _target(forward), _permitted(self._invocation.permit_remote_open))


def start(connection: Connection, invocation: Invocation) -> OpenForwardings:
    """Start all forwardings of a command line. Raises ConnectError if one fails and ExitOnForwardFailure is set."""
    made, wanted = OpenForwardings(connection, invocation), invocation.forwardings
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
            raise
        lines = [f"Warning: {error.message}"] + ([] if further_line is None else [further_line])
        notices.write(lines, invocation.settings)


def _listen_address(forward: Forward, gateway_ports: bool) -> Address:
    """Return the listen address, as in ssh: without one, the loopback addresses, or all with GatewayPorts."""
    if forward.listen_path is not None:
        return UnixPath(forward.listen_path)
    host = forward.listen_host
    if host is None:
        host = "*" if gateway_ports else "localhost"
    return TCPAddress(host, forward.listen_port)


def _target(forward: Forward) -> Address | None:
    if forward.connect_path is not None:
        return UnixPath(forward.connect_path)
    if forward.dynamic or forward.connect_host is None:
        return None
    return TCPAddress(forward.connect_host, forward.connect_port)


def _permitted(opens: Sequence[str]) -> Callable[[TCPAddress], bool]:
    """Return whether an address is permitted by PermitRemoteOpen. As in ssh, names are compared as they are written."""
    if not opens or opens[0].lower() == "any":
        return lambda address: True
    if opens[0].lower() == "none":
        return lambda address: False
    pairs = [(host, port if port == "*" else numbers.port(port)) for host, _, port in map(numbers.host_port, opens)]
    return lambda address: any(host in ("*", address.host) and port in ("*", address.port) for host, port in pairs)


def _target_text(forward: Forward) -> str:
    return forward.connect_path or f"{forward.connect_host}:{forward.connect_port}"
