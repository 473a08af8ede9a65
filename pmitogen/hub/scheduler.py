"""Schedule work for the hub's I/O thread, now or later, always under a guard.

A :class:`Guard` belongs to one owner (a host, a client, the hub itself). Work that fails under it ends the owner and nothing
else. This is the only file that uses the timers and the queue of the I/O loop, where an exception would end the loop and with
it every connection.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import mitogen.core

LOG = logging.getLogger("pmitogen.hub")
Work = Callable[..., object]


class ScheduledCall(Protocol):
    """A timer of Mitogen's I/O loop."""

    active: bool

    def cancel(self) -> None:
        """Remove it from the loop's list."""


class TimerList(Protocol):
    """The timers of Mitogen's I/O loop."""

    def schedule(self, when: float, func: Callable[[], None]) -> ScheduledCall:
        """Schedule *func* for *when*, on the clock of ``mitogen.core.now``."""


class Loop(Protocol):
    """The attributes of Mitogen's I/O loop that this file uses."""

    timers: TimerList

    def defer(self, func: Work, *args: object) -> None:
        """Call *func* on the loop's thread. Raises mitogen.core.Error if the loop has ended."""


class Scheduler:
    """The queue and the timers of the I/O loop *broker*."""

    def __init__(self, broker: Loop) -> None:
        self._broker = broker
        self._timers: set[Timer] = set()

    def defer(self, work: Work, *args: object) -> bool:
        """Call *work* on the I/O thread; at once if called there. Any thread. Returns False if the loop has ended."""
        try:
            self._broker.defer(work, *args)
        except mitogen.core.Error:
            return False
        return True

    def call_later(self, seconds: float, work: Work) -> Timer:
        """Call *work* after *seconds*, unless the loop ends first. I/O thread."""
        timer = Timer(self, work)
        timer.scheduled = self._broker.timers.schedule(mitogen.core.now() + seconds, timer.expire)
        self._timers.add(timer)
        return timer

    def cancel_all(self) -> None:
        """Cancel every timer: the loop would wait for them before it ends. I/O thread."""
        for timer in list(self._timers):
            timer.cancel()

    def forget(self, timer: Timer) -> None:
        """Remove a timer that has expired or was cancelled."""
        self._timers.discard(timer)


class Timer:
    """Work that is due later."""

    scheduled: ScheduledCall | None = None

    def __init__(self, scheduler: Scheduler, work: Work) -> None:
        self._scheduler, self._work = scheduler, work

    def expire(self) -> None:
        """Run the work."""
        self._scheduler.forget(self)
        self._work()

    def cancel(self) -> None:
        """Cancel the work. I/O thread; idempotent."""
        self._scheduler.forget(self)
        if self.scheduled is not None and self.scheduled.active:
            self.scheduled.cancel()


class Guard:
    """Runs the work of one owner.

    :param scheduler: the hub's.
    :param on_failure: called with the exception of work that failed, on the I/O thread. It has to end the owner.
    """

    def __init__(self, scheduler: Scheduler, on_failure: Callable[[Exception], None]) -> None:
        self._scheduler, self._on_failure = scheduler, on_failure
        self._timers: set[Timer] = set()

    def run(self, work: Work, *args: object) -> None:
        """Call *work* now. Raises nothing. I/O thread."""
        try:
            work(*args)
        except Exception as exc:
            try:
                self._on_failure(exc)
            except Exception:
                LOG.exception("an owner could not be closed after its callback had failed")

    def defer(self, work: Work, *args: object) -> bool:
        """Call *work* on the I/O thread; at once if called there. Any thread. Returns False if the loop has ended."""
        return self._scheduler.defer(self.run, work, *args)

    def call_later(self, seconds: float, work: Work, *args: object) -> Timer:
        """Call *work* after *seconds*, unless the owner ends first. I/O thread."""

        def expire() -> None:
            self._timers.discard(timer)
            self.run(work, *args)

        timer = self._scheduler.call_later(seconds, expire)
        self._timers.add(timer)
        return timer

    def close(self) -> None:
        """Cancel the owner's timers. I/O thread; idempotent."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
