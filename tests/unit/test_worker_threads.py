"""Threads that connections share: as many as there are concurrent jobs, and none without work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from pmitogen.errors import ConnectError
from pmitogen.util import worker_threads
from pmitogen.util.worker_threads import WorkerThreads
from tests.support import processes

NAME = "test worker"


def _alive() -> int:
    return sum(thread.name == NAME for thread in threading.enumerate())


@pytest.fixture
def workers() -> Iterator[WorkerThreads]:
    made = WorkerThreads(NAME)
    yield made
    made.close()
    processes.wait_until(lambda: not _alive(), 5)


class Blocked:
    """A job that blocks until the test releases it."""

    def __init__(self) -> None:
        self.began, self._go = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.began.set()
        self._go.wait(10)

    def release(self) -> None:
        self._go.set()


def _do(workers: WorkerThreads, count: int) -> None:
    for _ in range(count):
        done = threading.Event()
        workers.submit(done.set)
        assert done.wait(5)


def test_one_thread_serves_consecutive_jobs(workers: WorkerThreads) -> None:
    _do(workers, 1000)
    assert _alive() <= 2  # the next job may arrive before the thread is idle


def test_a_blocking_job_delays_no_other(workers: WorkerThreads) -> None:
    blocked = [Blocked() for _ in range(20)]
    for each in blocked:
        workers.submit(each)
    for each in blocked:
        assert each.began.wait(5)
    _do(workers, 10)
    assert _alive() >= 21
    for each in blocked:
        each.release()


def test_no_job_of_concurrent_callers_is_lost(workers: WorkerThreads) -> None:
    done: list[int] = []

    def submit() -> None:
        for index in range(500):
            workers.submit(lambda index=index: done.append(index))  # type: ignore[misc]

    submitters = [threading.Thread(target=submit) for _ in range(8)]
    for each in submitters:
        each.start()
    for each in submitters:
        each.join()
    processes.wait_until(lambda: len(done) == 4000, 10)


def test_idle_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_threads, "IDLE_TIMEOUT", 0.05)
    workers = WorkerThreads(NAME)
    _do(workers, 3)
    processes.wait_until(lambda: not _alive(), 5)
    _do(workers, 1)
    workers.close()
    processes.wait_until(lambda: not _alive(), 5)


@pytest.fixture
def no_more_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    return lambda: monkeypatch.setattr(threading.Thread, "start", refuse)


def test_a_job_waits_for_a_thread_if_no_further_one_can_start(
    workers: WorkerThreads, no_more_threads: Callable[[], None]
) -> None:
    blocked, done = Blocked(), threading.Event()
    workers.submit(blocked)
    assert blocked.began.wait(5)
    no_more_threads()
    workers.reserve()
    workers.submit(done.set)
    assert not done.wait(0.1)
    blocked.release()
    assert done.wait(5)


def test_without_any_thread_an_error_is_raised(no_more_threads: Callable[[], None]) -> None:
    no_more_threads()
    workers = WorkerThreads(NAME)
    for call in (workers.reserve, lambda: workers.submit(print)):
        with pytest.raises(ConnectError, match="can't start new thread"):
            call()


def test_a_started_job_never_waits_for_other_jobs(workers: WorkerThreads, no_more_threads: Callable[[], None]) -> None:
    blocked = [Blocked() for _ in range(3)]
    for each in blocked:
        workers.start(each)
        assert each.began.wait(5)
    no_more_threads()
    with pytest.raises(ConnectError):
        workers.start(lambda: None)
    blocked[0].release()
    done = threading.Event()
    processes.wait_until(lambda: _starts(workers, done.set), 5)
    assert done.wait(5)
    for each in blocked:
        each.release()


def _starts(workers: WorkerThreads, work: Callable[[], None]) -> bool:
    try:
        workers.start(work)
    except ConnectError:
        return False
    return True
