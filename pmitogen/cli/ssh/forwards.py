"""Start the forwardings of a command line: ``-L``, ``-R`` and ``-D``, with ssh's messages for failures."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from pmitogen.cli.ssh.invocation import Invocation
from pmitogen.errors import ConnectError
from pmitogen.flags.ssh.values.forwards import Forward
from pmitogen.transport.connection import Connection
from pmitogen.transport.forwarding.address import Address, TCPAddress, UnixPath
from pmitogen.transport.forwarding.local import LocalForwarding
from pmitogen.transport.forwarding.remote import RemoteForwarding
from pmitogen.util.peer_text import one_line


def start(connection: Connection, invocation: Invocation) -> None:
    """Start all forwardings; they end with the connection. Raises ConnectError if one fails and ExitOnForwardFailure is set."""
    forwardings = invocation.forwardings
    for forward in (*forwardings.local, *forwardings.dynamic):
        with _failure_is_a_warning(invocation, "Could not request local forwarding."):
            _start_local(connection, invocation, forward)
    for forward in forwardings.remote:
        with _failure_is_a_warning(invocation, None):
            _start_remote(connection, forward)


@contextlib.contextmanager
def _failure_is_a_warning(invocation: Invocation, further_line: str | None) -> Iterator[None]:
    try:
        yield
    except ConnectError as error:
        if invocation.exit_on_forward_failure:
            raise
        _print(f"Warning: {error.message}")
        if further_line is not None:
            _print(further_line)


def _start_local(connection: Connection, invocation: Invocation, forward: Forward) -> None:
    LocalForwarding(
        connection,
        _listen_address(forward, invocation.gateway_ports),
        _target(forward),
        bind_mask=invocation.bind_mask,
        unlink=invocation.bind_unlink,
    )


def _start_remote(connection: Connection, forward: Forward) -> None:
    listen: Address
    if forward.listen_path is not None:
        listen = UnixPath(forward.listen_path)
    else:
        host = "localhost" if forward.listen_host is None else "" if forward.listen_host == "*" else forward.listen_host
        listen = TCPAddress(host, forward.listen_port)
    forwarding = RemoteForwarding(connection, listen, _target(forward))
    if forward.listen_path is None and forward.listen_port == 0 and isinstance(forwarding.address, TCPAddress):
        _print(f"Allocated port {forwarding.address.port} for remote forward to {_target_text(forward)}")


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


def _target_text(forward: Forward) -> str:
    return forward.connect_path or f"{forward.connect_host}:{forward.connect_port}"


def _print(line: str) -> None:
    sys.stderr.write(one_line(line) + "\n")
    sys.stderr.flush()
