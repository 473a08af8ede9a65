"""The part that runs in workers: one hub for the process, and the targets under way in it.

A *run* is one worker's part of a call of ``map`` or ``as_completed``. The caller opens it (:func:`open_run`), and then calls
:func:`serve` repeatedly: each call brings further targets and returns the results that are known. So results come early, and a
worker process that does one task at a time still serves many hosts at once.

A call for a run that this process does not know returns :data:`UNKNOWN` and starts nothing: a cluster repeats the tasks of a lost
worker on another one, and a target's function must not run twice.

No function raises: an error of one target is that target's outcome. Each result is pickled in the worker and unpickled by the
caller by itself, so that a result which cannot be pickled is an error of its own target only.
"""

from __future__ import annotations

import dataclasses
import os
import pickle
import queue
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pmitogen.errors import Error, RemoteError
from pmitogen.util import threads

if TYPE_CHECKING:
    from pmitogen.api import ConnectArguments, Host, Hub

FORGOTTEN_AFTER = 300.0  # seconds without a request, after which a run is closed
UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True, repr=False)
class Job:
    """The work for each target. Its repr, which may come into the logs of a cluster, shows no option."""

    function: Callable[[Host], Any]
    options: ConnectArguments

    def __repr__(self) -> str:
        return f"<pmitogen job {getattr(self.function, '__qualname__', type(self.function).__name__)}>"


@dataclasses.dataclass(eq=False)
class Run:
    """The targets under way for one caller."""

    job: Job
    ended: queue.SimpleQueue[tuple[int, bytes]] = dataclasses.field(default_factory=queue.SimpleQueue)
    under_way: int = 0
    asked_at: float = 0.0  # time.monotonic() seconds


_lock = threading.Lock()
_hub: Hub | None = None
_process = 0, ""  # the pid, and a unique name of this process
_runs: dict[str, Run] = {}


def _name() -> str:
    """Return the name of this process. A fork gets a new name, and uses no hub or run of its parent."""
    global _process, _hub
    with _lock:
        if _process[0] != os.getpid():
            _process = os.getpid(), uuid.uuid4().hex
            _hub = None
            _runs.clear()
        return _process[1]


def hub() -> Hub:
    """Return the hub of this process."""
    global _hub
    from pmitogen.api import Hub

    _name()
    with _lock:
        if _hub is None:
            _hub = Hub()
        return _hub


def close_hub() -> None:
    """Close all connections of this process; the next run makes others."""
    global _hub
    _name()
    with _lock:
        ended, _hub = _hub, None
    if ended is not None:
        ended.close()


def call(turn: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call one of the functions below. *turn*: differs in every call."""
    return function(*args)


def open_run(run_id: str, job: Job) -> str:
    """Begin a run. Returns the name of the process that has it."""
    process = _name()
    now = time.monotonic()
    with _lock:
        for each in [each for each, run in _runs.items() if not run.under_way and now - run.asked_at > FORGOTTEN_AFTER]:
            del _runs[each]
        _runs[run_id] = Run(job, asked_at=now)
    return process


def serve(
    run_id: str, process: str, targets: Sequence[tuple[int, str]], timeout: float, is_last: bool = False
) -> list[tuple[int, bytes]] | str:
    """Begin *targets*, wait at most *timeout* seconds for a result, and return all that are known.

    *targets* and results each have the caller's index.
    *is_last*: forget the run; nothing is under way. Returns :data:`UNKNOWN` where the run is not in this process.
    """
    run = _runs.get(run_id) if _name() == process else None
    if run is None:
        return UNKNOWN
    run.asked_at = time.monotonic()
    for each in targets:
        _begin(run, *each)
    if is_last:
        _runs.pop(run_id, None)
    return _take(run, timeout)


def serve_batch(job: Job, targets: Sequence[tuple[int, str]]) -> list[tuple[int, bytes]]:
    """Serve all *targets* in this process."""
    _name()
    run = Run(job)
    for each in targets:
        _begin(run, *each)
    results: list[tuple[int, bytes]] = []
    while run.under_way:
        results += _take(run, FORGOTTEN_AFTER)
    return results


def _begin(run: Run, index: int, target: str) -> None:
    run.under_way += 1
    try:
        threads.start(_work, f"pmitogen worker {target}", run, index, target)
    except Error as exc:
        run.ended.put((index, pack_error(exc)))


def _take(run: Run, timeout: float) -> list[tuple[int, bytes]]:
    results = []
    try:
        if run.under_way:
            results.append(run.ended.get(timeout=timeout))
        while True:
            results.append(run.ended.get_nowait())
    except queue.Empty:
        run.under_way -= len(results)
        return results


def _work(run: Run, index: int, target: str) -> None:
    """Connect to one target and call the function. A thread of its own."""
    try:
        value = run.job.function(hub().connect(target, **run.job.options))
        packed = pickle.dumps((True, value, ""))
    except BaseException as exc:
        packed = pack_error(exc)
    run.ended.put((index, packed))


def pack_error(exc: BaseException) -> bytes:
    """Return an exception with its traceback, pickled; if it cannot be pickled, a RemoteError with its text."""
    text = "".join(traceback.format_exception(exc))
    try:
        packed = pickle.dumps((False, exc, text))
        pickle.loads(packed)
    except Exception:
        packed = pickle.dumps((False, RemoteError(f"{type(exc).__name__}: {exc}", text), text))
    return packed
