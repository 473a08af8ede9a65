"""The registry of hosts: one host per option set, connected in parallel, closed together.

Every method is for the I/O thread unless its docstring says otherwise. Blocking work runs on other threads, which report by
``defer``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

import mitogen.core

from pmitogen.errors import ConnectionLost
from pmitogen.hub.blob_store import BlobStore
from pmitogen.hub.host.connector import HostConnector
from pmitogen.hub.host.host import Host
from pmitogen.hub.login import Login
from pmitogen.hub.mitogen_router import Broker, Router
from pmitogen.hub.scheduler import Guard, Scheduler, Work
from pmitogen.hub.secret_options import secrets_of
from pmitogen.hub.sharing.persistent_connections import PersistentConnections, persistence
from pmitogen.hub.sharing.shared_connections import SharedConnections
from pmitogen.hub.trace import Trace
from pmitogen.hub.without_python.shell_requests import ShellRequests
from pmitogen.logging import register_secret
from pmitogen.transport.auth.credentials import Prompt
from pmitogen.util.caller import CallerEnvironment

if TYPE_CHECKING:
    from pmitogen.protocol.escalation_plan import EscalationPlan
    from pmitogen.protocol.requests import BecomeRequest, ConnectionOptions
    from pmitogen.transport.connection_warnings import ConnectionWarning, Warn
    from pmitogen.transport.jump_host_pool import JumpHostPool

LOG = logging.getLogger("pmitogen.hub")
CLOSE_TIMEOUT = 2.0  # seconds for the threads of all connections to end


class HostRegistry:
    """All hosts, and the I/O thread that serves them. May be constructed on any thread; starts the I/O thread.

    :param shares: whether option sets that resolve to the same connection share it (see sharing/).
    """

    def __init__(self, shares: bool = False) -> None:
        self.broker = Broker()
        self.scheduler = Scheduler(self.broker)
        self.guard = Guard(self.scheduler, self._log_failure)  # for work that belongs to no host and no client
        self.router = Router(self.broker, self._on_message)
        self.blobs = BlobStore()
        self.jump_hosts = _new_jump_hosts()
        self._hosts: dict[str, Host] = {}
        self._logins: weakref.WeakSet[Login] = weakref.WeakSet()
        self._hosts_by_context: dict[int, Host] = {}
        self.trace: Trace | None = None
        self._shared = SharedConnections() if shares else None
        self._persistent = PersistentConnections()
        self.is_closing, self._close_reason = False, ""
        self._on_empty: Callable[[], None] | None = None
        self.on_stopped: Callable[[], None] = lambda: None  # called when the I/O thread ends, on it
        self.on_warning: Warn = lambda warning: None  # called for each warning about a connection, on the I/O thread
        mitogen.core.listen(self.broker, "shutdown", self._close_all)
        mitogen.core.listen(self.broker, "exit", lambda: self.on_stopped())

    def defer(self, work: Work, *args: object) -> bool:
        """Call *work* on the I/O thread. Any thread. Returns False if that thread has ended."""
        return self.guard.defer(work, *args)

    @staticmethod
    def _log_failure(exc: Exception) -> None:
        """Log a failure of work that belongs to no host and no client."""
        LOG.error("internal error", exc_info=exc)

    def host(self, options: ConnectionOptions, caller: CallerEnvironment | None = None, ask: Prompt | None = None) -> Host:
        """Return the host with exactly these options of this caller; create it if there is none. *ask* prompts the user at login.

        *caller*: None for this process.
        """
        caller = caller or CallerEnvironment.current()
        key = _key(options, caller)
        existing = self._hosts.get(key)
        if existing is None:
            for secret in secrets_of(options):
                register_secret(secret)
            existing = self._hosts[key] = self._make_host(options, caller)
            existing.keys.add(key)
            existing.ask = ask
        return existing

    def _make_host(self, options: ConnectionOptions, caller: CallerEnvironment) -> Host:
        host = Host(options, caller, self.scheduler, self.router, self.blobs, self.plan, lambda: self.trace)
        host.connector = HostConnector(host, self)
        host.shell_backend = ShellRequests(host, self.router.writers.submit)
        return host

    def hosts(self) -> list[Host]:
        """Return all hosts that are not dead."""
        return list(dict.fromkeys([*self._hosts.values(), *self._persistent]))

    def forget(self, host: Host) -> None:
        """Remove *host*, whose connection has ended."""
        for key in host.keys:
            if self._hosts.get(key) is host:
                del self._hosts[key]
        if self._shared is not None:
            self._shared.release(host)
        self._persistent.take(host)
        self._end_if_unused()

    def _end_if_unused(self) -> None:
        """End the hub on standby if it has no connection left."""
        self._persistent.close_unused(self.hosts())
        if self._on_empty is not None and not self.hosts() and not self._persistent:
            self._on_empty()

    def close_host(self, options: ConnectionOptions, caller: CallerEnvironment) -> None:
        """Close the connection with exactly these options of this caller, if there is one."""
        host = self._hosts.get(_key(options, caller))
        if host is not None:
            host.close()

    @property
    def host_count(self) -> int:
        """The number of hosts that have a connection, or are about to."""
        return len(self._hosts)

    def replace_dead(self, host: Host) -> Host:
        """Return the host that takes the place of a dead one, for a client of the daemon. The library calls :meth:`host`."""
        return self.host(host.options, host.caller, host.ask)

    # For connectors (see connector.Connections)

    def new_login(self, host: Host) -> Login:
        """Return a login for *host*, not begun yet. It is closed with the hub."""
        login = Login(host.options, host.caller, self.router, self.jump_hosts, host.ask, self._warn)
        self._logins.add(login)
        return login

    def _warn(self, warning: ConnectionWarning) -> None:
        """Pass a warning on. Any thread."""
        self.defer(lambda: self.on_warning(warning))

    def leave_to_clients(self, login: Login) -> bool:
        """Return whether ``pmitogen ssh`` uses the connection of *login*; then it is closed when the last one ends."""
        return not self.is_closing and self._persistent.leave_to_clients(login)

    def take_back(self, login: Login) -> None:
        """Note that a client uses the connection of *login* no longer. I/O thread."""
        login.give_back()
        self._persistent.on_returned(login)
        self._end_if_unused()

    def claim(self, identity: Callable[[], bytes], host: Host) -> Host:
        """Return the host that has the connection with this identity; *host* gets it if there is none. Any thread."""
        return host if self._shared is None else self._shared.claim(identity(), host)

    def merge(self, host: Host, other: Host) -> None:
        """Make *host* use the connection of *other*."""
        if self._persistent.take(other):
            other.begin_run(host)
        for key in host.keys:
            self._hosts[key] = other
        other.keys |= host.keys
        host.join(other)

    def make_replacement(self, host: Host) -> Host:
        """Make a host that takes the place of *host* from now on."""
        new = self._make_host(host.options, host.caller)
        self._hosts.update(dict.fromkeys(host.keys, new))
        if self._shared is not None:
            self._shared.hand_over(host, new)
        return new

    def route_context(self, context_id: int, host: Host) -> None:
        """Deliver messages of the agent with this number to *host*."""
        self._hosts_by_context[context_id] = host

    def unroute_context(self, context_id: int) -> None:
        """Deliver no further messages of this agent."""
        self._hosts_by_context.pop(context_id, None)

    # What hosts need

    def _on_message(self, context_id: int, data: bytes, packed: bool) -> None:
        host = self._hosts_by_context.get(context_id)
        if host is not None:
            host.guard.run(host.on_message, data, packed)

    def plan(self, become: BecomeRequest) -> EscalationPlan:
        """Return the plan for a become request. Raises UsageError."""
        from pmitogen.flags.become.plan import plan

        for secret in secrets_of(become):
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
        return made

    # Between runs (see daemon/lifecycle.py)

    def end_run(self, on_empty: Callable[[], None]) -> bool:
        """Close all connections except those that outlive the run (ControlPersist). Returns whether there are any.

        Their timers continue while later runs are served, until one of these uses them.
        """
        self.end_trace()
        for host in self.hosts():
            if host in self._persistent:
                continue
            seconds = persistence(host)
            if seconds:
                self._persistent.add(host, seconds)
            else:
                host.close()
        self._hosts.clear()
        self._persistent.end_run(self.jump_hosts)
        self.jump_hosts = _new_jump_hosts()
        self._persistent.close_unused(self.hosts())
        self._on_empty = on_empty
        return bool(self._persistent)

    def start_run(self) -> None:
        """Begin another run."""
        self._on_empty = None

    def end_trace(self) -> None:
        """Write the timeline of the run, if there is one. Any thread, but not while the I/O thread may add to it."""
        trace, self.trace = self.trace, None
        if trace is not None:
            with contextlib.suppress(OSError):
                trace.write()

    # The end

    def close(self, reason: str = "") -> None:
        """Close every connection and end the I/O thread. Any thread but that one; waits for it.

        *reason*: the message of unfinished requests.
        """
        self.is_closing, self._close_reason = True, reason
        for host in list(self._hosts.values()):
            host.shell_backend.end_commands()
        self.broker.shutdown()
        self.broker.join()
        logins = list(self._logins)
        for login in logins:  # one may still be connecting
            login.close()
        deadline = time.monotonic() + CLOSE_TIMEOUT
        for login in logins:
            if login.connection is not None:
                login.connection.wait_closed(deadline - time.monotonic())
        self.jump_hosts.close()
        self._persistent.close()
        self.end_trace()

    def _close_all(self) -> None:
        """End all hosts, because the I/O thread ends: by :meth:`close`, or by an internal error."""
        was_requested, self.is_closing = self.is_closing, True
        for host in self.hosts():
            if was_requested:
                host.close(self._close_reason)
            else:
                host.fail(ConnectionLost(f"{host.name}: internal error; PMITOGEN_LOG=debug shows more"))
        self.scheduler.cancel_all()


def _new_jump_hosts() -> JumpHostPool:
    from pmitogen.transport.jump_host_pool import JumpHostPool

    return JumpHostPool()


def _key(options: ConnectionOptions, caller: CallerEnvironment) -> str:
    return json.dumps(options, sort_keys=True) + caller.digest
