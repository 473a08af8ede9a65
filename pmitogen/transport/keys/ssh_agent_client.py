"""A client of the ssh-agent protocol: bind the agent to a connection, list its keys, sign with one.

Missing upstream (Paramiko 5.1, ``Agent``): only $SSH_AUTH_SOCK, no time limit, so a hung agent hangs the play; an RSA
certificate in the agent is offered as its plain key and refused; security keys appear only by name; the connection is never
bound. Upstream is fixed when ``Agent`` takes a socket path and a key that ``ssh-add -h`` restricts to a host logs in there.

One socket, used from one thread. Source: RFC 9987 (RFC 4251 data types); OpenSSH PROTOCOL.agent for the binding.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Callable
from typing import NamedTuple

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from pmitogen.transport.keys import public_key
from pmitogen.transport.keys.wire import DecodeError, PacketReader, encode_string
from pmitogen.util.streams import read_exactly

# A forwarded agent may be slow, but a stopped one must not stall the login.
LIST_TIMEOUT = 10.0  # seconds to connect, and to list
MAX_MESSAGE = 256 * 1024  # bytes, OpenSSH's own limit
FAILURE, SUCCESS, EXTENSION_FAILURE = 5, 6, 28
REQUEST_IDENTITIES, IDENTITIES_ANSWER, SIGN_REQUEST, SIGN_RESPONSE, EXTENSION = 11, 12, 13, 14, 27
SESSION_BIND = "session-bind@openssh.com"
_FLAGS = {"rsa-sha2-256": 2, "rsa-sha2-512": 4}


class AgentError(Exception):
    """The agent is absent, does not answer, or refuses. The message is for the user."""


class SessionBinding(NamedTuple):
    """Proof for an agent of the SSH connection that uses it: the server signed *session_id* with *host_key*.

    *host_key*: the blob as the server sent it, which may be a certificate's. *signature*: of the first key exchange.
    """

    host_key: bytes
    session_id: bytes
    signature: bytes


class AgentKey(NamedTuple):
    """One key of an agent; *blob* may be a certificate's."""

    blob: bytes
    comment: str

    @property
    def name(self) -> str:
        """The key type."""
        return public_key.blob_type(self.blob)


class SSHAgentClient:
    """A connection to the agent at *path*.

    Raises :class:`AgentError` throughout; close it when done (it is a context manager).
    """

    def __init__(self, path: str, timeout: float = LIST_TIMEOUT) -> None:
        self.path = path
        self._timeout = timeout
        self._interrupted = False
        self._socket = self._connect()

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(self._timeout)
        try:
            connection.connect(self.path)
        except OSError as error:
            connection.close()
            raise AgentError(f"agent {self.path}: cannot connect: {error.strerror or 'no answer'}") from error
        return connection

    def __enter__(self) -> SSHAgentClient:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket. Idempotent."""
        self._socket.close()

    def bind(self, binding: SessionBinding, *, forwarding: bool) -> bool:
        """Bind the agent to an SSH connection (session-bind); return False if the agent does not support that.

        A bound agent signs with a key only for its permitted destinations, and loads no providers for the other side of a
        forwarded connection. Raises AgentError, also if the agent refuses the binding: do not use it on that connection.
        """
        answer = self._bind(binding, forwarding)
        if answer == SUCCESS:
            return True
        # OpenSSH before 10.3 answers FAILURE if it refuses a binding, as any agent does to an unknown message.
        if answer == FAILURE and not self._binds_at_all():
            return False
        raise AgentError(f"agent {self.path}: refused to be bound to this connection, so it is not used")

    def _bind(self, binding: SessionBinding, forwarding: bool) -> int:
        fields = (
            encode_string(SESSION_BIND)
            + encode_string(binding.host_key)
            + encode_string(binding.session_id)
            + encode_string(binding.signature)
        )
        return self._ask(bytes([EXTENSION]) + fields + bytes([forwarding]), self._timeout)[0]

    def _binds_at_all(self) -> bool:
        """Return True if the agent accepts a valid test binding. Reconnects, so that nothing is bound afterwards."""
        key = ed25519.Ed25519PrivateKey.generate()
        public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        name, session_id = encode_string("ssh-ed25519"), os.urandom(32)
        self._reconnect()  # close the old one first: a simple agent serves one connection at a time
        accepted = self._bind(
            SessionBinding(name + encode_string(public), session_id, name + encode_string(key.sign(session_id))), False
        )
        self._reconnect()
        return accepted == SUCCESS

    def _reconnect(self) -> None:
        self._socket.close()
        self._socket = self._connect()
        if self._interrupted:
            self._socket.close()

    def keys(self) -> list[AgentKey]:
        """Return the agent's keys in its order, without those whose blob is invalid. Raises AgentError."""
        kind, reader = self._ask(bytes([REQUEST_IDENTITIES]), self._timeout)
        if kind != IDENTITIES_ANSWER:
            raise AgentError(f"agent {self.path}: cannot list the keys (answer {kind})")
        agent_keys = []
        try:
            for _ in range(reader.u32()):
                blob, comment = reader.string(), reader.string().decode("utf-8", "replace")
                agent_keys.append(AgentKey(blob, comment))
        except DecodeError as error:
            raise AgentError(f"agent {self.path}: invalid list of keys: {error}") from error
        return [key for key in agent_keys if _has_type(key.blob)]

    def sign(self, blob: bytes, data: bytes, algorithm: str, timeout: float) -> bytes:
        """Return a signature blob over *data* by the key *blob*. Raises AgentError.

        *timeout*: seconds, long enough for a user to confirm, or to touch a token.
        """
        plain = public_key.plain_name(algorithm)
        flags = struct.pack(">I", _FLAGS.get(plain, 0))
        kind, reader = self._ask(bytes([SIGN_REQUEST]) + encode_string(blob) + encode_string(data) + flags, timeout)
        if kind != SIGN_RESPONSE:
            raise AgentError("agent refused operation: not confirmed, or locked")
        try:
            signature = reader.string()
            used = PacketReader(signature).text()
        except DecodeError as error:
            raise AgentError(f"invalid signature from the agent: {error}") from error
        if used != plain:
            raise AgentError(f"the agent signed with {used} instead of {plain}; update the agent")
        return signature

    def exchange(self, request: bytes, timeout: float) -> bytes:
        """Send one message, without its length, and return the answer; wait *timeout* seconds. Raises AgentError."""
        end = time.monotonic() + timeout
        try:
            self._socket.settimeout(max(0.1, timeout))
            self._socket.sendall(encode_string(request))
            return read_message(lambda count: self._receive(count, end))
        except EOFError:
            raise AgentError(f"agent {self.path}: closed the connection") from None
        except DecodeError as error:
            raise AgentError(f"agent {self.path}: not an SSH agent: {error}") from None
        except OSError as error:
            reason = "no answer within the timeout" if isinstance(error, TimeoutError) else error.strerror or str(error)
            raise AgentError(f"agent {self.path}: {reason}") from error

    def interrupt(self) -> None:
        """Make an :meth:`exchange` on another thread end now. Any thread; idempotent."""
        self._interrupted = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _ask(self, request: bytes, timeout: float) -> tuple[int, PacketReader]:
        answer = self.exchange(request, timeout)
        return answer[0], PacketReader(answer[1:])

    def _receive(self, count: int, end: float) -> bytes:
        self._socket.settimeout(max(0.01, end - time.monotonic()))
        return self._socket.recv(count)


def read_message(receive: Callable[[int], bytes]) -> bytes:
    """Read one message of the agent protocol; return it without its length. Blocks as *receive* does.

    *receive*: returns at most that many bytes, and ``b""`` at the end of the stream, as ``socket.recv`` does.
    Raises EOFError at the end of the stream, DecodeError if the message is empty or too long.
    """
    size = int.from_bytes(read_exactly(receive, 4), "big")
    if not 0 < size <= MAX_MESSAGE:
        raise DecodeError(f"invalid message length {size}")
    return read_exactly(receive, size)


def _has_type(blob: bytes) -> bool:
    try:
        return bool(public_key.blob_type(blob))
    except DecodeError:
        return False
