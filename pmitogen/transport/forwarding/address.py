"""Ends of a forwarding: a TCP address or the path of a Unix socket."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from typing import NamedTuple

from pmitogen.util.host_names import invalid_names_as_unknown

BACKLOG = 128


class TCPAddress(NamedTuple):
    """A host name or address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host or '*'} port {self.port}"


class UnixPath(NamedTuple):
    """The path of a Unix socket."""

    path: str

    def __str__(self) -> str:
        return self.path


Address = TCPAddress | UnixPath


def connect(address: Address, timeout: float) -> socket.socket:
    """Connect to a local *address*. Raises OSError."""
    if isinstance(address, TCPAddress):
        with invalid_names_as_unknown():
            sock = socket.create_connection((address.host or "localhost", address.port), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    else:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(timeout)
            sock.connect(address.path)
        except BaseException:
            sock.close()
            raise
    sock.settimeout(None)
    return sock


def listen(address: Address, *, bind_mask: int = 0o177, unlink: bool = False) -> list[socket.socket]:
    """Listen on *address*: on each address of the host name, and for "" or "*" on all interfaces.

    *bind_mask*: StreamLocalBindMask; *unlink*: StreamLocalBindUnlink, remove a socket that is in the way.
    Raises OSError if none of them can be listened on.
    """
    if isinstance(address, UnixPath):
        return [_listen_unix(address.path, bind_mask, unlink)]
    host = None if address.host in ("", "*") else address.host
    with invalid_names_as_unknown():
        addresses = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    port = address.port
    for family, kind, protocol, _, socket_address in dict.fromkeys(addresses):
        try:
            sockets.append(_listen_tcp(family, kind, protocol, (socket_address[0], port, *socket_address[2:])))
            port = sockets[0].getsockname()[1]  # the same on every address, where the system chose it
        except OSError as error:
            failure = error
    if not sockets:
        raise failure or OSError("no address")
    return sockets


def _listen_tcp(family: int, kind: int, protocol: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _listen_unix(path: str, bind_mask: int, unlink: bool) -> socket.socket:
    if unlink:
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                os.unlink(path)
    sock = socket.socket(socket.AF_UNIX)
    try:
        os.fchmod(sock.fileno(), 0o666 & ~bind_mask)  # what bind() makes the file with; the process's umask stays
        sock.bind(path)
        os.chmod(path, 0o666 & ~bind_mask)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
