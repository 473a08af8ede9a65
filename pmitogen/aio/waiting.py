"""Waiting by suspending a task. The hub's I/O thread wakes the event loop; there is no thread for a call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")


class SuspendingWaiter:
    """Suspends its task."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken: asyncio.Future[None] = self._loop.create_future()

    def wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._set)
        except RuntimeError:  # the loop is closed: its tasks wait no more
            return

    def _set(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)

    async def wait(self, deadline: float | None) -> bool:
        if deadline is None:
            await self._woken
            return True
        done, _ = await asyncio.wait((self._woken,), timeout=max(0.0, deadline - time.monotonic()))
        return bool(done)


class Suspending:
    """Waits by suspending the running task."""

    def waiter(self) -> SuspendingWaiter:
        return SuspendingWaiter()

    async def give_way(self) -> None:
        await asyncio.sleep(0)

    async def blocking(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.to_thread(function, *args)

    async def finished(self, answer: object) -> None:
        if isinstance(answer, Awaitable):
            await answer
