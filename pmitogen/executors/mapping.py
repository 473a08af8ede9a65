"""The caller's side: assign targets to workers, and collect the outcomes.

Every executor is a *lane*: the targets that wait for it, the targets under way, and at most one call of its worker at a time.
A target is assigned to the lane for which the hash of both is highest (rendezvous hashing). So it has the same lane in every
call, and if a worker is lost, only the targets of its lane get another.
"""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import hashlib
import pickle
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from pmitogen.api import Host, Outcome, arguments
from pmitogen.api.connecting import option_set
from pmitogen.api.many import LIMIT, limit_of
from pmitogen.errors import HubError
from pmitogen.executors import worker

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pmitogen.api import ConnectArguments

T = TypeVar("T")
Workers = Executor | Sequence[Executor]
RESULT_TIMEOUT = 0.5  # seconds that a worker waits for an outcome before it asks for more targets
BATCH = 16  # targets that go together to an executor which chooses the process itself


class WorkerTraceback(Exception):
    """Cause of an error that a worker sent; its text is the traceback in the worker."""

    def __str__(self) -> str:
        return "\n" + str(self.args[0])


@dataclasses.dataclass(eq=False)
class Lane:
    """One executor, with the targets that wait for it and those that it runs."""

    executor: Executor
    is_one_worker: bool
    waiting: collections.deque[int] = dataclasses.field(default_factory=collections.deque)
    under_way: set[int] = dataclasses.field(default_factory=set)
    run_id: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)
    process: str = ""  # the name of the worker's process; empty: the run is not open in it
    is_lost: bool = False

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Call a function of the worker. No two calls are equal: Dask would do equal ones once, and return that result again."""
        return self.executor.submit(worker.call, uuid.uuid4().hex, function, *args)


class Mapping:
    """One call over all targets."""

    def __init__(
        self, executors: Sequence[Executor], is_one_worker: bool, job: worker.Job, targets: list[str], limit: int
    ) -> None:
        self._job, self._targets, self._limit = job, targets, limit
        self._lanes = [Lane(executor, is_one_worker) for executor in executors]
        self._calls: dict[Future[Any], Lane] = {}
        for index in range(len(targets)):
            self._assign(index)

    def _assign(self, index: int) -> bool:
        """Give a target to the executor it belongs to. Returns False if none is left."""
        target = self._targets[index]
        lanes = [(_weight(target, place), lane) for place, lane in enumerate(self._lanes) if not lane.is_lost]
        if not lanes:
            return False
        max(lanes, key=lambda each: each[0])[1].waiting.append(index)
        return True

    def outcomes(self) -> Iterator[tuple[int, Outcome[str, Any]]]:
        """Yield each target's index with its outcome. Leaving the iteration waits for the targets under way."""
        try:
            while True:
                yield from self._call_idle_lanes()
                if not self._calls:
                    if any(lane.waiting for lane in self._lanes):  # a lost one's, given to a lane that had nothing to do
                        continue
                    return
                done, _ = concurrent.futures.wait(self._calls, return_when=concurrent.futures.FIRST_COMPLETED)
                for call in done:
                    yield from self._read(self._calls.pop(call), call)
        finally:
            for _ in self._rest():
                pass

    def _rest(self) -> Iterator[tuple[int, Outcome[str, Any]]]:
        for lane in self._lanes:
            lane.waiting.clear()
        yield from self._call_idle_lanes()
        while self._calls:
            call = next(iter(self._calls))
            lane = self._calls.pop(call)
            concurrent.futures.wait([call])
            yield from self._read(lane, call)
            yield from self._call_idle_lanes()

    def _call_idle_lanes(self) -> Iterator[tuple[int, Outcome[str, Any]]]:
        busy = {id(lane) for lane in self._calls.values()}
        for lane in self._lanes:
            while id(lane) not in busy or not lane.is_one_worker:
                try:
                    call = self._next_call(lane)
                except Exception as exc:  # the executor takes no more work
                    yield from self._drop_executor(lane, exc)
                    break
                if call is None:
                    break
                self._calls[call] = lane
                busy.add(id(lane))

    def _next_call(self, lane: Lane) -> Future[Any] | None:
        if lane.is_lost or not lane.waiting and not lane.under_way and not lane.process:
            return None
        if not lane.is_one_worker:
            return self._next_batch(lane)
        if not lane.process:
            return lane.submit(worker.open_run, lane.run_id, self._job)
        if not lane.waiting and not lane.under_way:
            process, lane.process = lane.process, ""
            return lane.submit(worker.serve, lane.run_id, process, (), 0.0, True)
        begun = self._take(lane, self._limit - len(lane.under_way))
        return lane.submit(worker.serve, lane.run_id, lane.process, begun, RESULT_TIMEOUT)

    def _next_batch(self, lane: Lane) -> Future[Any] | None:
        if not lane.waiting or len(lane.under_way) >= self._limit:
            return None
        return lane.submit(worker.serve_batch, self._job, self._take(lane, min(BATCH, self._limit)))

    def _take(self, lane: Lane, count: int) -> list[tuple[int, str]]:
        indexes = [lane.waiting.popleft() for _ in range(min(count, len(lane.waiting)))]
        lane.under_way.update(indexes)
        return [(index, self._targets[index]) for index in indexes]

    def _read(self, lane: Lane, call: Future[Any]) -> Iterator[tuple[int, Outcome[str, Any]]]:
        """Handle the answer of a worker."""
        try:
            answer = call.result()
        except BaseException as exc:
            if not isinstance(exc, (Exception, concurrent.futures.CancelledError)):
                raise
            yield from self._drop_executor(lane, exc)
            return
        if answer == worker.UNKNOWN:  # another process has taken the place of the worker
            lane.process = ""
            yield from self._give_up(lane, None)
        elif isinstance(answer, str):
            lane.process = answer
        else:
            for index, packed in answer:
                if index in lane.under_way:  # a cluster may do a task a second time
                    lane.under_way.remove(index)
                    yield index, _unpacked(self._targets[index], packed)

    def _give_up(self, lane: Lane, cause: BaseException | None) -> Iterator[tuple[int, Outcome[str, Any]]]:
        """Return the outcome of the hosts that were under way in a lost process."""
        indexes = sorted(lane.under_way)
        lane.under_way.clear()
        for index in indexes:
            yield index, self._failure(index, "the worker that served it has ended; its function may be unfinished", cause)

    def _drop_executor(self, lane: Lane, cause: BaseException) -> Iterator[tuple[int, Outcome[str, Any]]]:
        """Use the executor no longer: its waiting targets go to the others."""
        lane.is_lost, lane.process = True, ""
        yield from self._give_up(lane, cause)
        while lane.waiting:
            index = lane.waiting.popleft()
            if not self._assign(index):
                yield index, self._failure(index, "no worker is left to serve it", cause)

    def _failure(self, index: int, text: str, cause: BaseException | None) -> Outcome[str, Any]:
        target = self._targets[index]
        error = HubError(f"{target}: {text}")
        error.__cause__ = cause
        return Outcome(target, None, error)


def _weight(target: str, place: int) -> bytes:
    return hashlib.blake2b(f"{place} {target}".encode("utf-8", "surrogateescape"), digest_size=8).digest()


def _unpacked(target: str, packed: bytes) -> Outcome[str, Any]:
    try:
        ok, value, text = pickle.loads(packed)
    except Exception as exc:
        error = HubError(f"{target}: the result of the function cannot be unpickled here: {type(exc).__name__}: {exc}")
        return Outcome(target, None, error)
    if ok:
        return Outcome(target, value)
    value.__cause__ = WorkerTraceback(text)
    return Outcome(target, None, value)


def _executors(workers: Workers, label: str) -> tuple[list[Executor], bool]:
    """Return the executors, and whether each is one worker. Raises TypeError, UsageError."""
    given: Any = workers
    if hasattr(given, "submit"):
        return [given], isinstance(given, concurrent.futures.ThreadPoolExecutor)
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
        arguments.wrong(f"{label}: workers", "an Executor or a sequence of Executors", given)
    for each in given:
        if not hasattr(each, "submit"):
            arguments.wrong(f"{label}: workers", "an Executor or a sequence of Executors", each)
    arguments.integer(len(given), f"{label}: number of workers", 1, 1 << 20)
    return list(given), True


def _mapping(
    label: str,
    workers: Workers,
    function: Callable[[Host], Any],
    targets: Iterable[str],
    limit: int,
    options: ConnectArguments,
) -> tuple[Mapping, int]:
    """Check the arguments of a call. Raises TypeError, UsageError."""
    executors, is_one_worker = _executors(workers, label)
    if not callable(function):
        arguments.wrong(f"{label}: function", "a function", function)
    if isinstance(targets, (str, bytes)) or not isinstance(targets, Iterable):
        arguments.wrong(f"{label}: targets", "an iterable of str", targets)
    if options.get("ask") is not None:
        arguments.wrong(f"{label}: ask", "None, because a worker cannot prompt", options["ask"])
    order = [arguments.text(target, f"{label}: a target") for target in targets]
    for target in order[:1]:
        option_set(target, options)
    job = worker.Job(function, options)
    if any(isinstance(each, concurrent.futures.ProcessPoolExecutor) for each in executors):  # Dask's pickles more
        try:
            pickle.dumps(job)
        except Exception as exc:
            raise TypeError(f"{label}: function: cannot be pickled: {exc}; define it at the top level of a module") from None
    return Mapping(executors, is_one_worker, job, order, limit_of(limit, label)), len(order)


def as_completed(
    workers: Workers,
    function: Callable[[Host], T],
    targets: Iterable[str],
    *,
    limit: int = LIMIT,
    **options: Unpack[ConnectArguments],
) -> Iterator[Outcome[str, T]]:
    """Connect to every target in its worker, call *function* in it with the host, and yield an Outcome for each as it ends.

    :param workers: one executor for each worker (:func:`processes`, :func:`dask`), or a single executor.
    :param function: called in the worker, on a thread for each host; it is pickled, and so are its result and its exception.
    :param targets: the first argument of ``connect`` for each host. The outcome's ``host`` is this text.
    :param limit: hosts at once in each worker.
    :param options: those of :meth:`pmitogen.Hub.connect`, except ``ask``. They are pickled, too, but no repr shows them.

    A failure is the outcome of its target only. If a worker's process ends, the outcome of each target under way in it is a
    HubError; the function is not called a second time. Leaving the iteration early calls the function for no further host, and
    waits for those under way.
    Raises TypeError, UsageError.
    """
    mapping, _ = _mapping("as_completed", workers, function, targets, limit, options)
    return (outcome for _, outcome in mapping.outcomes())


@overload
def map(
    workers: Workers,
    function: Callable[[Host], T],
    targets: Iterable[str],
    *,
    limit: int = LIMIT,
    return_exceptions: Literal[False] = False,
    **options: Unpack[ConnectArguments],
) -> list[T]: ...


@overload
def map(
    workers: Workers,
    function: Callable[[Host], T],
    targets: Iterable[str],
    *,
    limit: int = LIMIT,
    return_exceptions: bool,
    **options: Unpack[ConnectArguments],
) -> list[T | BaseException]: ...


def map(
    workers: Workers,
    function: Callable[[Host], T],
    targets: Iterable[str],
    *,
    limit: int = LIMIT,
    return_exceptions: bool = False,
    **options: Unpack[ConnectArguments],
) -> list[T] | list[T | BaseException]:
    """Do the same as :func:`as_completed`, but return the results in the order of the targets.

    With *return_exceptions* the list has the exception of each failing target in its place; otherwise the first is raised, after
    all have ended.
    """
    mapping, count = _mapping("map", workers, function, targets, limit, options)
    outcomes = dict(mapping.outcomes())
    in_order = [outcomes[index] for index in range(count)]
    if return_exceptions:
        return [outcome.error or outcome.result() for outcome in in_order]
    return [outcome.result() for outcome in in_order]


def close(workers: Workers) -> None:
    """Close the connections that workers have, where the workers go on: those of a cluster. Raises TypeError, UsageError."""
    executors, is_one_worker = _executors(workers, "close")
    if not is_one_worker:
        arguments.wrong("close: workers", "a sequence of Executors (what a single one has is closed with it)", workers)
    concurrent.futures.wait([executor.submit(worker.call, uuid.uuid4().hex, worker.close_hub) for executor in executors])
