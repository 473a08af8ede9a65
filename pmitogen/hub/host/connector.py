"""Make the connection of one host: login, session, Python, and the end of each.

Methods run on the hub's I/O thread unless they say otherwise. Blocking work is done on a login thread, whose results come back by
``host.guard.defer``. The registry replaces a dead host; ``replace_session`` is for a stale one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from pmitogen.errors import ConnectError, ConnectionLost, Error
from pmitogen.hub import bootstrap
from pmitogen.hub.host.answer_reader import LOGIN_INTERPRETER_ENDED
from pmitogen.hub.host.states import State
from pmitogen.hub.login import BootChannel, Login, run_in_thread
from pmitogen.transport.errors import SessionRefused
from pmitogen.transport.login_limits import SLOT_TIMEOUT

if TYPE_CHECKING:
    from pmitogen.hub.host.host import Host
    from pmitogen.hub.mitogen_router import Broker, Router
    from pmitogen.transport.jump_host_pool import JumpHostPool

LAST_OUTPUT = 0.2  # seconds that the stderr of a process may arrive after its end is known


class Connections(Protocol):
    """All connections of the hub, as far as the connector of one host needs them."""

    router: Router
    broker: Broker
    jump_hosts: JumpHostPool

    @property
    def host_count(self) -> int:
        """The number of hosts that have a connection, or are about to."""

    @property
    def is_closing(self) -> bool:
        """True if the hub is ending."""

    def new_login(self, host: Host) -> Login:
        """Return a login for *host*, not begun yet. It is closed with the hub."""

    def leave_to_clients(self, login: Login) -> bool:
        """Return whether clients of ``pmitogen ssh`` use the connection; then it is closed when the last one ends. I/O thread."""

    def claim(self, identity: Callable[[], bytes], host: Host) -> Host:
        """Return the host that has the connection with this identity; *host* gets it if there is none. Any thread."""

    def merge(self, host: Host, other: Host) -> None:
        """Make *host* use the connection of *other*."""

    def make_replacement(self, host: Host) -> Host:
        """Make a host that takes the place of *host* from now on."""

    def route_context(self, context_id: int, host: Host) -> None:
        """Deliver messages of the agent with this number to *host*."""

    def unroute_context(self, context_id: int) -> None:
        """Deliver no further messages of this agent."""

    def forget(self, host: Host) -> None:
        """Remove *host*, whose connection has ended."""


class HostConnector:
    """See interfaces.Connector. One for each host."""

    def __init__(self, host: Host, connections: Connections) -> None:
        self._host, self._connections = host, connections

    @property
    def host_count(self) -> int:
        return self._connections.host_count

    def connect(self, python: list[str] | None) -> None:
        self._connect(python, None)

    def _connect(self, python: list[str] | None, predecessor: Login | None) -> None:
        host = self._host
        login = self._connections.new_login(host)
        login.predecessor = predecessor
        candidates = self._candidates(python)

        def on_lost(reason: str) -> None:
            host.guard.defer(self._on_connection_lost, login, reason)

        def work() -> None:
            login.resolve()
            other = self._connections.claim(login.identity, host)
            if other is not host:
                host.guard.defer(self._join, other, python)
                return
            connection = login.connect()
            host.log.debug("logged in")
            connection.on_lost(on_lost)
            if host.needs_python:
                self._boot(login, candidates)
            else:
                host.guard.defer(self._on_login, login)

        self._run_in_thread(work, lambda exc: self._on_connect_failed(login, exc))

    def start_python(self, python: list[str] | None) -> None:
        login, candidates = self._host.login, self._candidates(python)
        assert login is not None
        login.begin_start()

        def on_error(exc: Error) -> None:
            if isinstance(exc, SessionRefused):
                self._host.guard.defer(self._host.on_session_refused)
            else:
                self._on_connect_failed(login, exc)

        self._run_in_thread(lambda: self._boot(login, candidates, SLOT_TIMEOUT), on_error)

    def abandon_start(self) -> None:
        booting = self._host.agent_channel.booting
        if booting is not None:
            self._host.guard.call_later(LAST_OUTPUT, booting.stream.on_disconnect, self._connections.broker)

    def run_elsewhere(self, line: str, timeout: float) -> None:
        """See interfaces.Connector."""
        from pmitogen.transport.sessions import exec_command

        host, connections = self._host, self._connections
        # The first connection has given its warnings, and has its forwardings.
        login = Login(
            host.options,
            host.caller,
            connections.router,
            connections.jump_hosts,
            None,
            lambda warning: None,
            starts_forwardings=False,
        )
        try:
            exec_command.run(login.connect(), line, timeout=timeout)
        finally:
            login.close()

    def replace_session(self, reconnect: bool) -> Host:
        """See interfaces.Connector. Requests under way go on in the old session, which :meth:`close_session` then ends."""
        host = self._host
        new = self._connections.make_replacement(host)
        new.succeed(host)
        python = [host.executable] if host.executable else None
        if reconnect or host.login is None:
            HostConnector(new, self._connections)._connect(python, host.login)
        else:
            new.login = host.login
            HostConnector(new, self._connections)._open_session(host.login, python)
        return new

    def _open_session(self, login: Login, python: list[str] | None) -> None:
        """Start Python in a further session of a connection; if there can be none, make a connection."""
        host, candidates = self._host, self._candidates(python)

        def on_error(exc: Error) -> None:
            host.log.debug("no further session: %s", exc.message)
            host.login = None
            self._connect(python, login)  # as ssh does where MaxSessions allows no other

        def defer_error(exc: Error) -> None:
            host.guard.defer(on_error, exc)

        self._run_in_thread(lambda: self._boot(login, candidates), defer_error)

    def close_session(self) -> None:
        host = self._host
        booting, replacement = host.agent_channel.booting, host.replacement
        host.agent_channel.reset()
        if booting is not None:
            self._connections.unroute_context(booting.context_id)
            booting.stream.on_disconnect(self._connections.broker)
        if host.login is not None and (replacement is None or replacement.login is not host.login):
            if not self._connections.leave_to_clients(host.login):
                host.login.close()

    def close(self) -> None:
        host = self._host
        booting = host.agent_channel.booting
        if booting is not None:
            self._connections.unroute_context(booting.context_id)
        if host.login is not None and self._connections.leave_to_clients(host.login):
            host.login = None
        self._connections.forget(host)
        if host.login is not None:
            host.login.close()  # first: then nothing has to be sent on its channel
        if booting is not None:
            booting.stream.on_disconnect(self._connections.broker)

    def _run_in_thread(self, work: Callable[[], None], on_error: Callable[[Error], None]) -> None:
        run_in_thread(self._connections.router.host_threads, self._host.name, work, on_error)

    # Results of threads

    def _join(self, other: Host, python: list[str] | None) -> None:
        """Use the connection of another host, which equals the one that this host would make."""
        if self._host.state is not State.CONNECTING:  # it has ended meanwhile
            return
        if other.state is State.DEAD:
            self.connect(python)
            return
        self._host.log.debug("sharing the connection to %s", other.peer)
        self._connections.merge(self._host, other)

    def _on_connect_failed(self, login: Login, exc: Error) -> None:
        """Close the connection and end the host with *exc*. Any thread."""
        login.close()
        self._host.guard.defer(self._host.fail, exc)

    def _on_login(self, login: Login) -> None:
        if self._connections.is_closing:  # since the login
            login.close()
        else:
            self._host.on_login(login)

    def _on_connection_lost(self, login: Login, reason: str) -> None:
        """End this host and its replacements, as far as they use the lost connection."""
        if self._host.login is None:
            self._host.fail(ConnectionLost(reason))
        if self._host.login is login:
            self._host.fail(ConnectionLost(reason))
        each = self._host.replacement
        while each is not None:
            if each.login is login:
                each.fail(ConnectionLost(reason))
            each = each.replacement

    # Python's start

    def _candidates(self, python: list[str] | None) -> tuple[str, ...]:
        """Return the interpreters to try: the user's choice; otherwise that of the first request, and the usual ones."""
        named = tuple(str(name) for name in self._host.options.get("boot_python") or ())
        return named or (tuple(python) if python and len(python) == 1 else ()) + bootstrap.CANDIDATES

    def _boot(self, login: Login, candidates: tuple[str, ...], slot_timeout: float = math.inf) -> None:
        """Open a session channel and send the bundle. On the login thread; raises Error."""

        def on_end() -> None:
            self._on_channel_end(login, booting)

        booting = login.boot(candidates, self._host.guard, on_end, slot_timeout)
        self._host.guard.defer(self._on_channel, login, booting)

    def _on_channel(self, login: Login, booting: BootChannel) -> None:
        if self._connections.is_closing:  # since the channel was opened
            booting.stream.on_disconnect(self._connections.broker)
            login.close()
            return
        self._connections.route_context(booting.context_id, self._host)
        self._connections.router.register_stream(booting.context_id, booting.stream)
        self._host.on_channel(booting, login)
        booting.stream.start()  # last: data that has arrived, such as the hello of the agent, is handled at once
        limit = login.start_timeout
        self._host.guard.call_later(limit, self._on_boot_timeout, login, booting, limit)

    def _on_boot_timeout(self, login: Login, booting: BootChannel, limit: float) -> None:
        if self._host.agent_channel.booting is not booting or booting.stream.booted:
            return
        if not self._host.needs_python:  # it was started ahead, and nothing waits for it
            booting.stream.on_disconnect(self._connections.broker)
        else:
            last_output = bootstrap.last_output(booting.stream)
            self._host.fail(ConnectError(f"{login.peer}: Python did not start within {limit:.3g} seconds{last_output}", "python"))

    def _on_channel_end(self, login: Login, booting: BootChannel) -> None:
        """Handle the end of the channel: there is no usable Python, or the connection is lost."""
        host, stream = self._host, booting.stream
        self._connections.unroute_context(booting.context_id)
        if host.agent_channel.booting is not booting or host.state is State.DEAD:
            return
        peer, connection = login.peer, login.connection
        lost = (connection.end_reason if connection is not None else None) or stream.channel.timeout_reason
        last_output = bootstrap.last_output(stream)
        if stream.booted and (lost or host.state is not State.BOOTING):
            host.fail(ConnectionLost(f"{peer}: {lost or LOGIN_INTERPRETER_ENDED}{last_output}"))
        elif lost:
            host.fail(ConnectionLost(f"{peer}: {lost}"))
        elif bootstrap.no_python_marker(booting.token) in stream.preamble.splitlines():
            host.log.debug("no usable Python")
            too_old = bootstrap.too_old(stream.stderr_tail)
            host.on_no_python(login, f"no usable Python 2.7 or 3 was found{f' ({too_old})' if too_old else ''}")
        elif stream.booted or bootstrap.shell_marker(booting.token) in stream.preamble:
            host.log.debug("Python does not start")
            host.on_no_python(login, f"Python does not start{last_output}", is_broken=True)
        else:
            host.log.debug("the login shell did not start Python")
            host.on_no_python(login, f"the login shell did not start Python{last_output}", runs_sh=False)
