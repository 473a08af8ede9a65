"""How long a hub lives.

::

    SERVING a run --the run ends--> no connection outlives it: END
                  \\--------------> some do (ControlPersist, set on purpose): RESTING
    RESTING --a later run finds us--> SERVING that run
            --the last of them has had its time, or we are told--> END

A resting hub keeps logins only: every other account's interpreter ended with the run. Its socket has a name of its own,
under which the first worker of a later run looks before it starts a hub.
"""

from __future__ import annotations

import os
import select
import threading
from typing import TYPE_CHECKING, Any

from pmitogen.hub.daemon import socket_paths
from pmitogen.util import processes

if TYPE_CHECKING:
    from pmitogen.hub.daemon.server import Listener
    from pmitogen.hub.registry import Contexts

POLL = 0.5  # seconds between looks at the run, where there are no pidfds
STOP, ADOPTED, EMPTY = b"x", b"a", b"e"


class Life:
    """See the head of this file. ``until_end`` is the main thread's; the rest may be called on any."""

    def __init__(self, run_pid: int) -> None:
        self.run_pid = run_pid
        self.resting = False
        self.stopped_by = ""  # what ended it before its run
        self._read_fd, self._write_fd = os.pipe()

    def stop(self, by: str = "") -> None:
        """End soon. Safe in a signal handler. *by*: what ends it, for the messages of unfinished requests."""
        self.stopped_by = self.stopped_by or by
        os.write(self._write_fd, STOP)

    def nothing_left(self) -> None:
        """The last connection that outlived its run has ended. I/O thread."""
        self.resting = False  # too late for another run to find us
        os.write(self._write_fd, EMPTY)

    def until_end(self, contexts: Contexts, listener: Listener) -> int:
        """Return when the hub is to end: the pid of the run that has ended, or 0 if we were told to."""
        while True:
            if not self._wait_for_run():
                return 0
            if not _on_io_thread(contexts, lambda: self._rest(contexts, listener)):
                return self.run_pid
            said = os.read(self._read_fd, 1)
            if said != ADOPTED:
                return 0 if said == STOP else self.run_pid

    def _wait_for_run(self) -> bool:
        """Return when the run has ended (True) or we were told to stop (False)."""
        try:
            run_fd = os.pidfd_open(self.run_pid)
        except (AttributeError, OSError):
            while not select.select([self._read_fd], [], [], POLL)[0]:
                if not processes.exists(self.run_pid):
                    return True
            return os.read(self._read_fd, 1) != STOP
        try:
            return run_fd in select.select([run_fd, self._read_fd], [], [])[0]
        finally:
            os.close(run_fd)

    # On the I/O thread

    def _rest(self, contexts: Contexts, listener: Listener) -> bool:
        """Keep what outlives its run; return whether anything does."""
        if not contexts.retire(self.nothing_left):
            return False
        self.resting = True
        listener.rename(socket_paths.resting_socket(listener.path))
        return True

    def adopt(self, contexts: Contexts, listener: Listener, run_pid: int, path: str) -> bool:
        """Serve another run from now on; False if we serve one."""
        if not self.resting:
            return False
        self.resting, self.run_pid = False, run_pid
        contexts.resume()
        listener.rename(path)
        os.write(self._write_fd, ADOPTED)
        return True


def _on_io_thread(contexts: Contexts, work: Any) -> bool:
    """Call *work* there and wait; False if that thread has ended."""
    done = threading.Event()
    answers: list[bool] = []

    def run() -> None:
        try:
            answers.append(work())
        finally:
            done.set()

    try:
        contexts.defer(run)
    except Exception:
        return False
    done.wait(5)
    return bool(answers and answers[0])
