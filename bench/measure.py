"""One measured run: ``python -m bench.measure RESULT.json SECONDS COMMAND...``

A process of its own for each run, since the kernel adds up the CPU of a process's children for the whole of its life. It is
their subreaper as well: whatever the run orphans (hubs, ssh's ControlPersist masters) is adopted and waited for here, and so
counted. Processes that outlive the run get EXIT_GRACE seconds and are then killed. Processes of sshd do not count.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from tests.support import processes

EXIT_GRACE = 2.0  # seconds
PR_SET_CHILD_SUBREAPER = 36


def measure(command: list[str], limit: float) -> dict[str, object]:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    peak = 0
    start = time.monotonic()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    code: int | None = None
    while code is None:
        pid, status, usage = os.wait4(-1, os.WNOHANG if limit else 0)
        if pid == 0:
            if time.monotonic() - start > limit:
                processes.kill_family(os.getpid(), also_root=False)
                code = -1
            time.sleep(0.002)
        elif pid == child.pid:
            code = os.waitstatus_to_exitcode(status)
            peak = max(peak, usage.ru_maxrss)
    wall = time.monotonic() - start
    outlived = sorted(process.command for process in processes.descendants(os.getpid()))
    peak = max(peak, _reap_rest())
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    child.returncode = code
    return {
        "code": code,
        "wall": wall,
        "cpu": used.ru_utime + used.ru_stime,
        "peak_mb": peak / 1024,  # the largest of the processes that were waited for here: the playbook's and what outlived it
        "outlived": outlived,
    }


def _reap_rest() -> int:
    """Waits for what is left, then kills it; the largest resident set among it, in KiB."""
    peak = 0
    deadline = time.monotonic() + EXIT_GRACE
    while True:
        try:
            pid, _, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return peak
        peak = max(peak, usage.ru_maxrss)
        if pid == 0:
            if time.monotonic() > deadline:
                processes.kill_family(os.getpid(), also_root=False)
            time.sleep(0.01)


if __name__ == "__main__":
    result = measure(sys.argv[3:], float(sys.argv[2]))
    Path(sys.argv[1]).write_text(json.dumps(result))
    sys.exit(0)
