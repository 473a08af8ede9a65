"""Handle the client's signals on a separate thread, so that a handler may take locks and send messages.

The signals are caught, not blocked: a mask would be inherited by ProxyCommand and LocalCommand.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable

from pmitogen.util import threads

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FAILED = 255  # ssh's exit status


class SignalThread:
    """Thread that calls :attr:`on_signal` with the number of each signal. Create it once, on the main thread."""

    def __init__(self) -> None:
        self.on_signal: Callable[[int], None] = _end_at_once
        self._reader, writer = socket.socketpair()
        writer.setblocking(False)
        self._writer = writer  # the descriptor must stay open
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for signum in (*ENDING_SIGNALS, signal.SIGWINCH, signal.SIGCONT):
            if signum not in ENDING_SIGNALS or signal.getsignal(signum) is not signal.SIG_IGN:  # ignored under nohup
                signal.signal(signum, _leave_to_thread)
        threads.start(self._run, "ssh signals")

    def _run(self) -> None:
        while True:
            for signum in self._reader.recv(16):
                self.on_signal(signum)


def _end_at_once(signum: int) -> None:
    """Handle a signal before there is a session: exit."""
    if signum in ENDING_SIGNALS:
        os._exit(_FAILED)


def _leave_to_thread(_number: int, _frame: object) -> None:
    pass
