"""Agent forwarding: the target's programs use the agent that runs here, for signatures and nothing else.

For each program that opens the forwarded socket, the server opens an ``auth-agent@openssh.com`` channel to us. The agent protocol
is strictly question and answer, each with its length in front (RFC 9987), so one thread per channel carries a question to the
agent and its answer back, and sleeps in between.

The target is not trusted with the agent beyond that (CVE-2023-38408). Three protections, each sufficient for its part:

* The agent's connection is bound to ours (OpenSSH PROTOCOL.agent, session-bind), so that ssh-agent knows that the questions are a
  remote host's: it loads no provider for it, and lets keys be used for their permitted destinations only.
* Only the messages of ALLOWED pass; the others are answered with "failure" and never reach the agent, whatever agent it is.
* Channels, their windows, messages and rates are bounded.

Missing upstream: ``AgentRequestHandler`` does none of that, reads 512 bytes at a time, waits half a second in ``select`` and then
sleeps, takes the agent's path from the environment only, and joins its threads from a destructor.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import paramiko

from pmitogen.errors import ConnectError
from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.keys.agent_client import (
    EXTENSION,
    FAILURE,
    MAX_MESSAGE,
    REQUEST_IDENTITIES,
    SESSION_BIND,
    SIGN_REQUEST,
    AgentError,
    SessionBinding,
    SSHAgentClient,
)
from pmitogen.transport.keys.wire import DecodeError, PacketReader, encode_string
from pmitogen.util import threads
from pmitogen.util.token_bucket import TokenBucket

if TYPE_CHECKING:
    from pmitogen.transport.paramiko_ext.channel import Channel
    from pmitogen.transport.paramiko_ext.incoming_channels import Serve
    from pmitogen.transport.paramiko_ext.transport import ClientTransport

LOG = logging.getLogger("pmitogen.transport")
CHANNEL_KIND = b"auth-agent@openssh.com"
WINDOW = 64 << 10  # bytes; messages are small, and a target may open several channels
MAX_CHANNELS = 16  # at once on one connection; a program holds one while it logs in somewhere
OPENS_PER_SECOND, MAX_OPENS_AT_ONCE = 20, 100  # beyond that they are refused: each costs us and the agent a connection
QUESTIONS_PER_SECOND, MAX_QUESTIONS_AT_ONCE = 300, 600  # of all channels together; beyond that each waits
ANSWER_TIMEOUT = 60.0  # seconds for one answer: a key may wait for its owner's touch

ALLOWED = {
    REQUEST_IDENTITIES: "public keys are no secret, and a program must know what to offer",
    SIGN_REQUEST: "the purpose of forwarding",
    EXTENSION: "those of ALLOWED_EXTENSIONS",
}
ALLOWED_EXTENSIONS = {
    SESSION_BIND: "an ssh on the target binds its own connections, for keys that may go further only to named hosts",
    "query": "lists the names of the agent's extensions",
}
REFUSED = {
    17: "add a key: the user would use a key that the target knows",
    25: "add a constrained key: as for adding a key; its constraint may also name a provider, a library to load",
    18: "remove a key: the user's other logins would fail",
    19: "remove all keys: the user's other logins would fail",
    20: "add a PKCS#11 provider: the agent would load a library that the target names (CVE-2023-38408)",
    26: "add a constrained PKCS#11 provider: as without constraints",
    21: "remove a PKCS#11 provider: the user's other logins would fail",
    22: "lock: the user's other logins would fail",
    23: "unlock: the target would try passphrases",
    # 1 to 9 and 24 are SSH protocol 1's; whatever else comes is not known, and refused as well.
}


def socket_path(settings: Settings) -> str | None:
    """The agent that ForwardAgent means: the one it names, else the one that we use ourselves."""
    return settings.forwardagent_socket or settings.identityagent


def refusal_reason(message: bytes) -> str | None:
    """Why *message* (without its length) does not reach the agent; None: it does."""
    kind = message[0]
    if kind not in ALLOWED:
        return REFUSED.get(kind, f"unknown message {kind}")
    if kind != EXTENSION:
        return None
    try:
        name = PacketReader(message[1:]).text()
    except DecodeError:
        return "malformed extension"
    return None if name in ALLOWED_EXTENSIONS else "unknown extension"


class AgentForwarder:
    """Answers the agent channels of one connection from the agent at *path*. *peer* names the connection in the log."""

    def __init__(self, transport: ClientTransport, path: str, binding: SessionBinding, peer: str) -> None:
        self._path, self._binding, self._peer = path, binding, peer
        self._lock = threading.Lock()
        self._channels = 0  # admitted, and not yet over
        self._agents: set[SSHAgentClient] = set()
        self._closed = threading.Event()
        self._opens = TokenBucket(OPENS_PER_SECOND, MAX_OPENS_AT_ONCE, time.monotonic())
        self._questions = TokenBucket(QUESTIONS_PER_SECOND, MAX_QUESTIONS_AT_ONCE, time.monotonic())
        self._logged: set[str] = set()
        transport.channel_acceptors[CHANNEL_KIND] = self

    window = WINDOW

    def admit(self, reader: PacketReader) -> Serve | None:
        """What serves one more channel; None: there are too many. It counts until that is done (transport thread)."""
        with self._lock:
            has_room = self._channels < MAX_CHANNELS and not self._closed.is_set()
            admitted = has_room and self._opens.allows(time.monotonic())
            self._channels += admitted
        if not admitted:
            self._log(f"more than {MAX_CHANNELS} connections to the agent at once, or {OPENS_PER_SECOND} a second: refused")
        return self._start if admitted else None

    def _start(self, channel: Channel) -> None:
        """Answer *channel*, which was admitted, on a thread of its own (transport thread)."""
        try:
            threads.start(self._serve, "agent forwarding", channel)
        except ConnectError:  # this channel's loss; on the transport thread an error would end the connection
            self._release()
            channel.close()

    def _release(self) -> None:
        with self._lock:
            self._channels -= 1

    def _serve(self, channel: Channel) -> None:
        try:
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException), SSHAgentClient(self._path) as agent:
                with self._registered(agent):
                    agent.bind(self._binding, forwarding=True)
                    self._relay(channel, agent)
        except AgentError as error:
            self._log(str(error))
        finally:
            self._release()
            channel.close()

    @contextlib.contextmanager
    def _registered(self, agent: SSHAgentClient) -> Iterator[None]:
        """Have :meth:`close` interrupt *agent*."""
        with self._lock:
            if self._closed.is_set():
                raise EOFError
            self._agents.add(agent)
        try:
            yield
        finally:
            with self._lock:
                self._agents.discard(agent)

    def _relay(self, channel: Channel, agent: SSHAgentClient) -> None:
        while not self._closed.is_set():
            question = _read_message(channel)
            with self._lock:
                wait = self._questions.take(time.monotonic())
            if wait and self._closed.wait(wait):
                return
            reason = refusal_reason(question)
            if reason is not None:
                self._log(f"refused to pass on to the agent: {reason}")
            answer = agent.exchange(question, ANSWER_TIMEOUT) if reason is None else bytes([FAILURE])
            channel.sendall(encode_string(answer))

    def _log(self, text: str) -> None:
        """Log *text*, once for each connection: the target decides how often it happens."""
        if text not in self._logged:
            self._logged.add(text)
            LOG.warning("%s: agent forwarding: %s", self._peer, text)

    def close(self) -> None:
        """Answer no more. Any thread; does not wait."""
        with self._lock:
            self._closed.set()
            for agent in self._agents:
                agent.interrupt()


def _read_message(channel: Channel) -> bytes:
    """The next message, without its length. Raises EOFError, also where it is empty or too long."""
    length = int.from_bytes(_read(channel, 4), "big")
    if not 0 < length <= MAX_MESSAGE:
        raise EOFError
    return _read(channel, length)


def _read(channel: Channel, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = channel.recv(count - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return bytes(data)
