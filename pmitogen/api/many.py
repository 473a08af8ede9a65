"""Connect many hosts at once, without a thread for each; and the outcome for one of many hosts."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from pmitogen.api import arguments
from pmitogen.api.account import Account
from pmitogen.api.exchange import Exchange, until_any
from pmitogen.api.waiting import Runtime
from pmitogen.errors import Error

Item = TypeVar("Item")
T = TypeVar("T")
LIMIT = 64  # hosts at once, unless the caller says otherwise


@dataclasses.dataclass(frozen=True)
class Outcome(Generic[Item, T]):
    """The outcome for one host: the ``value`` that the function returned, or the ``error`` that it raised."""

    host: Item
    value: T | None = None
    error: BaseException | None = None

    @property
    def ok(self) -> bool:
        """True if it succeeded."""
        return self.error is None

    def result(self) -> T:
        """Return the value. Raises the error."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


def limit_of(limit: int, label: str) -> int:
    """Check the number of hosts at once. Raises TypeError, UsageError."""
    return arguments.integer(limit, f"{label}: limit", 1, 1 << 20)


def checked_mapping(
    label: str, function: Callable[[Item], T], hosts: Iterable[Item], limit: int
) -> tuple[Callable[[Item], T], list[Item], int]:
    """Check the arguments of ``map`` and ``as_completed``. Raises TypeError, UsageError."""
    if not callable(function):
        arguments.wrong(f"{label}: function", "a function", function)
    if not isinstance(hosts, Iterable):
        arguments.wrong(f"{label}: hosts", "an iterable of hosts", hosts)
    return function, list(hosts), limit_of(limit, label)


async def connect_each(accounts: Sequence[Account], runtime: Runtime, limit: int) -> list[Error | None]:
    """Connect all *accounts*, at most *limit* at once. Returns the error of each, or None."""
    failures: list[Error | None] = [None] * len(accounts)
    waiting = collections.deque(enumerate(accounts))
    running: dict[Exchange, int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < limit:
                index, account = waiting.popleft()
                running[account.start_login()] = index
            await until_any(list(running), runtime)
            for request in [each for each in running if each.final is not None]:
                index = running.pop(request)
                try:
                    request.result()
                except Error as exc:
                    failures[index] = exc
    except BaseException:
        for request in running:
            request.kill()
        raise
    return failures
