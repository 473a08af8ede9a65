"""Forward ports and sockets of the server: each connection to them ends here (ssh's -R; RFC 4254 section 7.1).

Channels of the server are accepted only for requested addresses.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import paramiko

from pmitogen.errors import ConnectError, Error
from pmitogen.transport.forwarding import address, socks
from pmitogen.transport.forwarding.address import Address, TCPAddress, UnixPath
from pmitogen.transport.forwarding.relay import WINDOW, OpenSockets, relay
from pmitogen.transport.keys.wire import DecodeError, PacketReader, encode_string
from pmitogen.transport.paramiko_ext.incoming_channels import NotInvited, Serve
from pmitogen.util import threads
from pmitogen.util.streams import read_exactly

if TYPE_CHECKING:
    from typing_extensions import Self

    from pmitogen.transport.connection import Connection
    from pmitogen.transport.paramiko_ext.channel import Channel
    from pmitogen.transport.paramiko_ext.transport import ClientTransport

LOG = logging.getLogger("pmitogen.transport")
MAX_CONNECTIONS = 512  # at once, of one forwarding
CONNECT_TIMEOUT = 30.0  # seconds for a connection here
REQUEST_TIMEOUT = 60.0  # seconds for the server's answer
TCP_KIND, UNIX_KIND = b"forwarded-tcpip", b"forwarded-streamlocal@openssh.com"


class RemoteForwardings:
    """The forwarded ports and sockets of one connection. Any thread."""

    def __init__(self, transport: ClientTransport) -> None:
        self._lock = threading.Lock()
        self._by_address: dict[Address, RemoteForwarding] = {}
        transport.channel_acceptors[TCP_KIND] = _Acceptor(self, _read_tcp)
        transport.channel_acceptors[UNIX_KIND] = _Acceptor(self, _read_unix)

    def add(self, forwarding: RemoteForwarding, listen: Address) -> None:
        """Accept channels for *listen*."""
        with self._lock:
            self._by_address[listen] = forwarding

    def remove(self, forwarding: RemoteForwarding) -> None:
        """Accept no further channels for *forwarding*."""
        with self._lock:
            for listen in [each for each, holder in self._by_address.items() if holder is forwarding]:
                del self._by_address[listen]

    def find(self, listen: Address) -> RemoteForwarding | None:
        """Return the forwarding of *listen*. OpenSSH may name another address than the request; then the port alone decides."""
        with self._lock:
            forwarding = self._by_address.get(listen)
            if forwarding is None and isinstance(listen, TCPAddress):
                same = [each for each in self._by_address if isinstance(each, TCPAddress) and each.port == listen.port]
                forwarding = self._by_address[same[0]] if len(same) == 1 else None
            return forwarding


def _read_tcp(reader: PacketReader) -> Address:
    return TCPAddress(reader.text(), reader.u32())


def _read_unix(reader: PacketReader) -> Address:
    return UnixPath(reader.text())


class _Acceptor:
    window = WINDOW

    def __init__(self, forwardings: RemoteForwardings, read: Callable[[PacketReader], Address]) -> None:
        self._forwardings = forwardings
        self._read = read

    def admit(self, reader: PacketReader) -> Serve | None:
        """Implement :class:`~pmitogen.transport.paramiko_ext.incoming_channels.ChannelAcceptor`."""
        forwarding = self._forwardings.find(self._read(reader))
        if forwarding is None:
            raise NotInvited
        return forwarding.serve if forwarding.open_sockets.reserve() else None


class RemoteForwarding:
    """A listener of the server whose connections are made here. Close it (``with``), or the connection that it belongs to.

    *target*: the local address to connect to; None: the program on the server names it, in SOCKS.
    *permits*: returns whether it may name an address.
    Raises ConnectError (stage ``exec``) if the server refuses, ConnectionLost. Blocks for the server's answer. Any thread.
    """

    def __init__(
        self,
        connection: Connection,
        listen: Address,
        target: Address | None,
        permits: Callable[[TCPAddress], bool] = lambda address: True,
    ) -> None:
        self._connection = connection
        self._target = target
        self._permits = permits
        self.open_sockets = OpenSockets(MAX_CONNECTIONS)
        self._closed = threading.Event()
        self._forwardings = connection.remote_forwardings()
        if not (isinstance(listen, TCPAddress) and listen.port == 0):  # a connection may come before the answer
            self._forwardings.add(self, listen)
        try:
            answer = self._request("", listen)
            if isinstance(listen, TCPAddress) and listen.port == 0:
                listen = TCPAddress(listen.host, PacketReader(answer).u32())
                self._forwardings.add(self, listen)
        except DecodeError:
            raise ConnectError(f"{connection.peer}: the server does not say which port it has opened", "exec") from None
        except BaseException:
            self._forwardings.remove(self)
            raise
        self.address = listen
        connection.at_end(self.open_sockets.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _request(self, prefix: str, address: Address) -> bytes:
        """Ask the server to listen on *address*, or, with the *prefix* ``cancel-``, to stop. Returns the data of its answer."""
        if isinstance(address, TCPAddress):
            kind, fields = "tcpip-forward", encode_string(address.host) + address.port.to_bytes(4, "big")
        else:
            kind, fields = "streamlocal-forward@openssh.com", encode_string(address.path)
        answer = self._connection.global_request(prefix + kind, fields, timeout=REQUEST_TIMEOUT)
        if answer is None:
            raise ConnectError(f"{self._connection.peer}: remote port forwarding failed for listen {address}", "exec")
        return answer

    def serve(self, channel: Channel) -> None:
        """Connect *channel*, which was admitted, on a thread of its own. Transport thread."""
        try:
            threads.start(self._serve, "forwarding", channel)
        except ConnectError:
            self.open_sockets.release()
            channel.close()

    def _serve(self, channel: Channel) -> None:
        try:
            self._connect(channel)
        except (OSError, EOFError, socks.NotSOCKS, DecodeError, paramiko.SSHException) as error:
            LOG.info("%s: forwarding from the server's %s: %s", self._connection.peer, self.address, error)
        finally:
            channel.close()
            self.open_sockets.release()

    def _connect(self, channel: Channel) -> None:
        target, request = self._target, None
        if target is None:
            request = socks.read_request(functools.partial(read_exactly, channel.recv), channel.sendall)
            target = request.address
        try:
            if request is not None and not self._permits(request.address):
                raise PermissionError(errno.EACCES, f"{request.address} is not permitted")
            sock = address.connect(target, CONNECT_TIMEOUT)
        except OSError:
            if request is not None:
                request.reply(False)
            raise
        with self.open_sockets.holding(sock):
            if request is not None:
                request.reply(True)
            relay(channel, sock, self.open_sockets)

    def close(self) -> None:
        """Ask the server to stop listening, and close the connections. Idempotent. Blocks for the server's answer."""
        self._forwardings.remove(self)
        self.open_sockets.close()
        self.stop_listening()

    def stop_listening(self) -> None:
        """Ask the server to stop listening; connections that are open go on. Idempotent. Blocks for the server's answer."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._forwardings.remove(self)
        with contextlib.suppress(Error):
            self._request("cancel-", self.address)
