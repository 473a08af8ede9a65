"""Forwarded ports and sockets of a host, for as long as their ``with`` block.

An end is a port (of the loopback address), a (host, port) pair, or the path of a Unix socket.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from pmitogen.api import arguments
from pmitogen.api.account import Account
from pmitogen.api.waiting import Runtime
from pmitogen.errors import ConnectError, ConnectionLost, UsageError
from pmitogen.transport.forwarding.address import Address, TCPAddress, UnixPath

if TYPE_CHECKING:
    from pmitogen.transport.connection import Connection
    from pmitogen.transport.forwarding.local import LocalForwarding
    from pmitogen.transport.forwarding.remote import RemoteForwarding

End = int | tuple[str, int] | str | os.PathLike[str]
LOOPBACK = "127.0.0.1"


class Forwarding:
    """A forwarded port or socket. Close it, or use it in ``with`` (or ``async with``). Any thread may use it."""

    def __init__(self, account: Account, forwarding: LocalForwarding | RemoteForwarding) -> None:
        self._account = account  # so that the connection lives as long as this
        self._forwarding = forwarding

    def __repr__(self) -> str:
        return f"<pmitogen.Forwarding on {self.address if isinstance(self.address, str) else '%s port %d' % self.address}>"

    @property
    def address(self) -> tuple[str, int] | str:
        """The address that it listens on, with the port that was chosen: (host, port), or the path of the Unix socket."""
        address: Address = self._forwarding.address
        return (address.host, address.port) if isinstance(address, TCPAddress) else address.path

    @property
    def port(self) -> int:
        """The port on which it listens. Raises AttributeError for a Unix socket."""
        address: Address = self._forwarding.address
        if not isinstance(address, TCPAddress):
            raise AttributeError("a Unix socket has no port")
        return address.port

    def close(self) -> None:
        """Listen no longer, and end the connections. Idempotent. For a port or socket of the host, blocks for its answer."""
        if not self._account.core.in_forked_process:  # there, the sockets are the parent's as well
            self._forwarding.close()

    def __enter__(self) -> Forwarding:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Forwarding:
        return self

    async def __aexit__(self, *_: object) -> None:
        import asyncio  # the program that comes here has it already

        await asyncio.to_thread(self.close)


def end(value: End, label: str, minimum: int = 1) -> Address:
    """Return an end of a forwarding; *minimum*: 0 where any free port may be meant. Raises TypeError, UsageError."""
    if isinstance(value, (str, os.PathLike)):
        path = arguments.text(os.fspath(value), label)
        if isinstance(value, str) and "/" not in path:
            raise UsageError(f"{label}: {path!r}: use a number for a port, a (host, port) pair, or a path that has a '/'")
        return UnixPath(path)
    if isinstance(value, int) and not isinstance(value, bool):
        return TCPAddress(LOOPBACK, arguments.integer(value, label, minimum, 65535))
    pair = cast("object", value)
    if not isinstance(pair, tuple) or len(pair) != 2:
        arguments.wrong(label, "a port, a (host, port) pair or the path of a Unix socket", value)
    host = pair[0]
    if not isinstance(host, str):
        arguments.wrong(f"{label}: host", "str", host)
    return TCPAddress(host, arguments.integer(pair[1], f"{label}: port", minimum, 65535))


async def start(
    account: Account, runtime: Runtime, make: Callable[[Connection], LocalForwarding | RemoteForwarding]
) -> Forwarding:
    """Make a forwarding on the connection of *account*. If there is no connection, it is made first."""
    await account.ping(runtime)
    registry = account.core.registry
    login = await account.core.on_io_thread(runtime, account, lambda: registry.host(account.options, account.caller).login)
    connection = login.connection if login is not None else None
    if connection is None:
        raise ConnectionLost(f"{account}: the connection has ended")
    try:
        return Forwarding(account, await runtime.blocking(make, connection))
    except OSError as error:
        raise ConnectError(f"{account}: {error.strerror or error}", "local") from None


async def local(account: Account, runtime: Runtime, target: End, listen: End) -> Forwarding:
    """ssh's ``-L``."""
    from pmitogen.transport.forwarding.local import LocalForwarding

    target_end, listen_end = end(target, "forward_local: target"), end(listen, "forward_local: listen", 0)
    return await start(account, runtime, lambda connection: LocalForwarding(connection, listen_end, target_end))


async def remote(account: Account, runtime: Runtime, target: End, listen: End) -> Forwarding:
    """ssh's ``-R``."""
    from pmitogen.transport.forwarding.remote import RemoteForwarding

    target_end, listen_end = end(target, "forward_remote: target"), end(listen, "forward_remote: listen", 0)
    return await start(account, runtime, lambda connection: RemoteForwarding(connection, listen_end, target_end))


async def socks(account: Account, runtime: Runtime, listen: End) -> Forwarding:
    """ssh's ``-D``."""
    from pmitogen.transport.forwarding.local import LocalForwarding

    listen_end = end(listen, "forward_socks: listen", 0)
    return await start(account, runtime, lambda connection: LocalForwarding(connection, listen_end, None))
