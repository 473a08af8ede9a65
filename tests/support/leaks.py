"""Resources left by a test: processes, threads, sockets, files.

A snapshot is taken before each test and compared after it, with a short grace period, because some resources end a moment
after their owner. Processes count if they descend from this run (see ``init``), sockets and threads if they are pytest's own.
Files count in the run's temporary and runtime directories, and in shared directories if they belong to test accounts.
tools/run_tests.py checks for all other files in /tmp at the end.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from . import accounts, init, processes, session

GRACE = 5.0  # seconds; a hub may take that long to notice the end of its run


@dataclass(frozen=True)
class Snapshot:
    time: int  # in clock ticks after boot
    processes: frozenset[processes.Process]
    threads: frozenset[threading.Thread]
    sockets: frozenset[str]
    files: frozenset[Path]


def take(uids: set[int]) -> Snapshot:
    """Return the present files and processes; *uids* are those of the test accounts."""
    return Snapshot(
        processes.clock(),
        frozenset(init.family()),
        frozenset(threading.enumerate()),
        frozenset(_sockets()),
        frozenset(_files(uids)),
    )


def _sockets() -> set[str]:
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def _files(uids: set[int]) -> set[Path]:
    found = {path for name in ("t", "r") for path in (session.directory / name).iterdir()}
    found |= accounts.owned_files(uids)
    return found


def since(before: Snapshot, uids: set[int], allowed: set[int], grace: float = GRACE) -> list[str]:
    """Return new files and processes since *before*, one line each; *allowed* are pids of lasting fixtures."""
    deadline = time.monotonic() + grace
    while True:
        left = _compare(before, take(uids), allowed)
        if not left or time.monotonic() > deadline:
            return left
        gc.collect()  # objects that only a cycle refers to are not in use
        time.sleep(0.03)


def _compare(before: Snapshot, now: Snapshot, allowed: set[int]) -> list[str]:
    known = {(process.pid, process.start) for process in before.processes}
    new = [p for p in now.processes if (p.pid, p.start) not in known and p.start >= before.time]
    left = [f"process {p}" for p in new if p.pid not in allowed]
    left += [f"thread {thread.name}" for thread in now.threads - before.threads]
    left += [f"open {name} in pytest" for name in now.sockets - before.sockets]
    left += [f"file {path}" for path in now.files - before.files]
    return sorted(left)
