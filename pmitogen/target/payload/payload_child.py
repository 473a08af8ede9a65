"""Children that run one payload each, forked when the task arrives or before it is known.

Between two tasks the runner is idle while the controller prepares the next one. If the machine is idle too, the runner forks
the *spare* child. The spare closes its parent's descriptors, starts its own session, and touches the memory that a module uses,
so that these pages are copied. When its task arrives, it starts at once. On a loaded machine no spare is forked, because some
spares are not needed.

A spare runs one task, like any child, with the code that was loaded when it was forked. When the runner imports more, the spare
is discarded. It also ends after ``MAX_IDLE`` and with its runner.
"""

import gc
import os
import select

from pmitogen.protocol import framing
from pmitogen.target import child
from pmitogen.target.payload import run
from pmitogen.target.fds import FdGuard

MYPY = False
if MYPY:
    from typing import Optional  # noqa: F401
    from pmitogen.target.payload.importer import PayloadFiles  # noqa: F401
    from pmitogen.target.types import Task  # noqa: F401

MAX_IDLE = 10.0  # seconds that a spare waits
TOUCH_BATCH = 2000  # objects to touch between two polls of the pipe
MAX_TASK_SIZE = 32 << 10  # bytes: less than a pipe holds, so that writing a task never blocks


class PayloadChild(object):
    """A forked child that runs one payload. *task*: None for a spare, which waits for its task on a pipe. Raises OSError."""

    def __init__(self, files, task):
        # type: (PayloadFiles, Optional[Task]) -> None
        run.own_modules()
        with FdGuard() as guard:
            null_fd, stdout, stderr, report = guard.devnull(), guard.pipe(), guard.pipe(), guard.pipe()
            task_r, task_w = guard.pipe() if task is None else (-1, -1)

            def work():
                # type: () -> None
                run.prepare_streams()
                run.run_payload(files, task or wait_for_task(task_r), report[1])

            keep = [fd for fd in (report[1], task_r) if fd >= 0]
            self.pid = child.fork(work, null_fd, stdout[1], stderr[1], keep=keep)
        for fd in [null_fd, stdout[1], stderr[1]] + keep:
            os.close(fd)
        self.stdout_fd, self.stderr_fd, self.report_fd = stdout[0], stderr[0], report[0]
        self._task_fd = task_w  # -1 if it has its task

    def assign(self, task):
        # type: (Task) -> bool
        """Send a spare its task. Returns False if the task is too long or the spare has ended."""
        data = framing.encode_frame({"header": task[0], "rest": task[2:]}, task[1])
        if len(data) > MAX_TASK_SIZE or self._task_fd < 0:
            return False
        try:
            os.write(self._task_fd, data)
        except OSError:
            return False
        os.close(self._task_fd)
        self._task_fd = -1
        return True

    def discard(self):
        # type: () -> None
        """End a spare that is not needed. The caller must still collect it."""
        for fd in (self._task_fd, self.stdout_fd, self.stderr_fd, self.report_fd):
            if fd >= 0:
                os.close(fd)


def wait_for_task(fd):
    # type: (int) -> Task
    """In a spare: wait for the task and return it for run_payload. Exits if none comes."""
    pretouch_heap(fd)
    reader = framing.FrameReader()
    while True:
        data = os.read(fd, 1 << 16)
        if not data:
            os._exit(0)
        for header, parameters in reader.feed(data):
            os.close(fd)
            conflicts, record_imports, in_archive = header["rest"]
            return header["header"], parameters, conflicts, record_imports, in_archive


def is_loaded():
    # type: () -> bool
    """True if more processes are ready to run now, with this one, than there are processors."""
    try:
        return run_queue_length() > os.sysconf("SC_NPROCESSORS_ONLN")
    except (IOError, OSError, ValueError, AttributeError):
        return True


def run_queue_length():
    # type: () -> float
    """Return the number of processes that are ready to run: now on Linux (proc(5)), elsewhere in the last minute."""
    try:
        with open("/proc/loadavg") as stream:
            return int(stream.read().split()[3].split("/")[0])
    except (IOError, OSError):
        return os.getloadavg()[0]


def pretouch_heap(fd):
    # type: (int) -> None
    """Copy the pages that hold Python objects into this process, until a task arrives on *fd*."""
    if hasattr(gc, "unfreeze"):
        waiting = select.poll()
        waiting.register(fd, select.POLLIN)
        gc.unfreeze()
        objects = gc.get_objects()
        while objects and not waiting.poll(0):
            gc.get_referents(*objects[-TOUCH_BATCH:])
            del objects[-TOUCH_BATCH:]
        gc.freeze()
