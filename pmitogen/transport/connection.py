"""One authenticated SSH connection and its channels.

It owns its transport, and the ProxyCommand process if there is one. connect.py makes it. Call its methods on any thread except
the transport's; those that block say so.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import paramiko

from pmitogen.errors import ConnectError, ConnectionLost, ConnectStage
from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.auth.report import AuthReport
from pmitogen.transport.connection_warnings import ConnectionWarning
from pmitogen.transport.errors import EndCause, SessionRefused
from pmitogen.transport.forwarding import agent_forwarding
from pmitogen.transport.forwarding.address import Address, TCPAddress
from pmitogen.transport.forwarding.relay import WINDOW as FORWARD_WINDOW
from pmitogen.transport.forwarding.remote import RemoteForwardings
from pmitogen.transport.keys.wire import encode_string
from pmitogen.transport.paramiko_ext.channel import Channel
from pmitogen.transport.paramiko_ext.packets.ciphers import CorruptedMAC
from pmitogen.transport.paramiko_ext.packets.packetizer import InvalidLength
from pmitogen.transport.paramiko_ext.transport import WINDOW, ClientTransport, Settable
from pmitogen.transport.session_env import variables
from pmitogen.util.caller import NOBODY
from pmitogen.util.peer_text import escape

REPLY_TIMEOUT = 30.0  # seconds for the answer to the request for a command
END_TIMEOUT = 5.0  # seconds between a failed write and the end of the connection


@dataclasses.dataclass(eq=False, repr=False)
class Stages:
    """Seconds for each stage of connecting; None: the stage was not needed."""

    resolve: float | None = None
    tcp: float | None = None
    proxy: float | None = None
    version: float | None = None
    kex: float | None = None
    auth: float | None = None


class Connection:
    """An authenticated connection to the host of *settings*. Any thread, except the transport's."""

    def __init__(
        self,
        settings: Settings,
        transport: ClientTransport,
        stages: Stages,
        auth_report: AuthReport,
        warnings: tuple[ConnectionWarning, ...],
        on_close: Callable[[], None],
        *,
        unsafe: bool = False,
    ) -> None:
        self.settings = settings
        self._variables = variables(settings)
        self.auth_report = auth_report
        self.unsafe = unsafe  # the host key is changed or revoked, and checking is off: send no secret
        self.warnings = warnings  # about the host keys and the algorithms, also those of the jump hosts
        self.peer = settings.endpoint
        self.stages = stages
        self.jump_count = 0  # jump hosts on the way
        self._transport = transport
        self._on_close = on_close
        self._agent: agent_forwarding.AgentForwarder | None = None
        self._lock = threading.Lock()
        self._remote_forwardings: RemoteForwardings | None = None
        self._at_end: list[Callable[[], None]] = []
        self._ended = False
        transport.at_end(self._on_end)
        _connections.add(self)

    # State ----------------------------------------------------------------------------------------------------------------

    @property
    def end_reason(self) -> str | None:
        """The reason for the end of the connection; None while it is open."""
        return self._transport.end_reason

    def end_reason_after_failure(self) -> str | None:
        """Return the reason for the end, after an error of a channel; None: the connection is open, and the channel alone ended.

        A write fails before the thread that reads has determined the reason, so this blocks until it has.
        """
        if self._transport.packetizer.write_failed and self.end_reason is None:
            ended = threading.Event()
            self.at_end(ended.set)
            ended.wait(END_TIMEOUT)
            return self.end_reason or "the server closed the connection"
        return self.end_reason

    @property
    def end_cause(self) -> EndCause:
        """Return what ended the connection."""
        error = self._transport.saved_exception
        if self._transport.is_silent:
            return EndCause.SILENCE
        if isinstance(error, CorruptedMAC):
            return EndCause.CORRUPTED_MAC
        return EndCause.INVALID_LENGTH if isinstance(error, InvalidLength) else EndCause.OTHER

    @property
    def bytes_sent(self) -> int:
        """Bytes given to the socket so far."""
        return self._transport.packetizer.bytes_sent

    @property
    def bytes_received(self) -> int:
        """Bytes taken from the socket so far."""
        return self._transport.packetizer.bytes_received

    def describe(self) -> dict[str, str]:
        """Describe the server's version and the negotiated algorithms."""
        transport = self._transport
        return {
            "server": escape(transport.remote_version),
            "kex": transport.agreed_kex,
            "host key": transport.host_key_type or "",
            "cipher": transport.remote_cipher,
            "mac": "" if transport.cipher_authenticates else transport.remote_mac or "",
            "compression": transport.remote_compression or "",
        }

    def on_lost(self, callback: Callable[[str], None]) -> None:
        """Call *callback* once, on any thread, with a one-line reason, when the connection ends other than by :meth:`close`."""
        self._transport.on_end(lambda reason: callback(f"{self.peer}: {reason}"))

    def close(self) -> None:
        """End the connection and its ProxyCommand. Idempotent; any thread; does not wait for the peer."""
        self._transport.close()
        self._on_end()

    def at_end(self, callback: Callable[[], None]) -> None:
        """Call *callback* once when either side ends the connection; immediately if it has ended. It must not block."""
        with self._lock:
            if not self._ended:
                self._at_end.append(callback)
                return
        callback()

    def _on_end(self) -> None:
        self._on_close()
        with self._lock:
            self._ended = True
            callbacks, self._at_end = self._at_end, []
        for callback in callbacks:
            callback()
        with self._lock:
            if self._agent is not None:
                self._agent.close()

    def forget_caller(self) -> None:
        """Forget the process that requested the connection, except for the variables that further commands need."""
        self.settings = self.settings._replace(caller=NOBODY, report=())

    def begin_close(self) -> None:
        """Begin to close; the connection's own thread does the rest. For the I/O thread of a hub."""
        self._transport.begin_close()

    def wait_closed(self, timeout: float) -> None:
        """Wait up to *timeout* seconds until the connection's thread has ended. Call it after :meth:`begin_close`."""
        if not self._transport.handles_messages_here:
            self._transport.join(max(0.0, timeout))

    @property
    def closes_at_once(self) -> bool:
        """True if :meth:`begin_close` never blocks: only a connection through a jump host has to send a message."""
        return not self._transport.is_tunnelled

    # Channels -------------------------------------------------------------------------------------------------------------

    def open_session(self, timeout: float, window: int = WINDOW, slot_timeout: float = math.inf) -> Channel:
        """Open a session channel. Blocks up to *timeout* seconds: one round trip, or until another session ends.

        sshd refuses sessions beyond MaxSessions (10 per connection by default). If some are open, another attempt is
        made as soon as one of them closes, within *slot_timeout* seconds. If none is open, it is asked once more:
        sshd counts the last one until it has handled all messages that arrive with our close. Raises SessionRefused, ConnectError
        (stage ``exec``), ConnectionLost.
        """
        deadline = time.monotonic() + timeout
        slot_deadline = min(deadline, time.monotonic() + slot_timeout)
        has_repeated = False
        while True:
            transport = self._transport
            with transport.channel_closed:
                close_count = transport.close_count
            try:
                return self._open("session", b"", window, deadline)
            except paramiko.ChannelException as error:
                if close_count and not transport.sessions and not has_repeated:
                    has_repeated = True
                elif not self._wait_for_session_slot(close_count, slot_deadline):
                    raise SessionRefused(
                        f"{self.peer}: the server refuses a session: {error.text}; raise MaxSessions in its sshd_config", "exec"
                    ) from None

    def begin_session(self, window: int, opened: Settable, submit: Callable[[Callable[[], None]], None]) -> Channel:
        """Ask for a session channel, and do not wait. *opened* and *submit*: see :meth:`ClientTransport.begin_channel`.

        Once *opened* is set, the channel is ``active``, or has an ``open_failure``, or the connection has ended.
        """
        return self._transport.begin_channel("session", b"", window, opened, submit)

    def _wait_for_session_slot(self, close_count: int, deadline: float) -> bool:
        """Wait until a channel closes after *close_count* was read. False: none is open, or the time is over."""
        transport = self._transport
        with transport.channel_closed:
            while transport.close_count == close_count:
                if not transport.sessions or not transport.channel_closed.wait(max(0.0, deadline - time.monotonic())):
                    return False
        return True

    def open_tunnel(self, host: str, port: int, deadline: float) -> Channel:
        """Open a TCP connection from the server to *host*:*port*, as a channel. Raises ConnectError (stage ``proxy``)."""
        target = TCPAddress(host, port)
        try:
            return self._open(*_direct(target, None), WINDOW, deadline, f" to {target}", "proxy")
        except paramiko.ChannelException as error:
            raise ConnectError(
                f"{self.peer}: the jump host cannot reach {target}: {error.text}; "
                "check that address from there, and AllowTcpForwarding in its sshd_config",
                "proxy",
            ) from None

    def open_stream(self, target: Address, origin: TCPAddress | None, deadline: float) -> Channel:
        """Open a connection from the server to *target*, a TCP address or a Unix socket, as a channel.

        *origin*: the local client's address, for the server's log. Raises ConnectError (stage ``exec``), ConnectionLost. Blocks.
        """
        try:
            return self._open(*_direct(target, origin), FORWARD_WINDOW, deadline, f" to {target}")
        except paramiko.ChannelException as error:
            raise ConnectError(f"{self.peer}: the server cannot connect to {target}: {error.text}", "exec") from None

    def global_request(self, kind: str, fields: bytes, *, timeout: float) -> bytes | None:
        """Make a global request, and return the answer's data, or None if it is refused. Raises ConnectError, ConnectionLost."""
        with self._translate_errors():
            return self._transport.request(kind, fields, timeout=timeout)

    def remote_forwardings(self) -> RemoteForwardings:
        """Return the server's ports and sockets that are forwarded to this machine."""
        with self._lock:
            if self._remote_forwardings is None:
                self._remote_forwardings = RemoteForwardings(self._transport)
            return self._remote_forwardings

    def _open(
        self, kind: str, fields: bytes, window: int, deadline: float, purpose: str = "", stage: ConnectStage = "exec"
    ) -> Channel:
        """Open a channel of *kind*. Raises ChannelException if the server refuses it; *purpose* and *stage* are for messages."""
        try:
            return self._transport.request_channel(kind, fields, window, max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise ConnectError(f"{self.peer}: no answer within the timeout to a request for a channel{purpose}", stage) from None
        except paramiko.ChannelException:
            raise
        except (paramiko.SSHException, EOFError, OSError):
            raise ConnectionLost(f"{self.peer}: {self.end_reason or 'the connection is closed'}") from None

    def start_command(self, channel: Channel, command: bytes | str, *, wait: bool) -> None:
        """Run *command* (for the login shell) on *channel*, with the environment and agent forwarding that the settings want.

        With *wait* False returns at once, and data may follow; a refusal closes the channel and sets
        ``channel.refusal_reason``. With *wait* True blocks up to ``REPLY_TIMEOUT`` and raises ConnectError (stage ``exec``).
        """
        with self._translate_errors():
            self._prepare_session(channel)
            channel.request("exec", encode_string(command))
            if wait and not channel.wait_for_reply(REPLY_TIMEOUT):
                reason = channel.refusal_reason or self.end_reason or "the server closed the channel"
                raise ConnectError(f"{self.peer}: {reason}: exec", "exec")

    def start_command_without_input(self, channel: Channel, command: str) -> None:
        """Run *command* on *channel* as :meth:`start_command` does without waiting, and end its input."""
        with self._translate_errors():
            self._prepare_session(channel)
            channel.request_and_end("exec", encode_string(command))

    def start_shell(self, channel: Channel) -> None:
        """Start the login shell on *channel*, with environment and agent forwarding, without waiting for the reply."""
        with self._translate_errors():
            self._prepare_session(channel)
            channel.request("shell")

    def request_subsystem(self, channel: Channel, name: bytes | str) -> None:
        """Start a subsystem on *channel*, with environment and agent forwarding, without waiting for the reply."""
        with self._translate_errors():
            self._prepare_session(channel)
            channel.request("subsystem", encode_string(name))

    def _prepare_session(self, channel: Channel) -> None:
        for name, value in self._variables:
            channel.request("env", encode_string(name), encode_string(value), want_reply=False)
        if self.settings.forwardagent:
            self._forward_agent(channel)
        channel.prepare_for_reply()

    def start_subsystem(self, channel: Channel, name: str, *, timeout: float) -> bool:
        """Start a subsystem such as ``sftp``; False if the server has none. Blocks up to *timeout* seconds for the answer."""
        with self._translate_errors():
            channel.prepare_for_reply()
            channel.request("subsystem", encode_string(name))
            return channel.wait_for_reply(timeout)

    @contextlib.contextmanager
    def _translate_errors(self) -> Iterator[None]:
        """Translate Paramiko's errors to pmitogen's."""
        try:
            yield
        except TimeoutError:
            raise ConnectError(f"{self.peer}: no answer within the timeout to a request", "exec") from None
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise ConnectionLost(f"{self.peer}: {self.end_reason or error or 'the channel is closed'}") from None

    def grant_window(self, channel: Channel, nbytes: int) -> None:
        """Let the peer send *nbytes* more on *channel*; may block, so call it on a writer's thread."""
        channel.grant_window(nbytes)

    def _forward_agent(self, channel: Channel) -> None:
        path = agent_forwarding.socket_path(self.settings)
        if path is None:
            return  # as with ssh: without a local agent there is nothing to forward
        with self._lock:
            if self._agent is None:
                self._agent = agent_forwarding.AgentForwarder(self._transport, path, self._transport.session_binding(), self.peer)
        channel.request("auth-agent-req@openssh.com", want_reply=False)

    def _abandon(self) -> None:
        """In a forked child: drop the connection without sending anything; it belongs to the parent."""
        self._transport.abandon()


def _direct(target: Address, origin: TCPAddress | None) -> tuple[str, bytes]:
    """Return the kind and the fields of a channel to *target* (RFC 4254 section 7.2; OpenSSH PROTOCOL section 2.4)."""
    if isinstance(target, TCPAddress):
        source = origin or TCPAddress("127.0.0.1", 65535)  # what ssh -W sends
        return "direct-tcpip", b"".join(encode_string(each.host) + each.port.to_bytes(4, "big") for each in (target, source))
    return "direct-streamlocal@openssh.com", encode_string(target.path) + encode_string("") + bytes(4)


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for connection in list(_connections):
        connection._abandon()


os.register_at_fork(after_in_child=_after_fork_in_child)
