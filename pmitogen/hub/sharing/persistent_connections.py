"""Connections that outlive their run (ControlPersist), until a later run uses them or their time is over.

Connections that the hub needs no longer, but a client of ssh_clients.py does, stay open for that client alone, as those of ssh do
when its master is told to stop.

The jump hosts of such a connection stay connected with it. They serve no other connection: a later run logs in to its own.
Everything here runs on the hub's I/O thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pmitogen.errors import ConnectError
from pmitogen.hub.host.states import State
from pmitogen.hub.login import close_on_thread
from pmitogen.util import threads

if TYPE_CHECKING:
    from pmitogen.hub.host.host import Host
    from pmitogen.hub.login import Login
    from pmitogen.hub.scheduler import Timer
    from pmitogen.transport.jump_host_pool import JumpHostPool


def persistence(host: Host) -> int:
    """Return the seconds that a connection outlives its run; 0: none; -1: without a limit."""
    settings = host.login.settings if host.login is not None else None
    if settings is None or not settings.controlmaster or host.busy or host.state not in (State.UP, State.SHELL_ONLY):
        return 0
    return settings.controlpersist


class PersistentConnections:
    """The connections of ended runs, with their timers and jump hosts. I/O thread."""

    def __init__(self) -> None:
        self._timers: dict[Host, Timer | None] = {}
        self._jump_hosts: list[JumpHostPool] = []  # of earlier runs
        self._for_clients: set[Login] = set()  # of hosts that have ended

    def __iter__(self) -> Iterator[Host]:
        return iter(list(self._timers))

    def __contains__(self, host: Host) -> bool:
        return host in self._timers

    def __len__(self) -> int:
        return len(self._timers) + len(self._for_clients)

    def add(self, host: Host, seconds: int) -> None:
        """Keep the connection of *host* for *seconds*; less than 0: without a limit. Everything else of its run is discarded."""
        host.end_run()
        self._timers[host] = host.guard.call_later(seconds, self._expire, host, seconds) if seconds > 0 else None

    def _expire(self, host: Host, seconds: int) -> None:
        """Close the connection of *host*, unless a client of ssh_clients.py has used it in the last *seconds*."""
        left = 0.0 if host.login is None else host.login.idle_seconds_left(seconds)
        if left:
            self._timers[host] = host.guard.call_later(left, self._expire, host, seconds)
        else:
            host.close()

    def take(self, host: Host) -> bool:
        """Remove *host*. Returns whether it was here."""
        if host not in self._timers:
            return False
        timer = self._timers.pop(host)
        if timer is not None:
            timer.cancel()
        return True

    def leave_to_clients(self, login: Login) -> bool:
        """Return whether clients use the connection of *login*; then ends the hub's commands, and closes with the last client."""
        connection = login.connection
        if not login.lent or connection is None or connection.end_reason is not None:
            return False
        self._for_clients.add(login)
        login.forget_caller()
        before_close = login.before_close
        if before_close is not None:
            with contextlib.suppress(ConnectError):  # no thread for it: these commands end with the connection
                threads.start(before_close, "pmitogen close")
        return True

    def on_returned(self, login: Login) -> None:
        """Close the connection of *login* if it was left to clients, and none uses it now."""
        if login in self._for_clients and not login.lent:
            self._for_clients.remove(login)
            login.close()

    def end_run(self, jump_hosts: JumpHostPool) -> None:
        """Add the jump hosts of a run that has ended."""
        jump_hosts.key_cache.clear()  # no later run may log in with this run's decrypted keys
        self._jump_hosts.append(jump_hosts)

    def close_unused(self, hosts: Iterable[Host]) -> None:
        """Close the connections to jump hosts of earlier runs that none of *hosts* is reached through."""
        logins = [*(host.login for host in hosts if host.login is not None), *self._for_clients]
        used = [login.jump_hosts for login in logins]
        for jump_hosts in [each for each in self._jump_hosts if each not in used]:
            self._jump_hosts.remove(jump_hosts)
            close_on_thread(jump_hosts)

    def close(self) -> None:
        """Close them all. Any thread, once the I/O thread has ended."""
        for jump_hosts in self._jump_hosts:
            jump_hosts.close()
