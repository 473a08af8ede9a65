"""Process trees, read from /proc.

A process is identified by (pid, start time), because the kernel reuses pids. Zombies do not count as living, because only
their exit status is left.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """One living process at the time when /proc was read."""

    pid: int
    start: int  # clock ticks after boot
    parent: int
    zombie: bool

    @property
    def command(self) -> str:
        """Return its command line, or the kernel's short name for it."""
        try:
            line = Path(f"/proc/{self.pid}/cmdline").read_bytes().replace(b"\0", b" ").strip()
            return line.decode("utf-8", "replace") or f"[{Path(f'/proc/{self.pid}/comm').read_text().strip()}]"
        except OSError:
            return "(gone)"

    @property
    def uid(self) -> int | None:
        try:
            return os.stat(f"/proc/{self.pid}").st_uid
        except OSError:
            return None

    def __str__(self) -> str:
        return f"{self.pid} {self.command}"


def read(pid: int) -> Process | None:
    """Return the process *pid*, or None if it does not exist."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may contain blanks and brackets
    return Process(pid, int(fields[19]), int(fields[1]), fields[0] in "ZX")


def all_processes(*, zombies: bool = False) -> Iterator[Process]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            process = read(int(name))
            if process is not None and (zombies or not process.zombie):
                yield process


def descendants(root: int) -> set[Process]:
    """Return all living descendants of *root*, without *root*."""
    children: dict[int, list[Process]] = {}
    for process in all_processes():
        children.setdefault(process.parent, []).append(process)
    found: set[Process] = set()
    waiting = [root]
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child.pid)
    return found


def family(root: int) -> set[Process]:
    """Like ``descendants``, ten times as fast, but one may be missing if others end at the same time."""
    if not os.path.exists(f"/proc/{root}/task/{root}/children"):  # the kernel has no such lists
        return descendants(root)
    found: set[Process] = set()
    waiting = _children(root)
    while waiting:
        process = read(waiting.pop())
        if process is not None and not process.zombie and process not in found:
            found.add(process)
            waiting += _children(process.pid)
    return found


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    return found


def of_user(uid: int) -> set[Process]:
    """Return all living processes with the effective user *uid*."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}").st_uid == uid and (process := read(int(name))) and not process.zombie:
                    found.add(process)
    return found


def clock() -> int:
    """Return the time in clock ticks after boot, as in ``Process.start``."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def is_alive(pid: int) -> bool:
    """Return whether *pid* is alive; a zombie is not."""
    process = read(pid)
    return process is not None and not process.zombie


def cpu(pid: int, *, with_children: bool = False) -> float:
    """Return the processor time of a process in seconds, optionally with that of its reaped children; 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11 : 15 if with_children else 13])) / os.sysconf("SC_CLK_TCK")


def wait_gone(*pids: int, timeout: float = 5.0) -> list[int]:
    """Wait until none of *pids* is alive; return those that still are after *timeout* seconds."""
    deadline = time.monotonic() + timeout
    while True:
        left = [pid for pid in pids if is_alive(pid)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02)


def wait_until(found: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until *found* returns a true value; fail after *seconds*."""
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.05)


def kill_family(root: int, *, also_root: bool = True) -> None:
    """Kill *root* and all its descendants with SIGKILL, repeatedly until none is left.

    They are stopped first: a process that forks between listing and kill would leave a child without a parent in the tree.
    """
    for _ in range(50):
        if not _kill_once(root, also_root):
            return
        time.sleep(0.02)


def kill_descendants(root: int) -> None:
    """Kill the present descendants of *root*, and none that it starts afterwards."""
    _kill_once(root, also_root=False)


def _kill_once(root: int, also_root: bool) -> set[int]:
    victims: set[int] = set()
    while found := _family(root, also_root) - victims:
        victims |= found
        _signal(found, signal.SIGSTOP)
    _signal(victims, signal.SIGKILL)
    return victims


def _family(root: int, also_root: bool) -> set[int]:
    found = {process.pid for process in descendants(root)}
    return found | {root} if also_root and is_alive(root) else found


def _signal(pids: set[int], signum: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)
