"""Agent forwarding: programs on the target use the local agent, for signatures only.

For each program that opens the forwarded socket, the server opens an ``auth-agent@openssh.com`` channel. The agent protocol
is strictly request and response, each with a length prefix (RFC 9987), so one thread per channel copies a request to the agent
and its response back.

The target is not trusted beyond that (CVE-2023-38408). Three protections:

* The agent's connection is bound to this one (OpenSSH PROTOCOL.agent, session-bind), so that ssh-agent treats the requests as a
  remote host's: it loads no provider, and signs with a key only for its permitted destinations.
* Only the messages in ALLOWED are passed on; others are answered with "failure" and never reach the agent.
* Channels, their windows, messages and rates are bounded.

Missing upstream: ``AgentRequestHandler`` has none of these protections. It reads 512 bytes at a time, waits half a second in
``select`` and then sleeps, takes the agent's path from the environment only, and joins its threads from a destructor.
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
from pmitogen.transport.keys.ssh_agent_client import (
    EXTENSION,
    FAILURE,
    REQUEST_IDENTITIES,
    SESSION_BIND,
    SIGN_REQUEST,
    AgentError,
    SessionBinding,
    SSHAgentClient,
    read_message,
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
MAX_CHANNELS = 16  # per connection; a program holds one while it logs in
OPENS_PER_SECOND, MAX_OPENS_AT_ONCE = 20, 100  # more are refused: each is a connection to the agent
REQUESTS_PER_SECOND, MAX_REQUESTS_AT_ONCE = 300, 600  # of all channels together; more are delayed
ANSWER_TIMEOUT = 60.0  # seconds for one answer, because a key may need a touch

ALLOWED = {
    REQUEST_IDENTITIES: "public keys are not secret, and a client needs the list",
    SIGN_REQUEST: "the purpose of forwarding",
    EXTENSION: "those of ALLOWED_EXTENSIONS",
}
ALLOWED_EXTENSIONS = {
    SESSION_BIND: "an ssh on the target binds its own connections, for keys with destination constraints",
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
    # 1 to 9 and 24 are SSH protocol 1's. Unknown messages are refused as well.
}


def socket_path(settings: Settings) -> str | None:
    """Return the socket of the agent to forward: ForwardAgent's, else IdentityAgent's."""
    return settings.forwardagent_socket or settings.identityagent


def refusal_reason(message: bytes) -> str | None:
    """Return the reason to refuse *message* (without its length); None: it is passed on."""
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
    """Server of one connection's agent channels, with the agent at *path*. *peer*: the connection's name in the log."""

    def __init__(self, transport: ClientTransport, path: str, binding: SessionBinding, peer: str) -> None:
        self._path, self._binding, self._peer = path, binding, peer
        self._lock = threading.Lock()
        self._channels = 0  # admitted and not closed
        self._agents: set[SSHAgentClient] = set()
        self._closed = threading.Event()
        self._opens = TokenBucket(OPENS_PER_SECOND, MAX_OPENS_AT_ONCE, time.monotonic())
        self._requests = TokenBucket(REQUESTS_PER_SECOND, MAX_REQUESTS_AT_ONCE, time.monotonic())
        self._logged: set[str] = set()
        transport.channel_acceptors[CHANNEL_KIND] = self

    window = WINDOW

    def admit(self, reader: PacketReader) -> Serve | None:
        """Return the function that serves one more channel, or None if there are too many. Transport thread."""
        with self._lock:
            has_room = self._channels < MAX_CHANNELS and not self._closed.is_set()
            admitted = has_room and self._opens.allows(time.monotonic())
            self._channels += admitted
        if not admitted:
            self._log(f"more than {MAX_CHANNELS} connections to the agent at once, or {OPENS_PER_SECOND} a second: refused")
        return self._start if admitted else None

    def _start(self, channel: Channel) -> None:
        """Serve an admitted channel on a new thread. Transport thread."""
        try:
            threads.start(self._serve, "agent forwarding", channel)
        except ConnectError:  # on the transport thread an error would end the whole connection
            self._release()
            channel.close()

    def _release(self) -> None:
        with self._lock:
            self._channels -= 1

    def _serve(self, channel: Channel) -> None:
        try:
            with contextlib.suppress(OSError, EOFError, DecodeError, paramiko.SSHException), SSHAgentClient(self._path) as agent:
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
        """Register *agent*, so that :meth:`close` interrupts it."""
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
            request = read_message(channel.recv)
            with self._lock:
                wait = self._requests.take(time.monotonic())
            if wait and self._closed.wait(wait):
                return
            reason = refusal_reason(request)
            if reason is not None:
                self._log(f"refused to pass on to the agent: {reason}")
            answer = agent.exchange(request, ANSWER_TIMEOUT) if reason is None else bytes([FAILURE])
            channel.sendall(encode_string(answer))

    def _log(self, text: str) -> None:
        """Log *text* once per connection, because the target decides how often it happens."""
        if text not in self._logged:
            self._logged.add(text)
            LOG.warning("%s: agent forwarding: %s", self._peer, text)

    def close(self) -> None:
        """Stop serving. Any thread; does not wait."""
        with self._lock:
            self._closed.set()
            for agent in self._agents:
                agent.interrupt()
