"""A client of the ssh-agent protocol: which keys it holds, and a signature by one of them.

Missing upstream (Paramiko 5.1, ``Agent``): only $SSH_AUTH_SOCK, no time limit, so a hung agent hangs the play; an RSA
certificate in the agent is offered as its plain key and refused; security keys appear only by name. Upstream is mended when
``Agent`` takes a socket path and an RSA certificate from an agent logs in.

One socket, used from one thread. Source: draft-ietf-sshm-ssh-agent (RFC 4251 data types), sections 3 and 4.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import NamedTuple

from pmitogen.transport.keys import public_key
from pmitogen.transport.keys.wire import Malformed, Reader, string

# A forwarded agent may be slow, a dead one must not stall the login.
LIST_TIMEOUT = 10.0  # seconds to connect, and to list
MAX_MESSAGE = 256 * 1024  # bytes, OpenSSH's own limit
_FAILURE, _REQUEST_IDENTITIES, _IDENTITIES_ANSWER, _SIGN_REQUEST, _SIGN_RESPONSE = 5, 11, 12, 13, 14
_FLAGS = {"rsa-sha2-256": 2, "rsa-sha2-512": 4}


class AgentError(Exception):
    """The agent is absent, silent, or refuses; the message is for the user."""


class AgentKey(NamedTuple):
    """One key of an agent; *blob* may be a certificate's."""

    blob: bytes
    comment: str

    @property
    def name(self) -> str:
        """The key type."""
        return public_key.blob_type(self.blob)


class Agent:
    """A connection to the agent at *path*.

    Raises :class:`AgentError` throughout; close it when done (it is a context manager).
    """

    def __init__(self, path: str, timeout: float = LIST_TIMEOUT) -> None:
        self.path = path
        self._timeout = timeout
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(path)
        except OSError as error:
            self._socket.close()
            raise AgentError(f"agent {path}: cannot connect: {error.strerror or 'no answer'}") from error

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; twice does no harm."""
        self._socket.close()

    def keys(self) -> list[AgentKey]:
        """What it holds, in its own order. A key with a broken blob is left out."""
        kind, reader = self._ask(bytes([_REQUEST_IDENTITIES]), self._timeout)
        if kind != _IDENTITIES_ANSWER:
            raise AgentError(f"agent {self.path}: it does not list its keys (answer {kind})")
        found = []
        try:
            for _ in range(reader.u32()):
                blob, comment = reader.string(), reader.string().decode("utf-8", "replace")
                found.append(AgentKey(blob, comment))
        except Malformed as error:
            raise AgentError(f"agent {self.path}: its list of keys is broken: {error}") from error
        return [key for key in found if _has_type(key.blob)]

    def sign(self, blob: bytes, data: bytes, algorithm: str, timeout: float) -> bytes:
        """A signature blob over *data* by the key *blob*.

        Waits *timeout* seconds: somebody may have to confirm, or to touch a token.
        """
        plain = public_key.plain_name(algorithm)
        flags = struct.pack(">I", _FLAGS.get(plain, 0))
        kind, reader = self._ask(bytes([_SIGN_REQUEST]) + string(blob) + string(data) + flags, timeout)
        if kind != _SIGN_RESPONSE:
            raise AgentError("the agent refused to sign (not confirmed, or locked)")
        try:
            signature = reader.string()
            used = Reader(signature).text()
        except Malformed as error:
            raise AgentError(f"the agent's signature is broken: {error}") from error
        if used != plain:
            raise AgentError(f"the agent signed with {used}, not with {plain}: a newer agent is needed")
        return signature

    def _ask(self, request: bytes, timeout: float) -> tuple[int, Reader]:
        end = time.monotonic() + timeout
        try:
            self._socket.settimeout(max(0.1, timeout))
            self._socket.sendall(string(request))
            size = int.from_bytes(self._receive(4, end), "big")
            if not 0 < size <= MAX_MESSAGE:
                raise AgentError(f"agent {self.path}: it does not speak the agent protocol")
            answer = self._receive(size, end)
        except OSError as error:
            word = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or str(error)
            raise AgentError(f"agent {self.path}: {word}") from error
        return answer[0], Reader(answer[1:])

    def _receive(self, count: int, end: float) -> bytes:
        data = b""
        while len(data) < count:
            self._socket.settimeout(max(0.01, end - time.monotonic()))
            piece = self._socket.recv(count - len(data))
            if not piece:
                raise AgentError(f"agent {self.path}: it closed the connection")
            data += piece
        return data


def _has_type(blob: bytes) -> bool:
    try:
        return bool(public_key.blob_type(blob))
    except Malformed:
        return False
