"""A running child process: its pipes, its output, and its exit.

The runner polls the descriptors in ``fds()`` and calls back; a job answers with frames. Output of at most ``CHUNK`` bytes is
sent with the exit frame. More output is streamed in ``out`` frames under a credit window, so a slow reader makes the child wait
at its pipe. A job is finished when its process has ended, or has reported that it is about to end (StatusReport in
payload/run.py), *and* its output has reached its end. As over ssh, a background process that keeps the pipe open keeps the job
open; on a terminal, the hang-up ends it.
"""

import errno
import json
import os
import signal
import time

from pmitogen.target.fds import set_cloexec, set_nonblocking, set_window_size
from pmitogen.protocol.framing import CHUNK, CREDIT_WINDOW

MYPY = False
if MYPY:
    import subprocess  # noqa: F401
    from typing import Any, Dict, List, Optional, Set, Tuple  # noqa: F401
    from pmitogen.target.types import Header, Report, Send  # noqa: F401

KILL_GRACE = 2.0  # seconds between SIGTERM and SIGKILL
POLL_INTERVAL = 0.05  # seconds between checks of a process group whose leader has ended
now = getattr(time, "monotonic", time.time)


def status_to_rc(status):
    # type: (int) -> int
    """Convert a wait(2) status to an exit status as a shell reports it."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def parse_report(data):
    # type: (bytes) -> Optional[Report]
    """Parse a child's report. None if it is invalid: a module can write to any descriptor."""
    try:
        report = json.loads(data.decode("ascii"))  # type: Any
        status = report.get("status") if isinstance(report, dict) else None
        return report if type(status) is int and 0 <= status < 256 else None
    except ValueError:
        return None


class Job(object):
    """A child process and its pipes. *send* is called with (header, body) of each frame for the peer."""

    label = "writing"  # for messages

    def __init__(self, request_id, send, pid, stdin_fd, stdout_fd, stderr_fd, report_fd=None, tty=False, stream_output=False):
        # type: (int, Send, int, Optional[int], int, Optional[int], Optional[int], bool, bool) -> None
        self.request_id = request_id
        self.pid = pid
        self.process = None  # type: Optional[subprocess.Popen[bytes]] # of a program that was not forked
        self.manifest = None  # type: Optional[str] # of a payload
        self.report = None  # type: Optional[Report]
        self._report_fd = report_fd
        self._report_data = b""
        self._send = send
        self._stdin_fd = stdin_fd
        self._stdin = bytearray()
        self._stdin_ended = False
        self._stdin_consumed = 0
        self._out = {stdout_fd: (1, [])}  # type: Dict[int, Tuple[int, List[bytes]]]
        if stderr_fd is not None:
            self._out[stderr_fd] = (2, [])
        self._gathered_bytes = 0  # bytes gathered, not yet sent
        self._credit = CREDIT_WINDOW  # bytes that may still be streamed
        self._streaming = stream_output  # send output at once, for an interactive program
        self._status = None  # type: Optional[int]
        self._tty = tty
        self._closed_tty_fd = None  # type: Optional[int]
        self.timings = None  # type: Optional[Tuple[float, float]] # (time of the request, start of its process), in the runner's clock
        self._final_output = {}  # type: Dict[int, bytes] # gathered output of closed streams
        for fd in list(self._out) + [fd for fd in (stdin_fd, report_fd) if fd is not None]:
            set_nonblocking(fd)
            set_cloexec(fd)

    def fds(self):
        # type: () -> Tuple[List[int], List[int]]
        """Return ([to read], [to write])."""
        write = [self._stdin_fd] if self._stdin_fd is not None and self._stdin else []
        read = list(self._out) if self._credit > 0 else []
        return (read if self._report_fd is None else read + [self._report_fd]), write

    # From the peer
    def on_data(self, body):
        # type: (bytes) -> None
        if self._stdin_fd is None:  # the child no longer reads, and its peer must not wait for that
            self._acknowledge(len(body))
        else:
            self._stdin += body
            self.on_writable()

    def on_eof(self):
        # type: () -> None
        self._stdin_ended = True
        if not self._stdin:
            self._close_stdin()

    def on_credit(self, count):
        # type: (int) -> None
        self._credit += count

    def resize(self, lines, columns):
        # type: (int, int) -> None
        """Change the size of its terminal, if it has one."""
        for fd in self._out if self._tty else ():
            set_window_size(fd, lines, columns)

    # From the child
    def on_writable(self):
        # type: () -> None
        if self._stdin_fd is None:
            return
        try:
            count = os.write(self._stdin_fd, bytes(self._stdin[:65536]))
        except OSError as exc:
            if exc.errno in (errno.EAGAIN, errno.EINTR):
                return
            count = len(self._stdin)  # the child no longer reads: discard the rest
            self._stdin_ended = True
        del self._stdin[:count]
        self._acknowledge(count)
        if self._stdin_ended and not self._stdin:
            self._close_stdin()

    def _acknowledge(self, count):
        # type: (int) -> None
        """Note that *count* bytes of input are read or discarded."""
        self._stdin_consumed += count
        if self._stdin_consumed >= CHUNK:
            self._send({"op": "credit", "id": self.request_id, "count": self._stdin_consumed}, b"")
            self._stdin_consumed = 0

    def _close_stdin(self):
        # type: () -> None
        if self._stdin_fd is not None:
            if not self._tty:
                os.close(self._stdin_fd)
            self._stdin_fd = None

    def on_readable(self, fd):
        # type: (int) -> None
        if fd == self._report_fd:
            self._on_report()
            return
        if fd not in self._out:
            return
        stream, parts = self._out[fd]
        try:
            data = os.read(fd, 65536)
        except OSError as exc:
            if exc.errno in (errno.EAGAIN, errno.EINTR):
                return
            data = b""  # EIO: the last process has closed the terminal
        if not data:
            if self._tty:
                # Its process may close the terminal shortly before it ends; a hang-up now would kill it.
                self._closed_tty_fd, self._stdin_fd = fd, None
            else:
                os.close(fd)
            self._keep_final_output(stream, parts)
            del self._out[fd]
            return
        parts.append(data)
        self._gathered_bytes += len(data)
        if self._streaming or self._gathered_bytes > CHUNK:
            self._streaming = True
            for stream, parts in self._out.values():
                self._flush(stream, parts)

    def _flush(self, stream, parts):
        # type: (int, List[bytes]) -> None
        data = b"".join(parts)
        del parts[:]
        if data:
            self._gathered_bytes -= len(data)
            self._credit -= len(data)
            self._send({"op": "out", "id": self.request_id, "stream": stream}, data)

    def _keep_final_output(self, stream, parts):
        # type: (int, List[bytes]) -> None
        """Store the output of a closed stream for the exit frame, or send it if earlier output was streamed."""
        if self._streaming:
            self._flush(stream, parts)
        else:
            self._final_output[stream] = b"".join(parts)

    def on_status(self, status):
        # type: (Optional[int]) -> None
        """Note the wait(2) status of the process; None if it was not collected."""
        self._status = status
        if self.process is not None and status is not None:
            self.process.returncode = status_to_rc(status)

    def _on_report(self):
        # type: () -> None
        if self._report_fd is None:
            return
        try:
            data = os.read(self._report_fd, 1 << 16)
        except OSError as exc:
            if exc.errno in (errno.EAGAIN, errno.EINTR):
                return
            data = b""
        self._report_data += data
        complete = not data or self._report_data.endswith(b"\n")
        if complete:
            self.report = parse_report(self._report_data)
            os.close(self._report_fd)
            self._report_fd = None

    def output_closed(self):
        # type: () -> bool
        """Return True if its output has ended. Until then its process is not collected, so that its pid is not reused."""
        return not self._out

    def is_collected(self):
        # type: () -> bool
        """Return True if its process is collected."""
        return self._status is not None

    def finished(self):
        # type: () -> bool
        return self.output_closed() and (self.is_collected() or self.report is not None)

    def finish(self):
        # type: () -> None
        """Send the exit frame and close every descriptor."""
        out, err = self._final_output.get(1, b""), self._final_output.get(2, b"")
        rc = status_to_rc(self._status) if self._status is not None else (self.report or {}).get("status", 255)
        header = {"op": "exit", "id": self.request_id, "rc": rc, "stdout_size": len(out)}  # type: Header
        if self._status is not None and os.WIFSIGNALED(self._status):
            header["signal"] = os.WTERMSIG(self._status)
        if self.timings:
            requested_at, started = self.timings
            header["timings"] = [
                round(max(0, started - requested_at), 5),
                round(max(0, now() - started), 5),
            ]  # a clock may be set back
        self._send(header, out + err)
        self.close()

    def close(self):
        # type: () -> None
        for fd in list(self._out):
            os.close(fd)
        self._out.clear()
        if self._stdin_fd is not None and not self._tty:
            os.close(self._stdin_fd)
        self._stdin_fd = None
        if self._closed_tty_fd is not None:
            os.close(self._closed_tty_fd)
            self._closed_tty_fd = None
        if self._report_fd is not None:
            os.close(self._report_fd)
            self._report_fd = None


class ProcessReaper(object):
    """Ends children with their process groups: SIGTERM, and SIGKILL after ``KILL_GRACE`` seconds.

    All children are collected here. After that a pid is reserved only while its process group has members. So a collected child
    is never signalled again, and its group is checked often.
    """

    def __init__(self):
        # type: () -> None
        self._kill_at = {}  # type: Dict[int, float] # pid -> when its group is killed
        self._groups = set()  # type: Set[int] # those whose leader is collected

    def add(self, pid):
        # type: (int) -> None
        """Ask a child that is not yet collected, and all its descendants, to end."""
        self.send_signal(pid, signal.SIGTERM)
        self._kill_at.setdefault(pid, now() + KILL_GRACE)

    def collect(self, pid):
        # type: (int) -> Optional[int]
        """Collect a child that has ended and return its wait(2) status; None if it is running."""
        try:
            collected, status = os.waitpid(pid, os.WNOHANG)
        except OSError:
            collected, status = pid, 255 << 8
        if not collected:
            return None
        if pid in self._kill_at:
            self._groups.add(pid)
        return status

    def escalate_kills(self):
        # type: () -> None
        """Kill processes that did not end in time. They may be descendants of a child that has ended."""
        moment = now()
        for pid, when in list(self._kill_at.items()):
            gone = not self.send_signal(pid, 0)
            if when <= moment and not gone:
                self.send_signal(pid, signal.SIGKILL)
            if when <= moment or gone:
                del self._kill_at[pid]
                self._groups.discard(pid)

    def next_check_at(self):
        # type: () -> Optional[float]
        """Return the time of the next check, or None."""
        if self._groups:
            return now() + POLL_INTERVAL
        return min(self._kill_at.values()) if self._kill_at else None

    def send_signal(self, pid, signum):
        # type: (int, int) -> bool
        """Signal a child's process group, or the child alone if it has no group yet. False if no process is left."""
        for send in (os.killpg, os.kill)[: 1 if pid in self._groups else 2]:
            try:
                send(pid, signum)
                return True
            except OSError as exc:
                if exc.errno != errno.ESRCH:
                    return True
        return False
