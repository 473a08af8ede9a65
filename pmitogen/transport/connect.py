"""Connecting, as the protocol goes: resolve, dial or pass through bastions, exchange keys, check the host key, log in.

One call makes one connection, on the caller's thread; many run side by side. Every stage shares one deadline, every failure is a
:class:`~pmitogen.errors.ConnectError` of one line that says where, at which stage, what happened and what would help.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import paramiko

from pmitogen.errors import ConnectError
from pmitogen.flags.ssh.resolve import MAX_HOPS, resolve_hop
from pmitogen.flags.ssh.settings import JumpHop, Settings
from pmitogen.transport import connect_limits, log_file
from pmitogen.transport.auth import jump_credentials
from pmitogen.transport.auth.authenticate import AuthReport, authenticate
from pmitogen.transport.auth.credentials import Credentials
from pmitogen.transport.connection import Link, Stages
from pmitogen.transport.dial import describe, dial, resolve
from pmitogen.transport.hostkeys.algorithm_order import host_key_algorithms
from pmitogen.transport.hostkeys.verify import check_host_key
from pmitogen.transport.jump_hosts import HopPool, Resolver
from pmitogen.transport.paramiko_ext import algorithms
from pmitogen.transport.paramiko_ext.keepalive import DEFAULT_INTERVAL
from pmitogen.transport.paramiko_ext.transport import ClientTransport
from pmitogen.transport.proxy_command import ProxyCommand
from pmitogen.transport.sharing import endpoint
from pmitogen.util import threads
from pmitogen.util.peer_text import escape

__all__ = ["HopPool", "Link", "Resolver", "ShownKey", "connect", "shown_host_key"]

_Outcome = TypeVar("_Outcome")


def connect(
    settings: Settings,
    credentials: Credentials,
    *,
    hops: HopPool,
    deadline: float,
    resolver: Resolver = resolve_hop,
    ask: Callable[[str], bool] | None = None,
) -> Link:
    """Make a connection. Blocks; any thread but a transport's own.

    *hops* keeps the connections to jump hosts, whose settings *resolver* finds. *deadline* is in ``time.monotonic()`` seconds.
    *ask* asks a person whether to trust a new host key.
    Raises ConnectError with the stage that failed, AuthenticationError.
    """
    return _Connecting(settings, credentials, hops, deadline, resolver, ask, ()).link()


class ShownKey(NamedTuple):
    """A host key that a server proved to have, and what it said of itself. *offered*: all its host key algorithms."""

    blob: bytes
    address: str  # the peer's IP address; "" behind a proxy
    server: str  # SSH-2.0-...
    offered: tuple[str, ...]


def shown_host_key(
    settings: Settings,
    names: Sequence[str],
    *,
    hops: HopPool,
    deadline: float,
    credentials: Credentials | None = None,
    ask: Callable[[str], bool] | None = None,
) -> ShownKey:
    """The host key that the server shows when asked for one of the algorithms *names*; nothing is checked, nobody logs in.

    But for jump hosts: they are connected to as by :func:`connect`, with *credentials* and *ask*.
    Raises ConnectError: stage ``kex`` where the server has no such key. Blocks.
    """
    return _Connecting(settings, credentials or Credentials(), hops, deadline, resolve_hop, ask, ()).shown_key(names)


@dataclasses.dataclass(eq=False, repr=False)
class _Carrier:
    """What the SSH connection runs over."""

    sock: Any  # a socket, or a channel through a bastion
    address: str = ""  # the peer's IP address, where we know it
    command: ProxyCommand | None = None
    close_log: Callable[[], None] = lambda: None

    def close(self) -> None:
        """End what carries and what logs; the socket itself is the transport's. Idempotent."""
        if self.command is not None:
            self.command.close()
        self.close_log()


@dataclasses.dataclass(eq=False, repr=False)
class _Connecting:
    """One connection in the making. *path*: the bastions that we are being made for, outermost target first."""

    settings: Settings
    credentials: Credentials
    hops: HopPool
    deadline: float
    resolver: Resolver
    ask: Callable[[str], bool] | None
    path: tuple[Hashable, ...]

    def __post_init__(self) -> None:
        self.where = describe(self.settings)
        self.stages = Stages()

    def link(self) -> Link:
        """Connect and log in."""
        return self._at_the_door(self._attempt)

    def shown_key(self, names: Sequence[str]) -> ShownKey:
        """Connect, and go when the server has shown a key for one of these algorithms."""
        return self._at_the_door(lambda: self._look(names))

    def _at_the_door(self, attempt: Callable[[], _Outcome]) -> _Outcome:
        """Make an attempt, and another where the server turned us away at its door."""
        if self.settings.refuseconnection:
            raise ConnectError(f"{self.where}: RefuseConnection: {self.settings.refuseconnection}", "resolve")
        count = 1
        while True:
            try:
                with connect_limits.turn(self._door(), self.where, self.deadline):
                    return attempt()
            except connect_limits.TurnedAway as error:
                if not connect_limits.pause_before_retry(count, error, self.deadline):
                    raise ConnectError(
                        f"{self.where}: the server closed the connection before the key exchange, {count} times; "
                        "too many at once (MaxStartups in its sshd_config), a penalty (PerSourcePenalties), or a filter "
                        "such as hosts.deny",
                        "kex",
                    ) from None
                count += 1

    def _door(self) -> Hashable:
        """Whose unfinished logins count together."""
        return self.settings.hostname, self.settings.port, self.settings.proxyjump, self.settings.proxycommand

    def _limit(self) -> float:
        # ConnectTimeout covers the way there and the key exchange, not the login (ssh_config(5)).
        if self.settings.connecttimeout:
            return min(self.deadline, time.monotonic() + self.settings.connecttimeout)
        return self.deadline

    def _attempt(self) -> Link:
        with self._exchanged(self._limit(), self._wanted_host_keys) as (transport, carrier):
            with self._timed("auth"):
                report, warnings = self._log_in(transport, carrier)
            warnings += algorithms.weakness(transport, self.settings)
            return Link(self.settings, transport, self.stages, report, warnings, carrier.close)

    def _look(self, names: Sequence[str]) -> ShownKey:
        with self._exchanged(self._limit(), lambda _address: tuple(names)) as (transport, carrier):
            blob = transport.get_remote_server_key().asbytes()
            server = escape(transport.remote_version)
            shown = ShownKey(blob, carrier.address, server, tuple(transport.peer_offer["host key"]))
            transport.close()
            carrier.close()
            return shown

    @contextlib.contextmanager
    def _exchanged(self, limit: float, host_keys: Callable[[str], tuple[str, ...]]) -> Iterator[tuple[ClientTransport, _Carrier]]:
        """A transport after its key exchange; closed, with what carries it, where the body fails."""
        carrier = self._carry(limit)
        transport: ClientTransport | None = None
        try:
            transport = self._transport(carrier, host_keys)
            with self._timed("kex"):
                self._exchange_keys(transport, carrier, limit)
            yield transport, carrier
        except BaseException:
            if transport is not None:
                transport.close()
            else:
                carrier.sock.close()
            carrier.close()
            raise

    def _wanted_host_keys(self, address: str) -> tuple[str, ...]:
        return host_key_algorithms(self.settings, address)

    # The way there --------------------------------------------------------------------------------------------------------

    def _carry(self, limit: float) -> _Carrier:
        if self.settings.proxyjump:
            with self._timed("proxy"):
                return self._jump(limit)
        if self.settings.proxycommand:
            command = ProxyCommand(self.settings)
            return _Carrier(command.sock, command=command)
        with self._timed("resolve"):
            addresses = resolve(self.settings)
        with self._timed("tcp"):
            sock = dial(self.settings, addresses, limit)
        return _Carrier(sock, address=sock.getpeername()[0])

    def _jump(self, limit: float) -> _Carrier:
        """Through the last of the hops, which is reached through those before it."""
        *before, last = self.settings.proxyjump
        hop = self._hop_settings(last, tuple(before))
        path = (*self.path, endpoint(self.settings))
        if endpoint(hop) in path or len(path) > MAX_HOPS:
            raise ConnectError(f"{self.where}: ProxyJump: {last.host}: the jump hosts lead back to themselves", "proxy")
        theirs = jump_credentials.for_hop(self.credentials, self.settings, last, hop)
        connecting = _Connecting(hop, theirs, self.hops, limit, self.resolver, self.ask, path)
        bastion = self.hops.link_to(hop, theirs, limit, connecting.link)
        return _Carrier(bastion.open_tunnel(self.settings.hostname, self.settings.port, limit))

    def _hop_settings(self, hop: JumpHop, before: tuple[JumpHop, ...]) -> Settings:
        settings = self.resolver(hop, self.settings)
        # With "-J a,b" b is reached through a, whatever its own configuration says; the first hop's own ProxyJump stands.
        return settings._replace(proxyjump=before, proxycommand=None) if before else settings

    # The key exchange -----------------------------------------------------------------------------------------------------

    def _transport(self, carrier: _Carrier, host_keys: Callable[[str], tuple[str, ...]]) -> ClientTransport:
        settings = self.settings
        interval = DEFAULT_INTERVAL if settings.serveraliveinterval is None else settings.serveraliveinterval
        log, carrier.close_log = log_file.open_log(settings)
        transport = ClientTransport(carrier.sock, self.where, interval, settings.serveralivecountmax, log)
        algorithms.prepare(transport, settings)
        transport.wanted_host_keys = host_keys(carrier.address)
        transport.packetizer.set_rekey_limit(*settings.rekeylimit)
        transport.limit_silence(settings.channeltimeout, settings.channeltimeout_global)
        if settings.versionaddendum:
            transport.local_version += f" {settings.versionaddendum}"
        return transport

    def _exchange_keys(self, transport: ClientTransport, carrier: _Carrier, limit: float) -> None:
        done = threading.Event()
        remaining = max(0.1, limit - time.monotonic())
        transport.banner_timeout = transport.handshake_timeout = remaining
        with threads.starting():
            transport.start_client(event=done)
        if not done.wait(remaining) or not (transport.initial_kex_done and transport.active):
            in_time = done.is_set()
            error = transport.get_exception()
            transport.close()
            raise self._kex_failure(transport, carrier, error, in_time and time.monotonic() < limit)

    def _kex_failure(
        self, transport: ClientTransport, carrier: _Carrier, error: Exception | None, in_time: bool
    ) -> ConnectError | connect_limits.TurnedAway:
        greeting = escape(" | ".join(line for line in transport.packetizer.greeting if not line.startswith("SSH-")))
        words = algorithms.disagreement(transport)
        stage = "kex"
        if words is None and not in_time:
            heard = "the key exchange did not end" if transport.remote_version else "no SSH greeting came"
            words = f"{heard} within the timeout; is port {self.settings.port} its SSH port, and is the server well?"
        elif words is None and "MaxStartups" in greeting:
            return connect_limits.TurnedAway(sure=True)
        elif words is None and carrier.command is not None:
            stage, words = "proxy", carrier.command.last_words()
        elif words is None and not transport.peer_offer:
            if not greeting and not _is_garbage(error):
                return connect_limits.TurnedAway(sure=False)
            words = f"not an SSH greeting: {greeting or escape(str(error))}; is port {self.settings.port} its SSH port?"
        elif words is None:
            words = f"the key exchange failed: {transport.end_reason or escape(str(error))}"
        return ConnectError(f"{self.where}: {words}", stage)

    # Logging in -----------------------------------------------------------------------------------------------------------

    def _log_in(self, transport: ClientTransport, carrier: _Carrier) -> tuple[AuthReport, tuple[str, ...]]:
        verdict = check_host_key(self.settings, transport.get_remote_server_key(), carrier.address, ask=self.ask)
        self.settings = verdict.restrict(self.settings)
        return authenticate(transport, self.settings, self.credentials, self.deadline), verdict.warnings

    @contextlib.contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            setattr(self.stages, stage, time.monotonic() - began)


def _is_garbage(error: Exception | None) -> bool:
    """Whether the peer spoke, but not SSH."""
    return isinstance(error, paramiko.SSHException) and "banner" not in str(error)
