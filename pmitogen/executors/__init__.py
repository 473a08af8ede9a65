"""Distribute calls on many hosts to several processes or machines, over any ``concurrent.futures.Executor``.

::

    with executors.processes(4) as workers:
        for outcome in executors.as_completed(workers, kernel, targets, timeout=20):
            print(outcome.host, outcome.value if outcome.ok else outcome.error)

Each worker process has one :class:`pmitogen.Hub`, which lasts as long as the process, and serves many hosts at once. The function
is called in that process with a connected :class:`pmitogen.Host`. The executor queues and distributes the work, not pmitogen.

``workers`` is one executor for each worker, as :func:`processes` and :func:`dask` make them: then a host always goes to the same
worker, which still has its connection. A single executor with several processes is accepted as well; then the executor chooses
the process for each batch of hosts.
"""

from pmitogen.executors.mapping import as_completed, close, map
from pmitogen.executors.workers import dask, processes

__all__ = ["as_completed", "close", "dask", "map", "processes"]
