"""The core of a Hub: its connections, its one I/O thread, and the calls that wait for answers.

It ends with the program: the I/O thread does not keep the process alive, and connections that the program has not closed are
closed at its exit. It belongs to one process: in a fork its thread does not exist, so every use there is an error.
"""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn, TypeVar

from pmitogen.errors import ConnectError, ConnectionLost, UsageError
from pmitogen.hub.registry import HostRegistry
from pmitogen.util import threads

if TYPE_CHECKING:
    from pmitogen.api.exchange import Exchange
    from pmitogen.api.waiting import Runtime, Waiter

T = TypeVar("T")
_living: weakref.WeakSet[Core] = weakref.WeakSet()


class Core:
    """The connections and the I/O thread of one Hub. Raises ConnectError if no thread can be started."""

    def __init__(self) -> None:
        made: list[HostRegistry | BaseException] = []

        def make() -> None:
            try:
                made.append(HostRegistry())
            except BaseException as exc:
                made.append(exc)

        # A thread is a daemon if the one that starts it is, and Mitogen starts the I/O thread by itself.
        threads.start(make, "pmitogen start").join()
        (registry,) = made
        if isinstance(registry, BaseException):
            raise registry
        self.registry = registry
        self.registry.on_stopped = self._on_end
        self.pid = os.getpid()
        self.has_ended = False  # closed, or its I/O thread has ended, which only a defect of pmitogen causes
        self._closed = False
        self.calls: set[Exchange] = set()  # those that have not ended
        self._waiting: set[Waiter] = set()
        _living.add(self)

    def check(self, owner: object) -> None:
        """Return if *owner*, a host, may be used now. Raises UsageError in a fork, ConnectionLost after the end."""
        self.check_process(owner)
        if self.has_ended:
            raise ConnectionLost(f"{owner}: its hub is closed")

    @property
    def in_forked_process(self) -> bool:
        """True in a fork of the process to which the hub belongs."""
        return os.getpid() != self.pid

    def check_process(self, owner: object) -> None:
        """Raise UsageError if this is a fork of the process to which the hub belongs."""
        if self.in_forked_process:
            raise UsageError(f"{owner}: belongs to process {self.pid}, of which this one is a fork; connect in this process")

    def defer(self, work: Callable[[], object]) -> bool:
        """Call *work* on the I/O thread, later. Returns False if that thread has ended."""
        return self.registry.defer(work)

    async def on_io_thread(self, runtime: Runtime, owner: object, work: Callable[[], T]) -> T:
        """Call *work* on the I/O thread, and return its result."""
        self.check(owner)
        waiter, results = runtime.waiter(), list[tuple[T | None, BaseException | None]]()

        def run() -> None:
            try:
                results.append((work(), None))
            except BaseException as exc:
                results.append((None, exc))
            finally:
                self._waiting.discard(waiter)
                waiter.wake()

        self._waiting.add(waiter)
        if not self.has_ended and self.defer(run):
            await waiter.wait(None)
        self._waiting.discard(waiter)
        if not results:
            raise ConnectionLost(f"{owner}: its hub is closed")
        value, failure = results[0]
        if failure is not None:
            raise failure
        return value  # type: ignore[return-value]

    def close(self) -> None:
        """Close every connection, and end what still runs on the hosts. Idempotent; blocks up to a few seconds."""
        if self._closed or self.in_forked_process:
            return
        self._closed = self.has_ended = True
        self.registry.close()
        self._on_end()  # for calls that were made in the last moment
        _living.discard(self)

    def close_later(self) -> None:
        """Close as :meth:`close` does, but without waiting. For a finaliser, which runs on any thread."""
        if self._closed or self.in_forked_process:
            return
        try:
            threads.start(self.close, "pmitogen close")
        except ConnectError:  # the interpreter is ending
            self.close()

    def _on_end(self) -> None:
        """End all calls: no answer will come."""
        self.has_ended = True
        for call in list(self.calls):
            call.fail(ConnectionLost("the hub was closed"))
        for waiter in list(self._waiting):
            waiter.wake()


def refuse_pickling(what: str) -> NoReturn:
    """Raise the TypeError of an object that works in this process only. *what*: how it is called in the message."""
    raise TypeError(f"{what} cannot be pickled: it belongs to this process; connect in the other one")


@atexit.register
def _close_forgotten() -> None:
    for core in list(_living):
        core.close()
