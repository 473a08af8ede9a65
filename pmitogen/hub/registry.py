"""All hosts of a run: made once however many ask, connected in parallel, closed together.

Every method is for the I/O thread unless it says otherwise; what blocks happens on threads of its own and comes back by
``defer``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import mitogen.core

from pmitogen.errors import ConnectError, ConnectionLost, Error
from pmitogen.hub import bootstrap
from pmitogen.hub import session as logins
from pmitogen.hub.blob_store import Blobs
from pmitogen.hub.host import LOGIN_ENDED, Host, State
from pmitogen.hub.mitogen_router import Broker, Router
from pmitogen.hub.requests import Header, Request
from pmitogen.hub.scheduler import Guard, Scheduler, Work
from pmitogen.hub.sharing.outliving import OutlivingConnections, persistence
from pmitogen.hub.sharing.shared_connections import SharedConnections
from pmitogen.hub.trace import Trace
from pmitogen.logging import register_secret
from pmitogen.transport.auth.credentials import Prompt
from pmitogen.util.caller import CallerEnvironment

if TYPE_CHECKING:
    from pmitogen.transport.connect import JumpHostPool

LOG = logging.getLogger("pmitogen.hub")
LAST_OUTPUT = 0.2  # seconds that the stderr of a process may arrive after its end is known


class Contexts:
    """See the head of this file. Construct it on any thread; it starts the I/O thread.

    :param shares: whether option sets that resolve to the same connection share it (see sharing/).
    """

    def __init__(self, shares: bool = False) -> None:
        self.broker = Broker()
        self.scheduler = Scheduler(self.broker)
        self.guard = Guard(self.scheduler, self._failed)  # of what belongs to no host and no client
        self.router = Router(self.broker, self._on_message)
        self.blobs = Blobs()
        self.hops = _new_hops()
        self._hosts: dict[str, Host] = {}
        self._logins: weakref.WeakSet[logins.Login] = weakref.WeakSet()
        self._by_context: dict[int, Host] = {}
        self.trace: Trace | None = None
        self._shared = SharedConnections() if shares else None
        self._outliving = OutlivingConnections()
        self._closing, self._close_reason = False, ""
        self._when_empty: Callable[[], None] | None = None
        self.when_ended: Callable[[], None] = lambda: None  # called when the I/O thread ends, on it
        mitogen.core.listen(self.broker, "shutdown", self._close_all)
        mitogen.core.listen(self.broker, "exit", lambda: self.when_ended())

    def defer(self, work: Work, *args: Any) -> bool:
        """Have *work* called on the I/O thread. Any thread. False: that thread has ended."""
        return self.guard.defer(work, *args)

    @staticmethod
    def _failed(exc: Exception) -> None:
        """Work that belongs to no host and no client has failed."""
        LOG.error("internal error", exc_info=exc)

    def host(self, options: Header, caller: CallerEnvironment | None = None, ask: Prompt | None = None) -> Host:
        """The host with exactly these options of this caller, made if there is none; a login then asks a person by *ask*.

        *caller*: None for this process.
        """
        caller = caller or CallerEnvironment.current()
        key = _key(options, caller)
        found = self._hosts.get(key)
        if found is None:
            for secret in logins.secrets_of(options):
                register_secret(secret)
            found = self._hosts[key] = Host(self, options, caller)
            found.keys.add(key)
            found.ask = ask
        return found

    def hosts(self) -> list[Host]:
        """All hosts that are not dead."""
        return list(dict.fromkeys([*self._hosts.values(), *self._outliving]))

    def forget(self, host: Host) -> None:
        """Its connection has ended."""
        for key in host.keys:
            if self._hosts.get(key) is host:
                del self._hosts[key]
        if self._shared is not None:
            self._shared.release(host)
        if host.wire.booting is not None:
            self._by_context.pop(host.wire.booting.context_id, None)
        self._outliving.take(host)
        self._outliving.close_unused(self.hosts())
        if self._when_empty is not None and not self.hosts():
            self._when_empty()

    def close_host(self, options: Header, caller: CallerEnvironment) -> None:
        """Close the connection with exactly these options of this caller, if there is one."""
        host = self._hosts.get(_key(options, caller))
        if host is not None:
            host.close()

    def replace(self, host: Host) -> Host:
        """What the next request to a dead host should use."""
        return self.host(host.options, host.caller, host.ask)

    def renew(self, host: Host, reconnect: bool) -> Host:
        """Take the place of a host whose session is not what a new one would be: with a new session, or else a new connection.

        Requests under way go on in the old session; then it is ended (``close_session``).
        """
        new = Host(self, host.options, host.caller)
        new.keys = host.keys
        self._hosts.update(dict.fromkeys(new.keys, new))
        if self._shared is not None:
            self._shared.hand_over(host, new)
        new.ask, new.state, new.needs_python = host.ask, State.CONNECTING, True
        python = [host.exe] if host.exe else None
        if reconnect or host.login is None:
            self.connect(new, python)
            return new
        login = new.login = host.login

        def on_error(exc: Error) -> None:
            new.log.debug("no further session: %s", exc.message)
            new.login = None
            self.connect(new, python)  # as ssh does where MaxSessions allows no other

        def defer_error(exc: Error) -> None:
            new.guard.defer(on_error, exc)

        candidates = _candidates(new, python)
        logins.run_in_thread(new.name, lambda: self._boot(new, login, candidates), defer_error)
        return new

    def close_session(self, host: Host) -> None:
        """End a session that another has taken the place of; the connection goes on, if that is the other's."""
        booting, successor = host.wire.booting, host.renewal.successor
        host.wire.shut()
        if booting is not None:
            self._by_context.pop(booting.context_id, None)
            booting.stream.on_disconnect(self.broker)
        if host.login is not None and (successor is None or successor.login is not host.login):
            host.login.close()

    # Connecting

    def connect(self, host: Host, python: list[str] | None) -> None:
        """Log in and start Python; *python* is the interpreter that the first request wants, if it names one."""
        login = logins.Login(host.options, host.caller, self.router, self.hops, host.ask)
        self._logins.add(login)
        candidates = _candidates(host, python)

        def work() -> None:
            login.resolve()
            if self._shared is not None:
                other = self._shared.claim(login.identity(), host)
                if other is not host:
                    host.guard.defer(self._join, host, other, python)
                    return
            login.connect()
            host.log.debug("logged in")
            login.link.on_lost(lambda reason: host.guard.defer(self._lost, host, login, reason))
            if host.needs_python:
                self._boot(host, login, candidates)
            else:
                host.guard.defer(self._on_login, host, login)

        logins.run_in_thread(host.name, work, lambda exc: self._connect_failed(host, login, exc))

    def _join(self, host: Host, other: Host, python: list[str] | None) -> None:
        """Another host has the connection that this one would make."""
        if host.state is not State.CONNECTING:  # meanwhile
            return
        if other.state is State.DEAD:
            self.connect(host, python)
            return
        host.log.debug("uses the connection to %s", other.peer)
        if self._outliving.take(other):
            other.begin_run(host)
        for key in host.keys:
            self._hosts[key] = other
        other.keys |= host.keys
        host.join(other)

    def _connect_failed(self, host: Host, login: logins.Login, exc: Error) -> None:
        login.close()
        host.guard.defer(host.fail, exc)

    def _on_login(self, host: Host, login: logins.Login) -> None:
        if self._closing:  # meanwhile
            login.close()
        else:
            host.on_login(login)

    def reboot(self, host: Host, python: list[str] | None = None) -> None:
        """Start Python on a host that had none, or needed none so far; *python*: the interpreter that the request names."""
        login, candidates = host.login, _candidates(host, python)
        assert login is not None
        logins.run_in_thread(
            host.name, lambda: self._boot(host, login, candidates), lambda exc: self._connect_failed(host, login, exc)
        )

    def _boot(self, host: Host, login: logins.Login, candidates: tuple[str, ...]) -> None:
        """On the login's thread."""
        booting = login.boot(candidates, host.guard, on_end=lambda: self._boot_ended(host, login, booting))
        host.guard.defer(self._on_channel, host, login, booting)

    def _on_channel(self, host: Host, login: logins.Login, booting: logins.Booting) -> None:
        if self._closing:  # while it was being made
            booting.stream.on_disconnect(self.broker)
            login.close()
            return
        self._by_context[booting.context_id] = host
        self.router.adopt(booting.context_id, booting.stream)
        host.on_channel(booting, login)
        booting.stream.start()  # last: what has arrived already is handled at once, and that may be the agent's hello
        limit = login.start_timeout
        host.guard.later(limit, self._boot_overdue, host, login, booting, limit)

    def _boot_overdue(self, host: Host, login: logins.Login, booting: logins.Booting, limit: float) -> None:
        if host.wire.booting is booting and not booting.stream.booted:
            host.fail(
                ConnectError(
                    f"{login.link.peer}: no Python came up within {limit:.3g} seconds{bootstrap.last_output(booting.stream)}",
                    "python",
                )
            )

    def _boot_ended(self, host: Host, login: logins.Login, booting: logins.Booting) -> None:
        """The channel has ended: there was no Python, or the host is lost."""
        stream = booting.stream
        self._by_context.pop(booting.context_id, None)
        if host.wire.booting is not booting:
            return
        peer = login.link.peer
        lost = login.link.end_reason or stream.channel.timeout_reason
        if stream.booted and (lost or host.state is not State.BOOTING):
            host.fail(ConnectionLost(f"{peer}: {lost or LOGIN_ENDED}{bootstrap.last_output(stream)}"))
        elif lost:
            host.fail(ConnectionLost(f"{peer}: {lost}"))
        elif bootstrap.no_python_marker(stream.token) in stream.noise.splitlines():
            host.log.debug("no usable Python")
            too_old = bootstrap.too_old(stream.complaints)
            host.on_no_python(login, f"no usable Python 2.7 or 3 was found{f' ({too_old})' if too_old else ''}")
        elif stream.booted or bootstrap.shell_marker(stream.token) in stream.noise:
            host.log.debug("Python does not start")
            host.on_no_python(login, f"Python does not start{bootstrap.last_output(stream)}", is_broken=True)
        else:
            host.log.debug("the login shell did not start Python")
            host.on_no_python(
                login,
                f"the login shell did not start Python{bootstrap.last_output(stream)}",
                runs_sh=False,
            )

    def give_up_boot(self, host: Host) -> None:
        """The interpreter has ended before it was up. A moment later, when its last output is here, the channel is closed."""
        booting = host.wire.booting
        if booting is not None:
            host.guard.later(LAST_OUTPUT, booting.stream.on_disconnect, self.broker)

    def _lost(self, host: Host, login: logins.Login, reason: str) -> None:
        if host.login is None:
            host.fail(ConnectionLost(reason))
        each: Host | None = host
        while each is not None:
            if each.login is login:
                each.fail(ConnectionLost(reason))
            each = each.renewal.successor

    # What hosts need

    def _on_message(self, context_id: int, data: bytes, packed: bool) -> None:
        host = self._by_context.get(context_id)
        if host is not None:
            host.guard.run(host.on_message, data, packed)

    def plan(self, become: Mapping[str, Any]) -> Header:
        """The plan for a raw become request. Raises UsageError."""
        from pmitogen.flags.become.plan import plan

        for secret in logins.secrets_of(become):
            register_secret(secret)
        made, _findings = plan(
            become["method"],
            exe=become.get("exe"),
            flags=become.get("flags"),
            user=become.get("user"),
            password=become.get("password"),
            chdir=become.get("chdir"),
            otp=become.get("otp"),
            prompt_l10n=become.get("prompt_l10n") or (),
            timeout=float(become.get("timeout") or 10),
            via=self.plan(become["via"]) if become.get("via") else None,
        )
        return dict(made)

    # Hosts without Python

    def plain(self, host: Host, request: Request) -> None:
        """Serve a request over bare SSH."""
        from pmitogen.hub import plain_requests

        plain_requests.serve(host, request)

    def plain_follow(self, host: Host, request: Request, header: Header, body: bytes) -> None:
        """A frame for a request that is served over bare SSH."""
        from pmitogen.hub import plain_requests

        plain_requests.follow(request, header, body)

    # Between runs (see daemon/lifecycle.py)

    def retire(self, when_empty: Callable[[], None]) -> bool:
        """The run has ended: close all connections but those that are to outlive it. Returns whether there are any.

        Their time goes on while later runs are served, until one of these uses them.
        """
        self.end_trace()
        for host in self.hosts():
            if host in self._outliving:
                continue
            seconds = persistence(host)
            if seconds:
                self._outliving.add(host, seconds)
            else:
                host.close()
        self._hosts.clear()
        self._outliving.end_run(self.hops)
        self.hops = _new_hops()
        self._outliving.close_unused(self.hosts())
        self._when_empty = when_empty
        return bool(self._outliving)

    def resume(self) -> None:
        """Another run has come."""
        self._when_empty = None

    def end_trace(self) -> None:
        """Write the timeline of the run, if there is one. Any thread, but not while the I/O thread may add to it."""
        trace, self.trace = self.trace, None
        if trace is not None:
            with contextlib.suppress(OSError):
                trace.write()

    # The end

    def close(self, reason: str = "") -> None:
        """Close every connection and end the I/O thread. Any thread but that one; waits for it.

        *reason*: what unfinished requests are told.
        """
        self._closing, self._close_reason = True, reason
        self.broker.shutdown()
        self.broker.join()
        for login in list(self._logins):  # one that was still connecting has told the loop in vain
            login.close()
        self.hops.close()
        self._outliving.close()
        self.end_trace()

    def _close_all(self) -> None:
        """The I/O thread is going to end: because it was told to, or by a fault of ours."""
        told, self._closing = self._closing, True
        for host in self.hosts():
            if told:
                host.close(self._close_reason)
            else:
                host.fail(ConnectionLost(f"{host.name}: internal error; PMITOGEN_LOG=debug shows more"))
        self.scheduler.cancel_all()


def _new_hops() -> JumpHostPool:
    from pmitogen.transport.connect import JumpHostPool

    return JumpHostPool()


def _key(options: Header, caller: CallerEnvironment) -> str:
    return json.dumps(options, sort_keys=True) + caller.digest


def _candidates(host: Host, python: list[str] | None = None) -> tuple[str, ...]:
    """The interpreters to try: those that the user named; else the one that the first request wants, and the usual ones."""
    named = tuple(str(name) for name in host.options.get("boot_python") or ())
    return named or (tuple(python) if python and len(python) == 1 else ()) + bootstrap.CANDIDATES
