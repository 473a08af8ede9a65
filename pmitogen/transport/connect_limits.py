"""Not too many logins at once to one server, and another try when it turned us away at the door.

sshd counts connections that have not logged in yet, and from MaxStartups' first number on (10 by default) drops new ones at
random, by closing them before it has said anything (sshd_config(5)). A play over one bastion, or many names for one machine,
runs into that.
So at most a few logins at a time go to one server from this process, and a connection that is closed before its key exchange is
tried again after a pause that grows and varies: other controllers may be knocking too.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Hashable, Iterator

from pmitogen.errors import ConnectError

MAX_CONCURRENT = 8  # logins in progress per server: below sshd's default of 10, with room for others
FIRST_PAUSE = 0.2  # seconds, before variation
MAX_PAUSE = 3.0  # seconds
MAX_ATTEMPTS = 8  # about ten seconds of trying at a door that stays shut


class ConnectionRejected(Exception):
    """The server closed the connection before the key exchange. *sure*: it said that it has too many."""

    def __init__(self, is_overload: bool) -> None:
        super().__init__(is_overload)
        self.is_overload = is_overload


class _HostSlots:
    def __init__(self) -> None:
        self.semaphore = threading.BoundedSemaphore(MAX_CONCURRENT)
        self.waiting = 0


_slots: dict[Hashable, _HostSlots] = {}
_slots_lock = threading.Lock()


@contextlib.contextmanager
def slot(server: Hashable, endpoint: str, deadline: float) -> Iterator[None]:
    """Hold one of the AT_ONCE places at *server*, waiting until *deadline*. Raises ConnectError (stage ``tcp``)."""
    with _slots_lock:
        slots = _slots.setdefault(server, _HostSlots())
        slots.waiting += 1
    try:
        if not slots.semaphore.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise ConnectError(
                f"{endpoint}: no free login slot within the timeout: {slots.waiting} logins wait, {MAX_CONCURRENT} run at a "
                "time; use fewer forks",
                "tcp",
            )
        try:
            yield
        finally:
            slots.semaphore.release()
    finally:
        with _slots_lock:
            slots.waiting -= 1
            if not slots.waiting:
                _slots.pop(server, None)


def pause_before_retry(attempt: int, rejection: ConnectionRejected, deadline: float) -> bool:
    """Sleep before try number *attempt* + 1 (the first try is 1). False: there should be no more tries."""
    pause = min(MAX_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1)) * random.uniform(0.5, 1.5)
    if (attempt >= MAX_ATTEMPTS and not rejection.is_overload) or time.monotonic() + pause >= deadline:
        return False
    time.sleep(pause)
    return True
