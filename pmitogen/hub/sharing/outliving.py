"""Connections that outlive their run (ControlPersist), until a later run uses them or their time is over.

Each brings the jump hosts that it is reached through. These are for no other connection: a later run's own are logged in to by
that run. Everything here happens on the hub's I/O thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pmitogen.hub import session
from pmitogen.hub.host.states import State

if TYPE_CHECKING:
    from pmitogen.hub.host.host import Host
    from pmitogen.hub.scheduler import Timer
    from pmitogen.transport.connect import JumpHostPool


def persistence(host: Host) -> int:
    """Return the seconds that a connection outlives its run; 0: none; -1: until somebody ends it."""
    settings = host.session.settings if host.session is not None else None
    if settings is None or not settings.controlmaster or host.busy or host.state not in (State.UP, State.PLAIN):
        return 0
    return settings.controlpersist


class OutlivingConnections:
    """The connections of ended runs, with their timers and jump hosts. I/O thread."""

    def __init__(self) -> None:
        self._timers: dict[Host, Timer | None] = {}
        self._hops: list[JumpHostPool] = []  # of earlier runs

    def __iter__(self) -> Iterator[Host]:
        return iter(list(self._timers))

    def __contains__(self, host: Host) -> bool:
        return host in self._timers

    def __len__(self) -> int:
        return len(self._timers)

    def add(self, host: Host, seconds: int) -> None:
        """Keep the connection of *host* for *seconds*; less than 0: until somebody ends it. Nothing else of its run is kept."""
        host.end_run()
        self._timers[host] = host.guard.later(seconds, host.close) if seconds > 0 else None

    def take(self, host: Host) -> bool:
        """Return whether *host* is one of these; it is not any more."""
        if host not in self._timers:
            return False
        timer = self._timers.pop(host)
        if timer is not None:
            timer.cancel()
        return True

    def end_run(self, hops: JumpHostPool) -> None:
        """The run whose jump hosts these are has ended."""
        hops.key_cache.clear()  # no later run may log in with this run's decrypted keys
        self._hops.append(hops)

    def close_unused(self, hosts: Iterable[Host]) -> None:
        """Close the connections to jump hosts of earlier runs that none of *hosts* is reached through."""
        used = [host.session.hops for host in hosts if host.session is not None]
        for hops in [each for each in self._hops if each not in used]:
            self._hops.remove(hops)
            session.close_on_thread(hops)

    def close(self) -> None:
        """Close them all. Any thread, once the I/O thread has ended."""
        for hops in self._hops:
            hops.close()
