"""A child forked ahead of its task.

Between two tasks the runner is idle while the controller prepares the next one. That is the time to fork, if the machine is
idle as well: the *spare* child has left its parent's descriptors and session behind and has made the memory that a module
touches its own. Told what to run, it starts at once. On a busy machine none is made, since some are made in vain.

It is for one task only, like any child, and for the code that was there when it was forked: whatever the runner learns after
that makes it stale, and it ends unused. It also ends when its time is over or its runner is.
"""

import gc
import os
import select

from pmitogen.protocol import framing
from pmitogen.target import child
from pmitogen.target.fds import FdGuard

MAX_IDLE = 10.0  # seconds that a spare waits
TOUCH_BATCH = 2000  # objects that are touched between two looks at the pipe
MAX_TASK_SIZE = 32 << 10  # bytes of an order: less than a pipe holds, so that giving it never blocks


class PayloadChild(object):
    """A forked child that runs one payload. *order* is what, or None for a spare, which waits for it on a pipe.

    Raises OSError.
    """

    def __init__(self, files, task):
        with FdGuard() as guard:
            null_fd, stdout, stderr, report = guard.devnull(), guard.pipe(), guard.pipe(), guard.pipe()
            task_pipe = guard.pipe() if task is None else (None, None)

            def work():
                child.prepare_streams()
                child.run_payload(files, wait_for_task(task_pipe[0]) if task is None else task, report[1])

            keep = [fd for fd in (report[1], task_pipe[0]) if fd is not None]
            self.pid = child.fork(work, null_fd, stdout[1], stderr[1], keep=keep)
        for fd in (null_fd, stdout[1], stderr[1], report[1], task_pipe[0]):
            if fd is not None:
                os.close(fd)
        self.stdout_fd, self.stderr_fd, self.report_fd = stdout[0], stderr[0], report[0]
        self._task_fd = task_pipe[1]

    def assign(self, task):
        """Tell a spare what to run. Returns False if it cannot be told: the order is too long, or the spare has died."""
        data = framing.encode_frame({"header": task[0], "rest": task[2:]}, task[1])
        if len(data) > MAX_TASK_SIZE:
            return False
        try:
            os.write(self._task_fd, data)
        except OSError:
            return False
        os.close(self._task_fd)
        self._task_fd = None
        return True

    def discard(self):
        """End a spare that was not needed; its parent still has to collect it."""
        for fd in (self._task_fd, self.stdout_fd, self.stderr_fd, self.report_fd):
            if fd is not None:
                os.close(fd)


def wait_for_task(fd):
    """In a spare: wait to be told what to run. Returns that, as run_payload takes it; ends the process if that never comes."""
    pretouch_heap(fd)
    reader = framing.FrameReader()
    while True:
        data = os.read(fd, 1 << 16)
        if not data:
            os._exit(0)
        for header, parameters in reader.feed(data):
            os.close(fd)
            return [header["header"], parameters] + header["rest"]


def is_loaded():
    """Whether more processes want to run at this moment, with this one, than there are processors for a spare to use."""
    try:
        return run_queue_length() > os.sysconf("SC_NPROCESSORS_ONLN")
    except (IOError, OSError, ValueError, AttributeError):
        return True


def run_queue_length():
    """How many processes want to run: at this moment on Linux (proc(5)), elsewhere in the last minute."""
    try:
        with open("/proc/loadavg") as stream:
            return int(stream.read().split()[3].split("/")[0])
    except (IOError, OSError):
        return os.getloadavg()[0]


def pretouch_heap(fd):
    """Make the pages that hold Python objects this process's own, until there is an order on *fd*."""
    if hasattr(gc, "unfreeze"):
        waiting = select.poll()
        waiting.register(fd, select.POLLIN)
        gc.unfreeze()
        objects = gc.get_objects()
        while objects and not waiting.poll(0):
            gc.get_referents(*objects[-TOUCH_BATCH:])
            del objects[-TOUCH_BATCH:]
        gc.freeze()
