"""Makes the test run a family that no process can leave.

Hubs, agents and runners put themselves in sessions of their own, and are orphaned on purpose when a test kills their
parents. Looking for them by name would find those of other runs on the machine as well. So the first thing a test run does is
to fork: the parent becomes what the kernel calls a child subreaper, the child goes on as pytest. Whatever is orphaned below is
adopted by that parent, which reaps it like init. A process belongs to the tests if it descends from there, and when pytest ends,
whatever the cause, the parent kills what is left.
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
    """Forks; returns in the child only. The parent runs *clean_up* when the child has ended, and exits as it did."""
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
    """Reaps whatever ends below us until *child* has; returns its wait status. Signals go on to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to pytest as well
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda signum, frame: os.kill(child, signum))
    while True:
        pid, status = os.wait()
        if pid == child:
            return status


def root() -> int:
    """The pid whose descendants belong to the tests."""
    return int(os.environ.get(_VARIABLE, os.getpid()))


def family() -> set[processes.Process]:
    """All living processes that this run has started, pytest itself excepted."""
    return {process for process in processes.family(root()) if process.pid != os.getpid()}
