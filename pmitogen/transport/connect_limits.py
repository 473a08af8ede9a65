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

AT_ONCE = 8  # logins in progress per server: below sshd's default of 10, with room for others
FIRST_PAUSE = 0.2  # seconds, before variation
LONGEST_PAUSE = 3.0  # seconds
TRIES = 8  # about ten seconds of trying at a door that stays shut


class TurnedAway(Exception):
    """The server closed the connection before the key exchange. *sure*: it said that it has too many."""

    def __init__(self, sure: bool) -> None:
        super().__init__(sure)
        self.sure = sure


class _Door:
    def __init__(self) -> None:
        self.turns = threading.BoundedSemaphore(AT_ONCE)
        self.users = 0


_doors: dict[Hashable, _Door] = {}
_doors_lock = threading.Lock()


@contextlib.contextmanager
def turn(server: Hashable, where: str, deadline: float) -> Iterator[None]:
    """Hold one of the AT_ONCE places at *server*, waiting until *deadline*. Raises ConnectError (stage ``tcp``)."""
    with _doors_lock:
        door = _doors.setdefault(server, _Door())
        door.users += 1
    try:
        if not door.turns.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise ConnectError(
                f"{where}: no turn to log in within the timeout: {door.users} logins to it at once, {AT_ONCE} at a time; "
                "have fewer hosts at once (forks)",
                "tcp",
            )
        try:
            yield
        finally:
            door.turns.release()
    finally:
        with _doors_lock:
            door.users -= 1
            if not door.users:
                _doors.pop(server, None)


def pause_before_retry(attempt: int, turned_away: TurnedAway, deadline: float) -> bool:
    """Sleep before try number *attempt* + 1 (the first try is 1). False: there should be no more tries."""
    pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1)) * random.uniform(0.5, 1.5)
    if (attempt >= TRIES and not turned_away.sure) or time.monotonic() + pause >= deadline:
        return False
    time.sleep(pause)
    return True
