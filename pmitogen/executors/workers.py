"""Executors of one worker each: the processes of this machine, and the workers of a Dask cluster."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any

from pmitogen.api import arguments


@contextlib.contextmanager
def processes(count: int | None = None) -> Iterator[list[Executor]]:
    """Start *count* worker processes (None: one for each core), and end them with the block.

    They are started afresh (multiprocessing's ``spawn``), so the function has to be importable, and a script needs its
    ``if __name__ == "__main__":``. Raises TypeError, UsageError.
    """
    if count is None:
        count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = arguments.integer(count, "processes: count", 1, 1024)
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(ProcessPoolExecutor(1, mp_context=context)) for _ in range(workers)]


def dask(client: Any) -> list[Executor]:
    """Return one executor for each worker that *client*, a ``distributed.Client``, has now (``pip install pmitogen[dask]``).

    They are made by its ``get_executor()``. If a worker is lost, the scheduler gives its part to another one. Options of
    connections, secrets among them, travel to the workers: use TLS where the network between them is not trusted.
    Raises TypeError, RuntimeError where there is no worker.
    """
    if not callable(getattr(client, "get_executor", None)):
        arguments.wrong("dask: client", "distributed.Client", client)
    addresses = sorted(client.nthreads())
    if not addresses:
        raise RuntimeError("dask: the cluster has no workers; wait for them with client.wait_for_workers(1)")
    return [client.get_executor(workers=[address], allow_other_workers=True) for address in addresses]
