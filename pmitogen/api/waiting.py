"""Two runtimes for one implementation: :class:`Blocking` blocks its thread, that of :mod:`pmitogen.aio` suspends its task.

Operations are written once, as coroutines that wait through a :class:`Waiter` and through nothing else. A blocking waiter blocks
inside ``wait``, so a coroutine that uses only such waiters runs from its start to its end in one step (:func:`finish`).
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Waiter(Protocol):
    """Waits once, for one event."""

    def wake(self) -> None:
        """The event has happened. Any thread; must not block or raise."""

    async def wait(self, deadline: float | None) -> bool:
        """Wait for :meth:`wake`. False: *deadline* (time.monotonic() seconds; None: never) has passed first."""


class Runtime(Protocol):
    """The way in which the caller waits: by blocking its thread, or in asyncio."""

    def waiter(self) -> Waiter:
        """Return a new waiter for the caller's thread or task."""

    async def blocking(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function that may block on a disk; the event loop goes on meanwhile."""


class BlockingWaiter:
    """Blocks its thread."""

    def __init__(self) -> None:
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()

    def wake(self) -> None:
        self._woken.put(None)

    async def wait(self, deadline: float | None) -> bool:
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

    async def blocking(self, function: Callable[..., T], *args: Any) -> T:
        return function(*args)


def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits by :class:`Blocking` only, on this thread, and return its result."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise RuntimeError("internal error: a blocking call had to wait for the event loop")
