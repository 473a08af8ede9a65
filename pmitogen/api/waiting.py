"""Two runtimes for one implementation: :class:`Blocking` blocks its thread, that of :mod:`pmitogen.aio` suspends its task.

Operations are written once, as coroutines that wait through a :class:`Waiter` and through nothing else. A blocking waiter blocks
inside ``wait``, so a coroutine that uses only such waiters runs from its start to its end in one step (:func:`finish`).
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Waiter(Protocol):
    """Waits once, for one event."""

    def wake(self) -> None:
        """Note that the event has happened. Any thread; must not block or raise."""

    async def wait(self, deadline: float | None) -> bool:
        """Wait for :meth:`wake`. False: *deadline* (time.monotonic() seconds; None: never) has passed first."""


class Runtime(Protocol):
    """The way in which the caller waits: by blocking its thread, or in asyncio."""

    def waiter(self) -> Waiter:
        """Return a new waiter for the caller's thread or task."""

    async def give_way(self) -> None:
        """Let other tasks run: a task that always finds output would block the event loop, and could not be cancelled."""

    async def blocking(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function that may block on a disk; the event loop goes on meanwhile."""

    async def finished(self, answer: object) -> None:
        """Wait for the result of a function of the caller's, if that is a coroutine."""


class Interruption:
    """Interrupts the calls of other threads, as Control-C does one of the main thread: by a KeyboardInterrupt in each, once."""

    def __init__(self) -> None:
        self._waiting: dict[BlockingWaiter, None] = {}
        self._lock = threading.Lock()
        self._has_happened = False

    @staticmethod
    def of_this_thread() -> Interruption:
        """Return the one that this thread is included in, or else a new one."""
        found: Interruption | None = getattr(_thread, "interruption", None)
        return found or Interruption()

    def include_this_thread(self) -> None:
        """Let the interruption also interrupt the calls of this thread."""
        _thread.interruption = self

    def interrupt(self) -> None:
        """Interrupt the present or next blocking call of each thread. Any thread."""
        with self._lock:
            self._has_happened = True
            waiting = list(self._waiting)
        for waiter in waiting:
            waiter.wake()

    def begin(self, waiter: BlockingWaiter) -> None:
        """Wake *waiter*, of this thread, when the interruption happens."""
        with self._lock:
            self._waiting[waiter] = None
            if self._has_happened:
                waiter.wake()

    def end(self, waiter: BlockingWaiter) -> None:
        """End the registration of *waiter*, whose call has ended. Raises KeyboardInterrupt after an interruption."""
        with self._lock:
            del self._waiting[waiter]
            has_happened = self._has_happened
        if has_happened:
            _thread.interruption = None  # cleaning up is not interrupted
            raise KeyboardInterrupt


_thread = threading.local()


class BlockingWaiter:
    """Blocks its thread."""

    def __init__(self) -> None:
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wake(self) -> None:
        self._woken.put(None)

    async def wait(self, deadline: float | None) -> bool:
        interruption: Interruption | None = getattr(_thread, "interruption", None)
        if interruption is None:
            return self._block(deadline)
        interruption.begin(self)
        try:
            return self._block(deadline)
        finally:
            interruption.end(self)

    def _block(self, deadline: float | None) -> bool:
        if deadline is None:
            self._woken.get()
            return True
        try:
            self._woken.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return False
        return True


class Blocking:
    """Waits by blocking the calling thread."""

    def waiter(self) -> BlockingWaiter:
        return BlockingWaiter()

    async def give_way(self) -> None:
        """Do nothing: there are no other tasks on this thread."""

    async def blocking(self, function: Callable[..., T], *args: Any) -> T:
        return function(*args)

    async def finished(self, answer: object) -> None:
        if hasattr(answer, "__await__"):
            if isinstance(answer, Coroutine):
                answer.close()
            raise TypeError("a function given to a blocking call returned a coroutine; use pmitogen.aio")


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits by :class:`Blocking` only, on this thread, and return its result."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise RuntimeError("internal error: a blocking call had to wait for the event loop")
