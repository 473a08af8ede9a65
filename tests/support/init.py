"""Make the test run a process family that no process can leave.

Hubs, agents and runners start their own sessions, and tests orphan them on purpose by killing their parents. A search by
name would also find those of other runs on the machine. Therefore a test run first forks: the parent becomes a child
subreaper, and the child continues as pytest. Every orphan below becomes a child of that parent, which reaps it like init. A
process belongs to the tests if it descends from the parent, and when pytest ends for any reason, the parent kills the others.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

from . import processes

_VARIABLE = "PMITOGEN_TEST_INIT"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def become_family(clean_up: Callable[[], None]) -> None:
    """Fork; return in the child only. The parent runs *clean_up* when the child has ended, and exits with its status."""
    if sys.platform != "linux" or _VARIABLE in os.environ:
        return
    init = os.getpid()
    child = os.fork()
    if child == 0:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.environ[_VARIABLE] = str(init)
        return
    status = 1
    try:
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        status = _wait_as_init(child)
        processes.kill_family(init, also_root=False)
        clean_up()
    finally:
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _wait_as_init(child: int) -> int:
    """Reap all children until *child* has ended; return its wait status. Signals are forwarded to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal also sends it to pytest
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda signum, frame: os.kill(child, signum))
    while True:
        pid, status = os.wait()
        if pid == child:
            return status


def root() -> int:
    """Return the pid whose descendants belong to the tests."""
    return int(os.environ.get(_VARIABLE, os.getpid()))


def family() -> set[processes.Process]:
    """Return all living processes that this run has started, except pytest itself."""
    return {process for process in processes.family(root()) if process.pid != os.getpid()}
