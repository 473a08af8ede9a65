"""Limit concurrent logins to one server, and retry when it rejects a connection early.

sshd counts connections that have not authenticated yet. From the first number of MaxStartups on (10 by default) it drops new
ones at random, before it sends its version (sshd_config(5)). A play behind one jump host, or with many names for one machine,
reaches that number. So this process runs at most MAX_CONCURRENT logins to one server at a time, and retries a connection that
was closed before its key exchange, after a growing random delay: other controllers may be connecting too.
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
MAX_ATTEMPTS = 8  # about ten seconds in all


class ConnectionRejected(Exception):
    """The server closed the connection before the key exchange. *is_overload*: it named too many connections as the reason."""

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
    """Hold one of the MAX_CONCURRENT slots of *server*; wait for one until *deadline*. Raises ConnectError (stage ``tcp``)."""
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
    """Sleep before attempt number *attempt* + 1 (the first is 1). Returns False if no further attempt should be made."""
    pause = min(MAX_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1)) * random.uniform(0.5, 1.5)
    if (attempt >= MAX_ATTEMPTS and not rejection.is_overload) or time.monotonic() + pause >= deadline:
        return False
    time.sleep(pause)
    return True
