"""ProxyCommand: run a program as the connection to the server, as ssh does, with the caller's shell, directory and environment.

The program's standard input, output and error are pipes, as with ssh; pipe_stream.py says why. No data is copied in between. One
thread keeps the end of that error output for our message, and waits for the process. :meth:`ProxyCommand.close` sends
SIGTERM to the process group, so a pipeline of several programs ends as well.

Missing upstream: ``paramiko.ProxyCommand`` splits the command itself (no shell), spins when the program ends, never reads its
error output and leaves a zombie. Upstream is fixed when a ProxyCommand of ``exec nc "$HOST" 22 2>/dev/null`` works and ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import subprocess
import threading

from pmitogen.errors import ConnectError
from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.pipe_stream import PipeStream
from pmitogen.util import limits, threads
from pmitogen.util.caller import CallerEnvironment
from pmitogen.util.peer_text import escape_lines

MAX_STDERR = 4096  # bytes; the end of the error output
EXIT_NOT_FOUND = 127  # a shell's exit status for a program that does not exist
_SSH = re.compile(r"\s*(exec\s+)?ssh\s")
STDERR_GRACE = 0.5  # seconds that a program which closed the connection gets to say why


class ProxyCommand:
    """A running ProxyCommand. :attr:`sock` is our end. Any thread may call :meth:`close`; it does not wait."""

    def __init__(self, settings: Settings) -> None:
        assert settings.proxycommand
        self._where = settings.endpoint
        self._command = settings.proxycommand
        self._stderr = b""
        self._ended = threading.Event()
        caller = settings.caller or CallerEnvironment.current()
        try:
            self._process = _start(settings.proxycommand, caller)
            self.sock = self._stream()
        except OSError as error:
            problem = f"cannot start {caller.shell}: {error.strerror}"
            is_local = limits.is_exhaustion(error) or error.errno == errno.EAGAIN  # no descriptor, or no process
            raise ConnectError(f"{self._where}: ProxyCommand: {problem}", "local" if is_local else "proxy") from None
        try:
            threads.start(self._collect_stderr, f"proxy {self._where}")
        except ConnectError:
            self.sock.close()
            self._kill()
            raise

    @property
    def has_ended(self) -> bool:
        """True after the program's end."""
        return self._ended.is_set()

    def _stream(self) -> PipeStream:
        """Return the stream to the program. Raises OSError and kills the program if no descriptor is left."""
        output, input_ = self._process.stdout, self._process.stdin
        assert output is not None and input_ is not None
        try:
            return PipeStream(output, input_)
        except OSError:
            output.close()
            input_.close()
            self._kill()
            raise

    def _collect_stderr(self) -> None:
        """Keep the end of the program's error output and wait for the process (its own thread)."""
        assert self._process.stderr is not None
        with self._process.stderr as errors:
            while chunk := errors.read(MAX_STDERR):
                self._stderr = (self._stderr + chunk)[-MAX_STDERR:]
        self._process.wait()
        self._ended.set()

    def _kill(self) -> None:
        """Kill the program and wait for it: its stream or its thread could not be made."""
        assert self._process.stderr is not None
        self._process.stderr.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def exit_description(self) -> str:
        """Return in one line how the program ended and its error output; waits up to STDERR_GRACE seconds for its end."""
        self._ended.wait(STDERR_GRACE)
        stderr = " | ".join(escape_lines(self._stderr))
        code = self._process.returncode
        ended = (
            "is still running" if code is None else f"was killed by signal {-code}" if code < 0 else f"exited with status {code}"
        )
        advice = ""
        if code == EXIT_NOT_FOUND and _SSH.match(self._command):
            advice = "; no ssh program was found; use ProxyJump, or ssh -W %h:%p HOST without shell syntax"
        return (
            f"ProxyCommand ({self._command}) {ended}"
            + (f", stderr: {stderr}" if stderr else " without output on stderr")
            + advice
        )

    def close(self) -> None:
        """Ask the program and all that it started to end (SIGTERM). Does not close :attr:`sock`: the caller does. Idempotent."""
        if not self.has_ended:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGTERM)


class ProxyCommands:
    """The programs of one login, or of a run's jump hosts. Any thread may end them all, also while they connect."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: list[ProxyCommand] = []
        self._closed = False

    def start(self, settings: Settings) -> ProxyCommand:
        """Start the program of *settings*. Raises ConnectError."""
        with self._lock:
            if self._closed:
                raise ConnectError(f"{settings.endpoint}: the run is ending", "local")
            command = ProxyCommand(settings)
            self._running = [command, *(each for each in self._running if not each.has_ended)]
        return command

    def close(self) -> None:
        """End the programs, and start no other. Idempotent."""
        with self._lock:
            self._closed = True
            running, self._running = self._running, []
        for command in running:
            command.close()


def _start(command: str, caller: CallerEnvironment) -> subprocess.Popen[bytes]:
    # "exec", as ssh has it: the shell goes away where the command is a single program.
    return subprocess.Popen(
        [caller.shell, "-c", f"exec {command}"],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **caller.popen_options(),
    )
