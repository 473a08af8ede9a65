"""Child that runs one payload: a fork of the runner, with pipes for its output and its report."""

import os

from pmitogen.target import fork
from pmitogen.target.payload import run
from pmitogen.target.fds import FdGuard

MYPY = False
if MYPY:
    from pmitogen.target.payload.importer import PayloadFiles  # noqa: F401
    from pmitogen.target.types import Task  # noqa: F401


class PayloadChild(object):
    """A forked child that runs one payload. Raises OSError."""

    def __init__(self, files, task):
        # type: (PayloadFiles, Task) -> None
        run.own_modules()
        with FdGuard() as guard:
            null_fd, stdout, stderr, report = guard.devnull(), guard.pipe(), guard.pipe(), guard.pipe()

            def work():
                # type: () -> None
                run.prepare_streams()
                run.run_payload(files, task, report[1])

            self.pid = fork.fork(work, null_fd, stdout[1], stderr[1], keep=[report[1]])
        for fd in (null_fd, stdout[1], stderr[1], report[1]):
            os.close(fd)
        self.stdout_fd, self.stderr_fd, self.report_fd = stdout[0], stderr[0], report[0]
