"""Agent forwarding: the target's programs talk to the agent that runs here.

For every program that opens the forwarded socket the server opens an ``auth-agent@openssh.com`` channel to us. The agent's
protocol is strictly question and answer, each with its length in front (draft-ietf-sshm-ssh-agent), so one thread per channel
carries a question to the agent and its answer back, and sleeps in between.

Missing upstream: ``AgentRequestHandler`` reads 512 bytes at a time, waits half a second in ``select`` and then sleeps, takes the
agent's path from the environment only, and joins its threads from a destructor.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import paramiko

from pmitogen.errors import ConnectError
from pmitogen.flags.ssh.settings import Settings
from pmitogen.util import threads

if TYPE_CHECKING:
    from pmitogen.transport.paramiko_ext.channel import Channel
    from pmitogen.transport.paramiko_ext.transport import ClientTransport

LONGEST_MESSAGE = 256 * 1024  # bytes; ssh-agent's own limit
AGENT_PATIENCE = 60.0  # seconds for one answer: a key may wait for its owner's touch


def socket_path(settings: Settings) -> str | None:
    """The agent that ForwardAgent means: the one it names, else the one that we use ourselves."""
    return settings.forwardagent_socket or settings.identityagent


class AgentForwarder:
    """Answers the agent channels of one connection from the agent at *path*."""

    def __init__(self, transport: ClientTransport, path: str) -> None:
        self._path = path
        self._closed = False
        transport.on_agent_channel = self._accept

    def _accept(self, channel: Channel) -> None:
        """A program on the target has opened its agent socket (transport thread)."""
        try:
            threads.start(self._serve, "agent forwarding", channel)
        except ConnectError:  # this channel's loss; on the transport thread an error would end the connection
            channel.close()

    def _serve(self, channel: Channel) -> None:
        try:
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException), _dial(self._path) as agent:
                self._relay(channel, agent)
        finally:
            channel.close()

    def _relay(self, channel: Channel, agent: socket.socket) -> None:
        while not self._closed:
            question = _read_message(channel)
            agent.sendall(question)
            channel.sendall(_read_message(agent))

    def close(self) -> None:
        """Answer no more. Any thread; does not wait."""
        self._closed = True


def _dial(path: str) -> socket.socket:
    agent = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        agent.settimeout(AGENT_PATIENCE)
        agent.connect(path)
    except OSError:
        agent.close()
        raise
    return agent


def _read_message(source: socket.socket | Channel) -> bytes:
    head = _read(source, 4)
    length = int.from_bytes(head, "big")
    if length > LONGEST_MESSAGE:
        raise EOFError
    return head + _read(source, length)


def _read(source: socket.socket | Channel, count: int) -> bytes:
    data = b""
    while len(data) < count:
        chunk = source.recv(count - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data
