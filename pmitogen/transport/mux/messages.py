"""Messages between a client and a master, and the socket that carries them. Source: PROTOCOL.mux of OpenSSH 10.5.

Both ends are programs of one user: each end checks that the other runs under its own account, and limits the size of messages.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from types import TracebackType

from pmitogen.flags.ssh.settings import Settings
from pmitogen.flags.ssh.values.forwards import Forward
from pmitogen.transport.connection_identity import fingerprint
from pmitogen.transport.keys.wire import DecodeError, PacketReader, encode_string, encode_u32
from pmitogen.util import processes

VERSION = 4
MAX_MESSAGE = 256 << 10  # bytes
HELLO = 0x00000001
NEW_SESSION, ALIVE_CHECK, TERMINATE, NEW_STDIO_FORWARD = 0x10000002, 0x10000004, 0x10000005, 0x10000008
OPEN_FORWARD, CLOSE_FORWARD, STOP_LISTENING = 0x10000006, 0x10000007, 0x10000009
OK, PERMISSION_DENIED, FAILURE, EXIT, ALIVE = 0x80000001, 0x80000002, 0x80000003, 0x80000004, 0x80000005
SESSION_OPENED, REMOTE_PORT, TTY_FAILED = 0x80000006, 0x80000007, 0x80000008
LOCAL, REMOTE, DYNAMIC = 1, 2, 3  # kinds of forwardings
SOCKET_PATH = 0xFFFFFFFE  # in place of a port: the host is the path of a socket
MAX_PORT = 65535
# An extension of the hello message: a digest of the options of the connection. OpenSSH's programs ignore it.
OPTIONS_EXTENSION = "options@pmitogen"


class MuxError(Exception):
    """The other end broke the protocol, ended, or is another user's."""


class MuxSocket:
    """A connection between client and master. One thread at a time reads; close it (``with``)."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def __enter__(self) -> MuxSocket:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the descriptor, for select."""
        return self._sock.fileno()

    def close(self) -> None:
        """Close it. Idempotent; any thread; a read on another thread ends."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def check_peer(self) -> None:
        """Raise MuxError unless the other end runs under this account or root."""
        uid = processes.peer_uid(self._sock)
        if uid not in (None, os.geteuid(), 0):
            raise MuxError(f"another user (uid {uid}) listens there")

    def send(self, kind: int, *fields: bytes) -> None:
        """Send a message. Raises MuxError."""
        payload = encode_u32(kind) + b"".join(fields)
        try:
            self._sock.sendall(encode_u32(len(payload)) + payload)
        except OSError as error:
            raise MuxError(error.strerror or str(error)) from None

    def receive(self) -> tuple[int, PacketReader]:
        """Return the kind of the next message and its fields. Raises MuxError, also at the end of the connection."""
        length = int.from_bytes(self._exactly(4), "big")
        if not 4 <= length <= MAX_MESSAGE:
            raise MuxError(f"invalid message length {length}")
        fields = PacketReader(self._exactly(length))
        return fields.u32(), fields

    def send_descriptor(self, descriptor: int) -> None:
        """Send one file descriptor. Raises MuxError."""
        try:
            socket.send_fds(self._sock, [b"\0"], [descriptor])
        except OSError as error:
            raise MuxError(error.strerror or str(error)) from None

    def receive_descriptor(self) -> int:
        """Receive one file descriptor. Raises MuxError."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self._sock, 1, 1)
        except OSError as error:
            raise MuxError(error.strerror or str(error)) from None
        if not data or len(descriptors) != 1:
            for descriptor in descriptors:
                os.close(descriptor)
            raise MuxError("message without its file descriptor")
        os.set_inheritable(descriptors[0], False)
        return descriptors[0]

    def settimeout(self, seconds: float | None) -> None:
        """Limit the time of each read and write. None: no limit."""
        self._sock.settimeout(seconds)

    def send_hello(self, digest: str) -> None:
        """Send the hello message. *digest*: of the connection's options. Raises MuxError."""
        self.send(HELLO, encode_u32(VERSION), encode_string(OPTIONS_EXTENSION), encode_string(digest))

    def receive_hello(self) -> str | None:
        """Return the other end's digest of its options, None if it sends none. Raises MuxError, DecodeError."""
        kind, fields = self.receive()
        if kind != HELLO or fields.u32() != VERSION:
            raise MuxError("unsupported protocol version")
        while fields.left:
            name, value = fields.string(), fields.string()
            if name == OPTIONS_EXTENSION.encode():
                return value.decode("ascii", "replace")
        return None

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            try:
                piece = self._sock.recv(count - len(data))
            except OSError as error:
                raise MuxError(error.strerror or str(error)) from None
            if not piece:
                raise MuxError("the connection ended")
            data += piece
        return bytes(data)


def digest(settings: Settings) -> str:
    """Return a digest that is equal for settings that make the same connection, in any process."""
    return hashlib.sha256(fingerprint(settings).encode("utf-8", "surrogatepass")).hexdigest()


def digest_for_hubs(settings: Settings) -> str:
    """Return the :func:`digest` for connections of hubs: Ansible adds options of its own, so fewer options have to be equal.

    The groups and namespaces of this process count as well: a file or an address means another one in another namespace.
    """
    text = repr([fingerprint(settings, of_hubs=True), processes.groups_and_namespaces()])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def encode_forward(kind: int, forward: Forward) -> bytes:
    """Encode the fields of OPEN_FORWARD and CLOSE_FORWARD. *kind*: LOCAL, REMOTE or DYNAMIC."""
    listen_host = "" if forward.listen_host is None else forward.listen_host or "*"
    return (
        encode_u32(kind)
        + _encode_end(forward.listen_path, listen_host, forward.listen_port)
        + _encode_end(forward.connect_path, forward.connect_host or "", forward.connect_port)
    )


def _encode_end(path: str | None, host: str, port: int) -> bytes:
    return encode_string(host) + encode_u32(port) if path is None else encode_string(path) + encode_u32(SOCKET_PATH)


def read_forward(fields: PacketReader) -> tuple[int, Forward]:
    """Read the fields that :func:`encode_forward` encodes. Raises DecodeError."""
    kind = fields.u32()
    listen_path, listen_host, listen_port = _read_end(fields)
    connect_path, connect_host, connect_port = _read_end(fields)
    if kind == DYNAMIC:
        connect_host, connect_port = "socks", 0
    is_complete = bool(connect_path or connect_host) and (listen_path is None or bool(listen_path))
    if kind not in (LOCAL, REMOTE, DYNAMIC) or not is_complete:
        raise DecodeError("invalid forwarding")
    return kind, Forward(listen_host or None, listen_port, listen_path, connect_host or None, connect_port, connect_path)


def _read_end(fields: PacketReader) -> tuple[str | None, str | None, int]:
    text, port = fields.text(), fields.u32()
    if port == SOCKET_PATH:
        return text, None, 0
    if port > MAX_PORT:
        raise DecodeError("invalid port")
    return None, text, port
