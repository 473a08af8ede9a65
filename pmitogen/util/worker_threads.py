"""Shared threads for short pieces of work that may block, for many connections of which few are busy at a time."""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable

from pmitogen.errors import ConnectError
from pmitogen.util import threads

IDLE_TIMEOUT = 5.0  # seconds that a thread waits for more work before it ends


class WorkerThreads:
    """As many threads as there is work at the same time; work that blocks delays no other. Thread-safe.

    ``concurrent.futures.ThreadPoolExecutor`` cannot replace it: the end of the program waits for its threads, and one may be
    blocked by a peer that reads nothing.
    """

    def __init__(self, name: str, idle_timeout: float = IDLE_TIMEOUT) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._work: collections.deque[Callable[[], object]] = collections.deque()
        self._waiting = 0  # threads that wait for work, or have been woken and have not taken it yet
        self._count = 0
        self._idle_timeout = idle_timeout

    def reserve(self) -> None:
        """Start a thread if there is none. Raises ConnectError (stage ``local``) if the system refuses it."""
        with self._changed:
            if not self._count:
                self._start()

    def submit(self, work: Callable[[], object]) -> None:
        """Call *work*, which must not raise, on a thread. Never blocks.

        If the system refuses another thread, the work waits for one of those that exist.
        """
        with self._changed:
            self._work.append(work)
            if self._waiting >= len(self._work):
                self._changed.notify()
                return
            try:
                self._start()
            except ConnectError:
                if not self._count:
                    self._work.pop()  # the caller may submit it again
                    raise

    def start(self, work: Callable[[], object]) -> None:
        """Call *work*, which must not raise, at once. Raises ConnectError (stage ``local``) if the system refuses a thread."""
        with self._changed:
            if self._waiting <= len(self._work):
                self._start()
            self._work.append(work)
            self._changed.notify()

    def close(self) -> None:
        """End the threads as soon as they have no work. Work that is submitted later is still done. Never blocks."""
        with self._changed:
            self._idle_timeout = 0
            self._changed.notify_all()

    def _start(self) -> None:
        threads.start(self._run, self._name)
        self._count += 1

    def _run(self) -> None:
        try:
            while (work := self._next()) is not None:
                work()
                del work  # it holds a connection
        except BaseException:
            with self._changed:
                self._count -= 1
            raise

    def _next(self) -> Callable[[], object] | None:
        with self._changed:
            if not self._work:
                self._waiting += 1
                self._changed.wait_for(lambda: self._work or not self._idle_timeout, self._idle_timeout)
                self._waiting -= 1
            if self._work:
                return self._work.popleft()
            self._count -= 1
            return None
