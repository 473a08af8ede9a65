"""End a command without Python: signals for its process group, by another session, as sshd passes none on to a root login.

If the server allows no other session, the command's own session requests the signal; if that fails, another connection is made.
The line that runs the command tells its process. Where it cannot, all that is left is the request for the signal.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import paramiko

from pmitogen.errors import Error
from pmitogen.hub.without_python import simple_commands
from pmitogen.transport.errors import SessionRefused
from pmitogen.util import threads

if TYPE_CHECKING:
    from pmitogen.transport.connection import Connection

START_TIMEOUT = 1.0  # seconds for a command that is to be killed to tell its process
FIRST_SIGNAL_TIMEOUT = 60.0  # seconds for a command that gets another signal: it may have to wait for a session
CLOSE_TIMEOUT = 3.0  # seconds for another session to kill a command
SIGNAL_TIMEOUT = 0.5  # seconds for a signal that the server passes on
KILL_TIMEOUT = 4.0  # seconds for a killed command to end before its channel is closed


class GroupKiller:
    """Sends signals to the process group of one command, and kills it once. Any thread.

    :param send_signal: asks the server to send a signal. May raise errors of the channel.
    :param run_elsewhere: runs a line by another connection. Blocks; raises Error.
    """

    def __init__(
        self,
        connection: Connection,
        send_signal: Callable[[str], None],
        run_elsewhere: Callable[[str, float], None],
        has_terminal: bool = False,
    ) -> None:
        self._has_terminal = has_terminal
        self._connection, self._send_signal, self._run_elsewhere = connection, send_signal, run_elsewhere
        self.process: int | None = None
        self.has_no_process = False  # the command tells none
        self._is_settled = threading.Event()  # the process is known, or will never be
        self._gone = threading.Event()  # there is nothing left to kill, or no way to do so
        self._is_wanted = False  # the group is to be killed as soon as its process is known
        self._claim = threading.Lock()  # taken without waiting, and kept by the one who kills the group
        self._is_sent = threading.Event()  # the process group has the signal
        self._lock = threading.Lock()
        self._signals: list[str] = []  # to be sent, in their order; the first is being sent

    def note_process(self, process: int | None, has_none: bool = False) -> None:
        """Note the process of the command. None: it is not known yet, or if *has_none*, it never will be."""
        if process is not None and self.process is None:
            self.process = process
            self._is_settled.set()
            if self._is_wanted:
                self.begin()
        elif process is None and has_none:
            self.has_no_process = True
            self._is_settled.set()

    def note_end(self) -> None:
        """Note that the command has ended, or its connection: from now on its number may be that of another process."""
        self._gone.set()
        self._is_settled.set()

    def begin(self) -> None:
        """Kill the group on a thread of its own, as soon as it is known. Idempotent."""
        self._is_wanted = True
        if self.process is not None and self._claim.acquire(blocking=False):
            try:
                threads.start(self._kill, "pmitogen cancel", self.process)
            except Error:  # no thread for it; a caller that may block can still kill the group
                self._claim.release()

    def cancel(self, close: Callable[[], None]) -> None:
        """Do what :meth:`end` does on a thread of its own. Raises Error if there can be none."""
        threads.start(self.end, "pmitogen cancel", close)

    def end(self, close: Callable[[], None]) -> None:
        """Kill the group, wait for the end of the command, and call *close*, which closes its channel. Blocks."""
        if not self.has_no_process:
            self.begin()
            self._gone.wait(KILL_TIMEOUT)
        close()

    def kill(self) -> None:
        """Kill the group unless it has ended, or wait until another thread has done so. Idempotent; blocks."""
        self._is_settled.wait(START_TIMEOUT)
        if self.process is None or self._gone.is_set():
            return
        if self._claim.acquire(blocking=False):
            self._kill(self.process)
        else:
            self._is_sent.wait(CLOSE_TIMEOUT)

    def _run(self, line: str) -> bool:
        """Run *line* in another session. Returns False if the server allows none."""
        from pmitogen.transport.sessions import exec_command

        try:
            exec_command.run(self._connection, line, timeout=CLOSE_TIMEOUT, slot_timeout=0.0)
        except SessionRefused:
            return False
        except (Error, TimeoutError):
            pass  # the line has been sent, or the connection has ended
        return True

    def _kill(self, process: int) -> None:
        line = simple_commands.kill_line(process, self._has_terminal)
        try:
            if not self._run(line):
                self._kill_without_session(line)
        finally:
            self._is_sent.set()

    def _kill_without_session(self, line: str) -> None:
        self._request_signal("TERM")
        if not self._gone.wait(SIGNAL_TIMEOUT):
            with contextlib.suppress(Error, TimeoutError):
                self._run_elsewhere(line, CLOSE_TIMEOUT)

    # Other signals

    def send(self, name: str) -> None:
        """Send a signal, after those before. *name*: as in SSH, without SIG. Does not wait for another session."""
        if self.has_no_process:
            self._request_signal(name)
            return
        with self._lock:
            self._signals.append(name)
            if len(self._signals) > 1:  # the thread that sends the others takes it
                return
        try:
            threads.start(self._send_all, "pmitogen cancel")
        except Error:  # no thread for it
            self._signals.clear()
            self._request_signal(name)

    def _send_all(self) -> None:
        self._is_settled.wait(FIRST_SIGNAL_TIMEOUT)
        while True:
            self._send(self._signals[0])
            with self._lock:
                del self._signals[0]
                if not self._signals:
                    return

    def _send(self, name: str) -> None:
        if self._gone.is_set():
            return
        if self.process is None:
            self._request_signal(name)
            return
        line = simple_commands.signal_line(self.process, name)
        if not self._run(line):
            # Not by the command's own session first: whether that has sent it cannot be known, and it must not come twice.
            try:
                self._run_elsewhere(line, CLOSE_TIMEOUT)
            except (Error, TimeoutError):
                self._request_signal(name)

    def _request_signal(self, name: str) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):  # the channel alone has ended
            self._send_signal(name)
