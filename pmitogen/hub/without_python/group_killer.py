"""Kill the process group of a simple command by another session: sshd passes no signal on to a root login.

If the server allows no other session, the command's own session requests the signal; if that fails, another connection is made.
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
CLOSE_TIMEOUT = 3.0  # seconds for another session to kill a command
SIGNAL_TIMEOUT = 0.5  # seconds for a signal that the server passes on


class GroupKiller:
    """Kills one process group, once. Any thread.

    :param send_signal: asks the server to send a signal. May raise errors of the channel.
    :param run_elsewhere: runs a line by another connection. Blocks; raises Error.
    :param ended: set when the command has ended.
    """

    def __init__(
        self,
        connection: Connection,
        send_signal: Callable[[str], None],
        run_elsewhere: Callable[[str, float], None],
        ended: threading.Event,
    ) -> None:
        self._connection, self._send_signal, self._run_elsewhere = connection, send_signal, run_elsewhere
        self._ended = ended
        self.process: int | None = None
        self._is_known = threading.Event()
        self._claim = threading.Lock()  # taken without waiting, and kept by the one who kills the group
        self._is_sent = threading.Event()  # the process group has the signal

    def note_process(self, process: int | None) -> None:
        """Note the process of the command. None: it is not known yet."""
        if process is not None and self.process is None:
            self.process = process
            self._is_known.set()

    def begin(self) -> None:
        """Kill the group on a thread of its own, if it is known. Idempotent."""
        if self.process is not None and self._claim.acquire(blocking=False):
            try:
                threads.start(self._kill, "pmitogen cancel", self.process)
            except Error:  # no thread for it; a caller that may block can still kill the group
                self._claim.release()

    def kill(self) -> None:
        """Kill the group, or wait until another thread has done so. Idempotent; blocks."""
        if not self._is_known.wait(START_TIMEOUT) or self.process is None:
            return
        if self._claim.acquire(blocking=False):
            self._kill(self.process)
        else:
            self._is_sent.wait(CLOSE_TIMEOUT)

    def _kill(self, process: int) -> None:
        from pmitogen.transport.sessions import exec_command

        line = simple_commands.kill_line(process)
        try:
            exec_command.run(self._connection, line, timeout=CLOSE_TIMEOUT, slot_timeout=0.0)
        except SessionRefused:
            self._kill_without_session(line)
        except (Error, TimeoutError):
            return
        finally:
            self._is_sent.set()

    def _kill_without_session(self, line: str) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):  # the channel alone has ended
            self._send_signal("TERM")
        if not self._ended.wait(SIGNAL_TIMEOUT):
            with contextlib.suppress(Error, TimeoutError):
                self._run_elsewhere(line, CLOSE_TIMEOUT)
