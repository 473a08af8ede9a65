"""Start the forwardings that options ask for. They end with the connection. Any thread; blocks for the server's answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pmitogen.flags.ssh.values import numbers
from pmitogen.flags.ssh.values.forwards import Forward, Forwardings
from pmitogen.transport.connection import Connection
from pmitogen.transport.forwarding.address import Address, TCPAddress, UnixPath
from pmitogen.transport.forwarding.local import LocalForwarding
from pmitogen.transport.forwarding.remote import RemoteForwarding


def start_all(connection: Connection, wanted: Forwardings) -> list[LocalForwarding | RemoteForwarding]:
    """Start all of them. Raises ConnectError if one fails, ConnectionLost."""
    return [
        *(start_local(connection, wanted, forward) for forward in (*wanted.local, *wanted.dynamic)),
        *(start_remote(connection, wanted, forward) for forward in wanted.remote),
    ]


def start_local(connection: Connection, wanted: Forwardings, forward: Forward) -> LocalForwarding:
    """Listen here. As in ssh without an address on the loopback ones, or with GatewayPorts on all. Raises ConnectError."""
    listen: Address
    if forward.listen_path is not None:
        listen = UnixPath(forward.listen_path)
    else:
        default = "*" if wanted.gateway_ports else "localhost"
        listen = TCPAddress(default if forward.listen_host is None else forward.listen_host, forward.listen_port)
    return LocalForwarding(connection, listen, _target(forward), bind_mask=wanted.bind_mask, unlink=wanted.bind_unlink)


def start_remote(connection: Connection, wanted: Forwardings, forward: Forward) -> RemoteForwarding:
    """Make the server listen. Raises ConnectError, ConnectionLost."""
    listen: Address
    if forward.listen_path is not None:
        listen = UnixPath(forward.listen_path)
    else:
        host = "localhost" if forward.listen_host is None else "" if forward.listen_host == "*" else forward.listen_host
        listen = TCPAddress(host, forward.listen_port)
    return RemoteForwarding(connection, listen, _target(forward), _permitted(wanted.permit_remote_open))


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
