"""Make one SSH connection: resolve, connect or pass through jump hosts, exchange keys, check the host key, authenticate.

Each call makes one connection on the caller's thread; many calls may run at the same time. login_limits.py has the time limits.
Every failure is a :class:`~pmitogen.errors.ConnectError` of one line: where, what happened, and what to do about it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from pmitogen.errors import ConnectError, ConnectionLost, ConnectStage, Error
from pmitogen.flags.ssh.resolve import MAX_HOPS, resolve_hop
from pmitogen.flags.ssh.settings import JumpHop, Settings
from pmitogen.transport import connect_limits, log_file
from pmitogen.transport.auth import jump_credentials
from pmitogen.transport.auth.authenticate import authenticate
from pmitogen.transport.auth.credentials import Credentials
from pmitogen.transport.auth.report import AuthReport
from pmitogen.transport.connection import Connection, Stages
from pmitogen.transport.connection_identity import connection_key
from pmitogen.transport.connection_warnings import ConnectionWarning, Warn, ignore, visible
from pmitogen.transport.dial import JUMP_HOST_ADVICE, TARGET_ADVICE, dial, resolve
from pmitogen.transport.errors import JumpHostFailed, NoCommonAlgorithm, VersionTimeout
from pmitogen.transport.hostkeys.algorithm_order import host_key_algorithms
from pmitogen.transport.hostkeys.verify import HostKeyDecision, check_host_key
from pmitogen.transport.jump_host_pool import JumpHostPool, Resolver
from pmitogen.transport.login_limits import RETRY_TIME, answer_timeout, connect_timeout
from pmitogen.transport.paramiko_ext import algorithms
from pmitogen.transport.paramiko_ext.keepalive import DEFAULT_INTERVAL
from pmitogen.transport.paramiko_ext.transport import ClientTransport
from pmitogen.transport.paramiko_ext.version_exchange import NotSSH, NoVersion
from pmitogen.transport.proxy_command import ProxyCommand, ProxyCommands
from pmitogen.util import threads
from pmitogen.util.peer_text import escape

__all__ = ["Connection", "HostKeyProbe", "connect", "probe_host_key"]

_Outcome = TypeVar("_Outcome")


def connect(
    settings: Settings,
    credentials: Credentials,
    *,
    jump_hosts: JumpHostPool,
    deadline: float,
    resolver: Resolver = resolve_hop,
    confirm: Callable[[str], bool] | None = None,
    warn: Warn = ignore,
    on_banner: Callable[[bytes], None] | None = None,
    retry_rejected: bool = True,
    proxy_commands: ProxyCommands | None = None,
) -> Connection:
    """Make a connection. Blocks; call it on any thread except a transport's.

    :param settings: the resolved options of the destination.
    :param credentials: what to authenticate with, besides the keys that *settings* names.
    :param jump_hosts: the connections to jump hosts; a missing one is made and added.
    :param deadline: when to give up, in ``time.monotonic()`` seconds; the limits of each step apply as well.
    :param resolver: returns the settings of a jump host.
    :param confirm: asks the user whether to trust a new host key; None: the user cannot be asked.
    :param warn: called on this thread with each warning that the LogLevel shows, as soon as there is one: the login may fail
        later, or ask for a password. The connection has them as well.
    :param on_banner: called on this thread with each text that a server sends for the user before the login, not escaped.
    :param retry_rejected: make further attempts where a server closes the connection before the key exchange without a reason;
        with MaxStartups as the reason they are always made.
    :param proxy_commands: gets the ProxyCommand, for a thread that may have to end it during the login.

    Raises ConnectError, whose stage says which step failed, and AuthenticationError.
    """
    connecting = _Connecting(settings, credentials, jump_hosts, deadline, resolver, confirm, warn, (), on_banner, retry_rejected)
    connecting.proxy_commands = proxy_commands or connecting.proxy_commands
    with connecting.translating_jump_host_failures():
        return connecting.connect()


class HostKeyProbe(NamedTuple):
    """A host key that a server proved to have, and the server's version. *offered*: the host key algorithms it offers."""

    blob: bytes
    address: str  # the peer's IP address; "" behind a proxy
    server: str  # SSH-2.0-...
    offered: tuple[str, ...]


def probe_host_key(
    settings: Settings,
    names: Sequence[str],
    *,
    jump_hosts: JumpHostPool,
    deadline: float,
    credentials: Credentials | None = None,
    confirm: Callable[[str], bool] | None = None,
) -> HostKeyProbe:
    """Return the host key that the server sends for one of the algorithms *names*. Checks nothing, does not authenticate. Blocks.

    Jump hosts are connected to as by :func:`connect`, with *credentials* and *confirm*.
    Raises ConnectError (stage ``kex`` if the server has no such key).
    """
    connecting = _Connecting(settings, credentials or Credentials(), jump_hosts, deadline, resolve_hop, confirm, ignore, ())
    with connecting.translating_jump_host_failures():
        return connecting.probe(names)


@dataclasses.dataclass(eq=False, repr=False)
class _Stream:
    """The byte stream to the server that SSH runs over."""

    sock: Any  # a socket, a ProxyCommand's stream, or a channel through a bastion
    began: float  # when its ConnectTimeout began; time.monotonic() seconds
    version_deadline: float  # the limit for the server's version
    address: str = ""  # the peer's IP address, if it is known
    command: ProxyCommand | None = None
    close_log: Callable[[], None] = lambda: None

    def close(self) -> None:
        """End the ProxyCommand and the log; the transport closes the socket. Idempotent."""
        if self.command is not None:
            self.command.close()
        self.close_log()


@dataclasses.dataclass(eq=False, repr=False)
class _Connecting:
    """One connection being made. *path*: the destinations that need it as a jump host, outermost first."""

    settings: Settings
    credentials: Credentials
    jump_hosts: JumpHostPool
    deadline: float
    resolver: Resolver
    confirm: Callable[[str], bool] | None
    warn: Warn
    path: tuple[Hashable, ...]
    on_banner: Callable[[bytes], None] | None = None
    retry_rejected: bool = True
    proxy_commands: ProxyCommands = dataclasses.field(default_factory=ProxyCommands)

    def __post_init__(self) -> None:
        self.endpoint = self.settings.endpoint
        self.stages = Stages()
        self.warnings: tuple[ConnectionWarning, ...] = ()  # so far
        self.connect_timeout = connect_timeout(self.settings)
        self.advice = JUMP_HOST_ADVICE if self.path else TARGET_ADVICE
        self.jump_count = len(self.settings.proxyjump)  # hosts on the way; a hop's own configuration can add some

    def connect(self) -> Connection:
        """Connect and authenticate. Raises JumpHostFailed as well."""
        return self._with_retries(self._attempt)

    def probe(self, names: Sequence[str]) -> HostKeyProbe:
        """Connect, and disconnect after the server has sent a key for one of these algorithms. Raises JumpHostFailed as well."""
        return self._with_retries(lambda: self._probe(names))

    def connect_as_jump_host(self) -> Connection:
        """Connect and authenticate, for a destination behind this host. Raises JumpHostFailed only."""
        try:
            return self.connect()
        except JumpHostFailed as failure:
            raise failure.for_next_jump_host() from None
        except ConnectError as error:
            raise self.failure(error) from None

    def failure(self, error: Error) -> JumpHostFailed:
        """Return *error* of this host as the failure of a jump host."""
        if not isinstance(error, ConnectError):
            error = ConnectError(error.message, "proxy")
        position = self.jump_count + 1
        return JumpHostFailed(error, self.endpoint, position, position)

    @contextlib.contextmanager
    def translating_jump_host_failures(self) -> Iterator[None]:
        """Turn the failure of a jump host into this destination's error."""
        try:
            yield
        except JumpHostFailed as failure:
            raise failure.for_target(self.endpoint) from None

    def _with_retries(self, attempt: Callable[[], _Outcome]) -> _Outcome:
        """Make an attempt; retry while the server closes the connection before the key exchange."""
        if self.settings.refuseconnection:
            raise ConnectError(f"{self.endpoint}: RefuseConnection: {self.settings.refuseconnection}", "local")
        count = 1
        until = min(self.deadline, time.monotonic() + max(RETRY_TIME, self.connect_timeout))
        while True:
            try:
                with connect_limits.slot(self._server_key(), self.endpoint, self.deadline):
                    return attempt()
            except connect_limits.ConnectionRejected as error:
                is_final = not (self.retry_rejected or error.is_overload)
                if is_final or not connect_limits.pause_before_retry(count, error, until):
                    times = f", {count} times" if count > 1 else ""
                    raise ConnectError(
                        f"{self.endpoint}: the server closed the connection before the key exchange{times}; "
                        "check MaxStartups and PerSourcePenalties in its sshd_config, and filters such as hosts.deny",
                        "kex",
                    ) from None
                count += 1

    def _server_key(self) -> Hashable:
        """Return the key under which unfinished logins are counted."""
        return self.settings.hostname, self.settings.port, self.settings.proxyjump, self.settings.proxycommand

    def _attempt(self) -> Connection:
        self.warnings = ()
        with self._key_exchange(self._wanted_host_keys) as (transport, stream):
            with self._timed("auth"):
                report, decision = self._log_in(transport, stream)
            with threads.starting():
                transport.leave()
            end, unsafe = stream.close, decision.unsafe
            connection = Connection(self.settings, transport, self.stages, report, self.warnings, end, unsafe=unsafe)
            connection.jump_count = self.jump_count
            return connection

    def _probe(self, names: Sequence[str]) -> HostKeyProbe:
        with self._key_exchange(lambda _address: tuple(names)) as (transport, stream):
            blob = transport.get_remote_server_key().asbytes()
            server = escape(transport.remote_version)
            shown = HostKeyProbe(blob, stream.address, server, tuple(transport.peer_offer["host key"]))
            transport.close()
            stream.close()
            return shown

    @contextlib.contextmanager
    def _key_exchange(self, host_keys: Callable[[str], tuple[str, ...]]) -> Iterator[tuple[ClientTransport, _Stream]]:
        """Yield a transport after its key exchange; close it and its stream if the body fails."""
        stream = self._open_stream()
        transport: ClientTransport | None = None
        try:
            transport = self._transport(stream, host_keys)
            with self._timed_exchanges(transport):
                self._run_key_exchange(transport, stream)
            yield transport, stream
        except BaseException:
            if transport is not None:
                transport.close()
            else:
                stream.sock.close()
            stream.close()
            raise

    def _wanted_host_keys(self, address: str) -> tuple[str, ...]:
        return host_key_algorithms(self.settings, address)

    # The byte stream ------------------------------------------------------------------------------------------------------

    def _open_stream(self) -> _Stream:
        if self.settings.proxyjump:
            with self._timed("proxy"):
                return self._open_tunnel()
        if self.settings.proxycommand:
            command = self.proxy_commands.start(self.settings)
            return _Stream(command.sock, *self._limits(time.monotonic()), command=command)
        with self._timed("resolve"):
            addresses = resolve(self.settings, self.advice)
        with self._timed("tcp"):
            sock, began = dial(self.settings, addresses, self.connect_timeout, self.deadline, self.advice)
        return _Stream(sock, *self._limits(began), address=sock.getpeername()[0])

    def _limits(self, began: float) -> tuple[float, float]:
        """Return when ConnectTimeout began and when it ends."""
        return began, min(self.deadline, began + self.connect_timeout)

    def _open_tunnel(self) -> _Stream:
        """Through the last of the hops, which is reached through those before it."""
        *before, last = self.settings.proxyjump
        hop = self._hop_settings(last, tuple(before))
        path = (*self.path, connection_key(self.settings))
        if connection_key(hop) in path or len(path) > MAX_HOPS:
            raise ConnectError(f"{self.endpoint}: ProxyJump: {last.host}: the jump hosts form a loop", "proxy")
        hop_credentials = jump_credentials.for_hop(self.credentials, self.settings, last, hop)
        programs = self.jump_hosts.proxy_commands
        connecting = dataclasses.replace(self, settings=hop, credentials=hop_credentials, path=path, proxy_commands=programs)
        try:
            bastion = self.jump_hosts.connect(hop, hop_credentials, self.deadline, connecting.connect_as_jump_host)
            connecting.jump_count = bastion.jump_count
            self.warnings += bastion.warnings
            self.jump_count = bastion.jump_count + 1
            began, limit = self._limits(time.monotonic())
            return _Stream(bastion.open_tunnel(self.settings.hostname, self.settings.port, limit), began, limit)
        except (ConnectError, ConnectionLost) as error:
            raise connecting.failure(error) from None

    def _hop_settings(self, hop: JumpHop, before: tuple[JumpHop, ...]) -> Settings:
        settings = self.resolver(hop, self.settings)
        if settings.exitonforwardfailure is None:  # its purpose is to forward, as that of ssh -W
            settings = settings._replace(exitonforwardfailure=True)
        # With "-J a,b" b is reached through a, even if its own configuration differs; the first hop's own ProxyJump applies.
        return settings._replace(proxyjump=before, proxycommand=None) if before else settings

    # The key exchange -----------------------------------------------------------------------------------------------------

    def _transport(self, stream: _Stream, host_keys: Callable[[str], tuple[str, ...]]) -> ClientTransport:
        settings = self.settings
        interval = DEFAULT_INTERVAL if settings.serveraliveinterval is None else settings.serveraliveinterval
        log, stream.close_log = log_file.open_log(settings)
        transport = ClientTransport(stream.sock, self.endpoint, interval, settings.serveralivecountmax, log)
        algorithms.apply_preferences(transport, settings)
        transport.wanted_host_keys = host_keys(stream.address)
        transport.rekey_limit = settings.rekeylimit
        transport.set_idle_timeouts(settings.channeltimeout, settings.channeltimeout_global)
        if settings.versionaddendum:
            transport.local_version += f" {settings.versionaddendum}"
        return transport

    def _run_key_exchange(self, transport: ClientTransport, stream: _Stream) -> None:
        transport.version_deadline = stream.version_deadline
        transport.handshake_timeout = max(0.0, min(answer_timeout(self.settings), self.deadline - time.monotonic()))
        transport.exchange_keys()
        if not (transport.initial_kex_done and transport.active):
            error = transport.get_exception()
            failure = self._kex_failure(transport, stream, error)
            transport.close()
            raise failure

    def _kex_failure(
        self, transport: ClientTransport, stream: _Stream, error: Exception | None
    ) -> ConnectError | connect_limits.ConnectionRejected:
        received = transport.version_exchange.received
        sent = f"; it sent: {received}" if received else ""
        check = f"is port {self.settings.port} its SSH port"
        stage: ConnectStage = "kex"
        mismatch = algorithms.no_common_algorithm(transport)
        if mismatch is not None:
            return NoCommonAlgorithm(f"{self.endpoint}: {mismatch.text}", mismatch.family, mismatch.offered)
        if isinstance(error, NoVersion):
            text = f"no SSH version received within {self._version_limit(stream)}{sent}; {check}, and is the server overloaded?"
            return VersionTimeout(f"{self.endpoint}: {text}", stage)
        if isinstance(error, NotSSH):
            before = f", after: {received}" if received and received not in str(error) else ""
            text = f"not an SSH server: {error}{before}; {check}?"
        elif transport.packetizer.handshake_timed_out():
            text = f"the key exchange did not complete within {transport.handshake_timeout:.3g} s; is the server overloaded?"
        elif "MaxStartups" in received:
            return connect_limits.ConnectionRejected(is_overload=True)
        elif stream.command is not None:
            stage, text = "proxy", stream.command.exit_description() + sent
        elif not transport.peer_offer and not received and isinstance(error, (EOFError, OSError)):
            return connect_limits.ConnectionRejected(is_overload=False)
        elif not transport.version_exchange.version:
            text = f"{transport.end_reason_for(error)} before an SSH version{sent}; {check}?"
        else:
            text = f"the key exchange failed: {transport.end_reason_for(error)}"
        return ConnectError(f"{self.endpoint}: {text}", stage)

    def _version_limit(self, stream: _Stream) -> str:
        """Return the time that the server had for its version, and what sets it."""
        seconds = stream.version_deadline - stream.began
        return f"{seconds:.3g} s{' (ConnectTimeout)' if seconds >= self.connect_timeout else ''}"

    # Authentication --------------------------------------------------------------------------------------------------------

    def _log_in(self, transport: ClientTransport, stream: _Stream) -> tuple[AuthReport, HostKeyDecision]:
        decision = check_host_key(self.settings, transport.get_remote_server_key(), stream.address, confirm=self.confirm)
        self._warn((*algorithms.weak_kex_warnings(transport, self.settings), *decision.warnings))
        self.settings = decision.restrict(self.settings)
        report = authenticate(
            transport,
            self.settings,
            self.credentials,
            self.deadline,
            key_cache=self.jump_hosts.key_cache,
            on_banner=self.on_banner,
        )
        return report, decision

    def _warn(self, warnings: tuple[ConnectionWarning, ...]) -> None:
        shown = visible(warnings, self.settings.loglevel)
        self.warnings += shown
        for each in shown:
            self.warn(each)

    @contextlib.contextmanager
    def _timed_exchanges(self, transport: ClientTransport) -> Iterator[None]:
        """Measure the exchange of versions and the key exchange after it."""
        began = time.monotonic()
        try:
            yield
        finally:
            end = time.monotonic()
            received_at = transport.version_exchange.received_at or end
            self.stages.version, self.stages.kex = received_at - began, end - received_at

    @contextlib.contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            setattr(self.stages, stage, time.monotonic() - began)
