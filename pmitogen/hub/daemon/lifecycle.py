"""Lifecycle of the hub process: one run, standby, the next run, and the end.

::

    SERVING a run --the run ends--> no connection outlives it: END
                  \\--------------> some do (ControlPersist, set on purpose): STANDBY
    STANDBY --a later run adopts it--> SERVING that run
            --the last connection has expired, or ``pmitogen hubs --stop``--> END

A hub on standby has connections only, each with the login account's interpreter. It discards the run's options, the caller's
environment, log, timeline and stderr. The name of its socket contains a fingerprint of the runs that it may serve; the first
worker of a later run looks for such a socket before it starts a hub.
"""

from __future__ import annotations

import enum
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

POLL_INTERVAL = 0.5  # seconds between checks of the run, where there are no pidfds


class Wakeup(bytes, enum.Enum):
    """Reason to wake the main thread: one byte in the pipe."""

    STOP = b"x"
    ADOPTED = b"a"
    ALL_CLOSED = b"e"


class HubLifecycle:
    """Serves runs one after another. The main thread calls :meth:`wait`; the other methods are for any thread."""

    def __init__(self, run_pid: int, settings: RunSettings) -> None:
        self.run_pid = run_pid
        self.settings = settings
        self.fingerprint = ""  # of the runs that it may serve after this one; empty until it is known
        self.is_standby = False
        self.stopped_by = ""  # the cause of its end, if it ended before its run
        self._read_fd, self._write_fd = os.pipe()

    def stop(self, by: str = "") -> None:
        """End the hub. Safe in a signal handler. *by*: the cause, for the messages of unfinished requests."""
        self.stopped_by = self.stopped_by or by
        os.write(self._write_fd, Wakeup.STOP)

    def all_closed(self) -> None:
        """End the hub: the last connection that outlived its run has ended. I/O thread."""
        self.is_standby = False  # no other run can adopt it now
        os.write(self._write_fd, Wakeup.ALL_CLOSED)

    def wait(self, registry: HostRegistry, listener: Listener) -> int:
        """Wait until the hub is to end. Returns the pid of the run that has ended, or 0 after :meth:`stop`."""
        while True:
            if not self._wait_for_run():
                return 0
            if not _call_on_io_thread(registry, lambda: self._enter_standby(registry, listener)):
                return self.run_pid
            wakeup = Wakeup(os.read(self._read_fd, 1))
            if wakeup is not Wakeup.ADOPTED:
                return 0 if wakeup is Wakeup.STOP else self.run_pid

    def _wait_for_run(self) -> bool:
        """Wait until the run has ended (True), or for :meth:`stop` (False)."""
        try:
            run_fd = os.pidfd_open(self.run_pid)
        except (AttributeError, OSError):
            while not select.select([self._read_fd], [], [], POLL_INTERVAL)[0]:
                if not processes.exists(self.run_pid):
                    return True
            return os.read(self._read_fd, 1) != Wakeup.STOP
        try:
            return run_fd in select.select([run_fd, self._read_fd], [], [])[0]
        finally:
            os.close(run_fd)

    # On the I/O thread

    def _enter_standby(self, registry: HostRegistry, listener: Listener) -> bool:
        """Keep the connections that outlive their run. Returns whether there are any."""
        if not registry.end_run(self.all_closed) or not self.fingerprint:
            return False
        self.settings.end()
        listener.callers.clear()
        listener.warnings.end_run()
        self.is_standby = True
        listener.rename(socket_paths.standby_socket(listener.path, self.fingerprint))
        return True

    def adopt_run(self, registry: HostRegistry, listener: Listener, run_pid: int, path: str, settings: RunSettings) -> None:
        """Serve another run from now on. Raises UsageError if the hub serves one, or cannot serve this one."""
        if not self.is_standby:
            raise UsageError("this hub serves a run")
        if os.path.dirname(path) != os.path.dirname(listener.path) or not os.path.basename(path).startswith(f"{run_pid}-"):
            raise UsageError(f"{path}: invalid name for the socket of run {run_pid}")
        settings.begin(run_pid)
        self.is_standby, self.run_pid, self.settings = False, run_pid, settings
        registry.start_run()
        registry.trace = make_trace(settings.trace, socket_paths.hub_index_in(path), run_pid)
        listener.rename(path)
        os.write(self._write_fd, Wakeup.ADOPTED)


def _call_on_io_thread(registry: HostRegistry, work: Callable[[], bool]) -> bool:
    """Call *work* on the I/O thread and return its result; False if that thread has ended."""
    done = threading.Event()
    answers: list[bool] = []

    def run() -> None:
        try:
            answers.append(work())
        finally:
            done.set()

    try:
        registry.defer(run)
    except Exception:
        return False
    done.wait(5)
    return bool(answers and answers[0])
