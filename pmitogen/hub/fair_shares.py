"""The turns of the hub's I/O loop, and each host's share of a turn.

A turn is one round of the loop: first the work deferred from the turn before, then every ready socket, then the timers. If
the messages of a host exceed its share of a turn, the rest is deferred to the next turn. Its channel is not read until then, so
that the SSH window makes its sender wait. All deferred work of a turn shares ``TURN_SECONDS``. So a host that floods the hub
delays the others by a few milliseconds per turn.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable

HOST_MESSAGES = 64  # of one host in one turn
HOST_BYTES = 1 << 20
HOST_SECONDS = 0.005
TURN_SECONDS = 0.02  # for all deferred work together


class Turns:
    """Counter of the turns of one I/O loop, and queue of deferred work. I/O thread."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.turn = 0
        self.clock = clock
        self._waiting: collections.deque[Share] = collections.deque()

    def begin(self) -> bool:
        """Begin a turn with the deferred work. Returns whether any is left."""
        self.turn += 1
        if self._waiting:
            until = self.clock() + TURN_SECONDS
            for _ in range(len(self._waiting)):
                self._waiting.popleft().resume()
                if self.clock() >= until:
                    break
        return bool(self._waiting)

    def put_off(self, share: Share) -> None:
        """Continue with a host in the next turn, behind those that wait already."""
        self._waiting.append(share)


class Share:
    """The share of each turn that one host uses. *work* is called to continue in the next turn. I/O thread."""

    def __init__(self, turns: Turns, work: Callable[[], None]) -> None:
        self._turns, self._work = turns, work
        self._turn = 0
        self._messages = self._bytes = 0
        self._seconds = 0.0
        self.is_waiting = False

    def put_off_if_used_up(self) -> bool:
        """If the host has used its share of this turn, call *work* in the next one. Returns whether it has."""
        if self._turn != self._turns.turn:
            self._turn = self._turns.turn
            self._messages = self._bytes = 0
            self._seconds = 0.0
        used_up = self._messages >= HOST_MESSAGES or self._bytes >= HOST_BYTES or self._seconds >= HOST_SECONDS
        if used_up:
            self.put_off()
        return used_up

    def put_off(self) -> None:
        """Call *work* in the next turn."""
        if not self.is_waiting:
            self.is_waiting = True
            self._turns.put_off(self)

    def use(self, size: int, seconds: float) -> None:
        """Count a message of *size* bytes that took *seconds*."""
        self._messages += 1
        self._bytes += size
        self._seconds += seconds

    def resume(self) -> None:
        """Continue with the host."""
        self.is_waiting = False
        self._work()
