"""Timeline of a run, for a browser's trace viewer and ``pmitogen trace``.

With ``PMITOGEN_TRACE=file.json`` each worker, the hub and each target record their times; the hub writes the file when the run
ends, in the Chrome trace event format (chrome://tracing, https://ui.perfetto.dev): a process per host, in it a row for the
connection and one per worker. ``pmitogen trace file.json`` sums it up as a table.

Times are wall clock, in microseconds. A target reports durations only, because its clock may differ; these are placed in the
middle of the request's time. The rest, which neither side can account for, is ``wire``: the way to the target and back.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import time
from collections.abc import Mapping

from pmitogen import logging
from pmitogen.util import trusted_path
from pmitogen.util.atomic_file import atomic_write

CONNECTION_ROW = 0  # the row of the host's connection


class Trace:
    """Events of one run. I/O thread only, except :meth:`write`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._events: list[dict[str, object]] = []
        self._hosts: dict[str, int] = {}
        self._pids = itertools.count(1)
        self._shift = time.time() - time.monotonic()

    def to_wall_clock(self, monotonic: float) -> float:
        """Convert a moment of time.monotonic() to wall clock."""
        return monotonic + self._shift

    def span(self, host: str, row: int, name: str, start: float, end: float, **details: object) -> None:
        """Add a span from *start* to *end* (wall clock, seconds)."""
        pid = self._host(host)
        dur = max(1, round((end - start) * 1e6))
        event = {"name": name, "ph": "X", "pid": pid, "tid": row, "ts": round(start * 1e6), "dur": dur}
        self._events.append({**event, "args": details} if details else event)

    def stages(self, host: str, end: float, stages: dict[str, float]) -> None:
        """Add the stages of connecting, one after another; the last ended at *end*."""
        start = end - sum(stages.values())
        for name, seconds in stages.items():
            self.span(host, CONNECTION_ROW, name, start, start + seconds)
            start += seconds

    def worker(self, host: str, row: int, labels: dict[str, str]) -> None:
        """Set the name of the spans that the worker of *row* has added since the last call for this row.

        :param labels: ``host`` (the inventory's name), ``task`` and ``task_id``, as far as they are known.
        """
        name = ": ".join(filter(None, (labels.get("host", host), labels.get("task"))))
        event = {"name": "thread_name", "ph": "M", "pid": self._host(host), "tid": row}
        self._events.append({**event, "args": {"name": name, **labels}})

    def request(
        self, host: str, row: int, label: str, created_at: float, target: list[float] | None, totals: Mapping[str, int]
    ) -> None:
        """Add a request that has been answered.

        :param created_at: wall clock in seconds.
        :param target: [seconds before its process, seconds of its process], if the target reported them.
        :param totals: bytes ``sent`` and ``received`` on the connection so far.
        """
        now = time.time()
        self.span(host, row, label, created_at, now, **totals)
        if target:
            queue, ran = target
            agent_channel = max(0.0, now - created_at - queue - ran)
            start = created_at + agent_channel / 2
            self.span(host, row, "wire", created_at, start)
            self.span(host, row, "start", start, start + queue)
            self.span(host, row, "module", start + queue, start + queue + ran)
            self.span(host, row, "wire", start + queue + ran, now)

    def _host(self, host: str) -> int:
        pid = self._hosts.get(host)
        if pid is None:
            pid = self._hosts[host] = next(self._pids)
            self._events.append({"name": "process_name", "ph": "M", "pid": pid, "args": {"name": host}})
            named = {"name": "thread_name", "ph": "M", "pid": pid, "tid": CONNECTION_ROW, "args": {"name": "connection"}}
            self._events.append(named)
        return pid

    def write(self) -> None:
        """Write the file, readable by this user only. Any thread, once the I/O thread has ended. Raises OSError."""
        text = json.dumps({"traceEvents": self._events, "displayTimeUnit": "ms"})
        with atomic_write(self._path, lambda: 0o600) as stream:
            stream.write(text.encode())


def make_trace(path: str, hub_index: int, run_pid: int) -> Trace | None:
    """Return a trace for the file *path*; None if that is empty. Of several hubs, each after the first adds its *hub_index*.

    The first one warns on the stderr of the run, whose main process is *run_pid*, if the file cannot be written.
    """
    if path and not hub_index:
        try:
            _check_writable(path)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            logging.warn_run(run_pid, f"PMITOGEN_TRACE: {path}: {reason}; no timeline is written")
    return Trace(f"{path}.{hub_index}" if hub_index else path) if path else None


def _check_writable(path: str) -> None:
    """Raise OSError if a file cannot be written, now as at the end of the run."""
    real = trusted_path.resolve(path)
    directory = os.path.join(os.path.dirname(real), "")
    state = os.stat(directory)
    exists = os.path.lexists(real)
    if exists:
        trusted_path.check_file(real, os.lstat(real), state)
        if os.path.isdir(real):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not os.access(real if exists else directory, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
