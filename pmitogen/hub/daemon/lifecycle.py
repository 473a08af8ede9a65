"""Life of the hub process: one run, standby, the next run, and the end.

::

    SERVING a run --the run ends--> no connection outlives it: END
                  \\--------------> some do (ControlPersist, set on purpose): RESTING
    RESTING --a later run finds us--> SERVING that run
            --the last of them has had its time, or we are told--> END

A resting hub keeps connections only, each with the login account's interpreter. Of the run it keeps nothing: no options, no
caller's environment, no log, timeline or stderr. Its socket has a name of its own, which tells the runs that it may serve; the
first worker of a later run looks for one before it starts a hub.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from pmitogen.errors import UsageError
from pmitogen.hub.daemon import socket_paths
from pmitogen.hub.daemon.run_settings import RunSettings
from pmitogen.hub.trace import make_trace
from pmitogen.util import processes

if TYPE_CHECKING:
    from pmitogen.hub.daemon.server import Listener
    from pmitogen.hub.registry import HostRegistry

POLL = 0.5  # seconds between looks at the run, where there are no pidfds
STOP, ADOPTED, EMPTY = b"x", b"a", b"e"


class HubLifecycle:
    """Serves runs one after another, until the process is to end. ``until_end`` runs on the main thread, the rest on any."""

    def __init__(self, run_pid: int, settings: RunSettings) -> None:
        self.run_pid = run_pid
        self.settings = settings
        self.fingerprint = ""  # of the runs that it may serve after this one; empty until it is known
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

    def until_end(self, contexts: HostRegistry, listener: Listener) -> int:
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

    def _rest(self, contexts: HostRegistry, listener: Listener) -> bool:
        """Keep what outlives its run; return whether anything does."""
        if not contexts.retire(self.nothing_left) or not self.fingerprint:
            return False
        self.settings.end()
        listener.callers.clear()
        self.resting = True
        listener.rename(socket_paths.resting_socket(listener.path, self.fingerprint))
        return True

    def adopt(self, contexts: HostRegistry, listener: Listener, run_pid: int, path: str, settings: RunSettings) -> None:
        """Serve another run from now on. Raises UsageError if we serve one, or cannot serve this one."""
        if not self.resting:
            raise UsageError("this hub serves a run")
        if os.path.dirname(path) != os.path.dirname(listener.path) or not os.path.basename(path).startswith(f"{run_pid}-"):
            raise UsageError(f"{path}: invalid name for the socket of run {run_pid}")
        settings.begin(run_pid)
        self.resting, self.run_pid, self.settings = False, run_pid, settings
        contexts.resume()
        contexts.trace = make_trace(settings.trace, socket_paths.number_in(path))
        listener.rename(path)
        os.write(self._write_fd, ADOPTED)


def _on_io_thread(contexts: HostRegistry, work: Callable[[], bool]) -> bool:
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
