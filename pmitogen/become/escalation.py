"""One escalation: start sudo, su or doas, answer its prompts, and find out whether the command starts or why it does not.

The terminal carries prompts and error messages. Each step prints its entry marker on it (``entry.py``) before any code of the
entered account runs. Until then the step's program may ask for its secret. After the marker of the last step no prompt is
answered. stdout carries other output (of a profile, for example) until the command's loader prints its own marker. From then on
the command is *running*, and the caller owns stdin and stdout.

A prompt is answered under three conditions: it is the unfinished last line of the terminal, it is a known prompt of the current
step (``prompt_patterns.py``), and the program has switched ECHO off. The secret is requested from the caller, and the terminal is
read once more before it is written. Each secret is written once; if the program asks again, the secret was wrong. BusyBox's su
prompts on stdout, so if the terminal is stdin, the last line of stdout may be a prompt too.

NOTE: runs on the target, inside the agent's event loop. Nothing blocks; the caller reads, writes and waits::

    e = Escalation(plan, [python, "-c", loader], token)   # the loader prints "PMITOGEN-<token> ready\\n"
    e.start()
    # in each turn, and every POLL_INTERVAL until e.running:
    e.on_tty(data)      # data from e.tty_fd; b"" at its end (EIO is an end)
    e.on_output(data)   # data from e.out_fd; b"" at its end
    e.poll()            # check for the timeout and the program's exit
    e.take_request()    # (step, kind) of a secret that is needed, or None; answer with e.add_secret(step, kind, secret)
    e.take_answer()     # bytes to write to e.tty_fd now
    e.take_rest()       # None until the command is running, then the data after its marker
    e.close()           # then call e.reap() from time to time until it returns True

Each may raise BecomeFailure; after that only close() and reap() may be called.
"""

from __future__ import absolute_import

import errno
import os
import signal
import time

from pmitogen.become import chain, diagnosis, entry, processes, prompt_patterns, secret_requests, terminal, transcript
from pmitogen.become.failures import BecomeFailure, Failures
from pmitogen.become.strings import as_bytes, environment_bytes, native

MYPY = False
if MYPY:
    from typing import Dict, List, Optional, Tuple  # noqa: F401
    from pmitogen.become.types import EscalationPlan, Prepare, Secret, SecretId  # noqa: F401

POLL_INTERVAL = 0.05  # seconds between two polls until the command is up
EXIT_GRACE = 0.5  # seconds to wait for output after the program has exited
KILL_GRACE = 2.0  # seconds between hanging up and SIGKILL
MAX_DRAIN = 1 << 20  # bytes to read in one call from a program that may never stop writing
MARKER = "PMITOGEN-%s"

__all__ = ["POLL_INTERVAL", "BecomeFailure", "Escalation"]

_now = getattr(time, "monotonic", time.time)


class Escalation(object):
    """One run of sudo, su or doas. Single-threaded: only the thread that calls start() may call the other methods.

    *plan*: result of pmitogen.flags.become.plan().
    *command*: the argv to run in the other account.
    *token*: the random token that the caller's loader prints.
    *env*: environment of the program (None: that of this process).
    *preparation*: shell commands to run in the other account before the command; see ``entry``.
    *prepare*: called in the child before it executes the program (None: nothing).

    Attributes: ``pid`` of the program; ``tty_fd``, ``out_fd`` and ``in_fd``, non-blocking, owned by this object. If the program
    prompts on stdin, ``in_fd`` is None until the command is running. ``running`` is True after the loader's marker.
    """

    def __init__(self, plan, command, token, env=None, preparation=None, prepare=None):
        # type: (EscalationPlan, List[str], str, Optional[Dict[str, str]], Optional[str], Optional[Prepare]) -> None
        self.plan = plan
        self.command = [native(argument) for argument in command]
        self.env = dict(os.environ if env is None else env)
        self.pid = self.tty_fd = self.out_fd = self.in_fd = None  # type: Optional[int]
        self.running = False
        self.status = None  # type: Optional[int]
        self._preparation, self._prepare = preparation, prepare
        self._ready = (MARKER % token + " ready").encode("ascii")
        self._error_marker = MARKER % token + " cannot"
        self._steps = chain.build_steps(plan, self._text, native)
        self._entered = 0  # number of steps whose account is entered
        self._expected_uids = {0, os.getuid(), os.geteuid()}  # accounts whose processes may use the terminal
        hidden = [self._text(text) for step in self._steps for text in (step.prompt, step.entry.marker)]
        self._transcript = transcript.Transcript(hidden, native)
        self._failures = Failures(self._steps, self._transcript, native)
        self._secrets = secret_requests.SecretRequests()
        self._data_after_marker = None  # type: Optional[bytes]
        self._tty_ended = self._out_ended = self._closed = False
        self._ended_at = None  # type: Optional[float]
        self._deadline = self._hung_up_at = 0.0

    def __repr__(self):
        # type: () -> str
        return "<Escalation %s, pid %s>" % (self._failures.describe(), self.pid)

    def start(self):
        # type: () -> None
        """Start the program. Raises BecomeFailure: ``not-installed`` without the program, ``tty`` without a terminal."""
        argv = self._argv()
        encoded = [as_bytes(argument) for argument in argv]
        env = {environment_bytes(name): environment_bytes(value) for name, value in self.env.items()}
        program = terminal.find_program(encoded[0], env.get(b"PATH", b""))
        if program is None:
            raise self._failures.make("not-installed", "%s is not installed on this host, or not in its PATH" % argv[0])
        path = self.plan.get("chdir")
        chdir = None if path is None else as_bytes(path)
        stdin_is_tty, error_marker = self.plan["stdin"] == "tty", self._error_marker.encode("ascii")
        try:
            child = terminal.spawn(program, encoded, env, chdir, stdin_is_tty, error_marker, self._prepare)
        except (OSError, IOError) as e:
            raise self._failures.make("tty", "no terminal for it: %s" % e.strerror)
        self.pid, self.tty_fd, self.in_fd, self.out_fd = child.pid, child.tty, child.stdin, child.stdout
        self._deadline = _now() + self.plan["timeout"]

    def _argv(self):
        # type: () -> List[str]
        """Return the whole command line: each program's arguments, followed by those of the next."""
        argv, preparation = self.command, self._preparation
        for step in reversed(self._steps):
            argv = step.wrap(argv, self.env.get("SHELL") if step is self._steps[0] else None, preparation)
            preparation = None
        return argv

    def on_tty(self, data):
        # type: (bytes) -> None
        """Handle *data* that was read from ``tty_fd`` (b"": its end). Raises BecomeFailure."""
        if not data:
            self._tty_ended = True
            self._check_ended()
            return
        self._read_terminal(data)
        self._check_prompt()

    def on_output(self, data):
        # type: (bytes) -> None
        """Handle *data* that was read from ``out_fd`` (b"": its end). Not while the command is running. Raises BecomeFailure."""
        if not data:
            self._out_ended = True
            self._check_ended()
            return
        self._read_stdout(data)
        self._check_prompt()

    def _read_terminal(self, data):
        # type: (bytes) -> None
        self._note_entered_accounts(self._transcript.terminal, data)
        self._transcript.on_terminal(data)

    def _read_stdout(self, data):
        # type: (bytes) -> None
        self._note_entered_accounts(self._transcript.stdout, data)
        stdout = self._transcript.stdout + data
        at = stdout.find(self._ready)
        end = stdout.find(b"\n", at) if at >= 0 else -1
        if end >= 0:
            self._data_after_marker = stdout[end + 1 :]
            self._on_command_started()
        else:
            self._transcript.on_stdout(data)

    def poll(self):
        # type: () -> None
        """Check for the program's exit, the timeout and a prompt. Raises BecomeFailure."""
        if self.running or self._closed:
            return
        self._check_ended()
        if _now() > self._deadline:
            self.on_timeout()
        self._check_prompt()

    def take_request(self):
        # type: () -> Optional[SecretId]
        """Return (step, kind) of a secret that a prompt asks for, once for each secret; else None."""
        return self._secrets.take_request()

    def add_secret(self, step, kind, secret):
        # type: (int, str, Secret) -> None
        """Hand over a secret that take_request() returned."""
        if not self.running and not self._closed:
            self._secrets.add_secret((step, kind), secret)

    def take_answer(self):
        # type: () -> bytes
        """Return the bytes to write to ``tty_fd`` now: b"" unless the program asks at this moment for a secret that was given.

        Raises BecomeFailure.
        """
        if not self._secrets.can_answer():
            return b""
        self._read_rest()
        self._check_prompt()
        if not self._secrets.can_answer():
            return b""
        step, kind, secret = self._secrets.take()
        self._steps[step].secrets_sent.add(kind)
        self._transcript.on_answered(self._text(secret), self._may_prompt_on_stdout())
        return as_bytes(secret) + b"\n"

    def withhold(self, reason):
        # type: (str) -> None
        """End the escalation: the caller refuses the secret. Raises BecomeFailure."""
        if not self.running and not self._closed:
            raise self._failures.secret_withheld(reason)

    def take_rest(self):
        # type: () -> Optional[bytes]
        """Return the bytes after the marker, once, when the command is running; else None."""
        rest, self._data_after_marker = self._data_after_marker, None
        return rest

    def on_timeout(self):
        # type: () -> None
        """End the escalation: its time is over. Raises BecomeFailure unless the command is running."""
        if self.running:
            return
        self._read_rest()
        step = self._steps[self._entered] if self._entered < len(self._steps) else None
        question = self._transcript.unfinished_line(self._may_prompt_on_stdout())
        raise self._failures.timed_out(step, question, self._echo_is_on(), self.plan["timeout"])

    def output_complete(self):
        # type: () -> bool
        """Return True if all output of an ended command was read; True after EXIT_GRACE at the latest. Call it repeatedly.

        With sudo's use_pty the terminal output passes through sudo, so it arrives after the end of the command's stdout.
        """
        if self._ended_at is None:
            self._ended_at = _now()
        return self._tty_ended or self._try_reap() or _now() - self._ended_at > EXIT_GRACE

    def last_output(self):
        # type: () -> str
        """Return the command's stderr on one line, for an error message: the terminal output since the command is running.

        "" if the command's data pass through the terminal too: another terminal on the way (``sudo -u x su``) may echo them.
        """
        if self.plan["stdin"] == "tty" or not self.running:
            return ""
        if self.tty_fd is not None:
            self._read_rest()
        return self._transcript.output_excerpt()

    def close(self):
        # type: () -> None
        """Hang up: the program and its command get SIGHUP and end of file on stdin. Returns at once; may be called twice."""
        if self._closed:
            return
        self._closed = True
        self._clear_secrets()
        self._hung_up_at = _now()
        terminals = (self.in_fd, self.out_fd, self.tty_fd)
        self.in_fd = self.out_fd = self.tty_fd = None
        for fd in terminals:
            terminal.close_quietly(fd)

    def reap(self):
        # type: () -> bool
        """Collect the program after close(). True once it has ended. After KILL_GRACE it gets SIGKILL, if that is permitted."""
        if self.pid is None or self.status is not None or self._try_reap():
            return True
        if self._closed and _now() - self._hung_up_at > KILL_GRACE:
            for kill in (os.killpg, os.kill):
                try:
                    kill(self.pid, signal.SIGKILL)
                except OSError:
                    pass  # the process belongs to root now, so hanging up has to do
        return False

    def _note_entered_accounts(self, before, data):
        # type: (bytes, bytes) -> None
        """Find entry markers in *data*, which follows *before*."""
        data = before[-entry.MAX_MARKER_SIZE :] + data
        while self._entered < len(self._steps) and self._steps[self._entered].entry.is_in(data):
            # By name as well: the kernel's list of children may be incomplete while one of them ends.
            self._expected_uids |= processes.uids_of(as_bytes(self._steps[self._entered].plan["user"]))
            self._entered += 1
            self._secrets.clear()
            if self.pid is not None:
                self._expected_uids |= processes.uids_below(self.pid)

    def _clear_secrets(self):
        # type: () -> None
        """Discard the secrets and the output."""
        self._secrets.clear()
        self._transcript.forget()

    def _check_prompt(self):
        # type: () -> None
        """Set ``wanted`` if the current step shows a prompt for one of its secrets. Raises BecomeFailure."""
        self._secrets.wanted = None
        if self.running or self._closed or self._entered == len(self._steps):
            return
        step = self._steps[self._entered]
        if step.secrets_sent and diagnosis.retry_prompted(self._transcript.since_last_answer()):
            raise self._failures.denied("password-wrong")
        question = self._transcript.unfinished_line(self._may_prompt_on_stdout())
        if not question or self._echo_is_on():
            return  # part of a line that only looks like a prompt, or the program does not read yet
        if self.pid is not None and len(step.programs) == 1 and processes.uids_below(self.pid) - self._expected_uids:
            return  # the prompt may come from a process that the program started, such as a start-up file of the account
        kind = step.prompts.kind(question)
        expired = kind is None and step.secrets_sent and diagnosis.refusal(step.programs, self._transcript.text()) == "account"
        if kind == prompt_patterns.NEW_PASSWORD or expired:
            raise self._failures.expired(question)
        if kind is None:
            return
        if kind in step.secrets_sent:
            raise self._failures.asked_again(step)
        if kind not in step.available:
            raise self._failures.missing_secret(kind, question)
        self._secrets.wanted = (self._entered, kind)

    def _echo_is_on(self):
        # type: () -> bool
        return self.tty_fd is not None and terminal.echo_is_on(self.tty_fd)

    def _may_prompt_on_stdout(self):
        # type: () -> bool
        """Return True if a prompt may be on stdout: the terminal is stdin, and it has no unfinished line."""
        return self.plan["stdin"] == "tty" and not self._transcript.unfinished_line(False)

    def _on_command_started(self):
        # type: () -> None
        self.running = True
        self._clear_secrets()
        if self.plan["stdin"] == "tty" and self.tty_fd is not None:
            # su has restored the terminal's modes, with ECHO, which would return every byte.
            terminal.set_raw(self.tty_fd, echo=False)
            self.in_fd = os.dup(self.tty_fd)
            terminal.set_cloexec(self.in_fd)

    def _try_reap(self):
        # type: () -> bool
        """Collect the program if it has exited. True if it is collected."""
        if self.status is None and self.pid is not None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except OSError as e:
                if e.errno != errno.ECHILD:
                    return False
                pid, status = self.pid, -1  # other code has collected it
            if not pid:
                return False
            self.status = status
        return True

    def _check_ended(self):
        # type: () -> None
        """Raise BecomeFailure if the program has exited and its output has ended, or EXIT_GRACE after the first of the two."""
        if self.running or self._closed:
            return
        exited, silent = self._try_reap(), self._out_ended and self._tty_ended
        if not (exited or silent):
            return
        if self._ended_at is None:
            self._ended_at = _now()
        # Its background processes may hold the output open, and a program may run on after it closed its output.
        if exited and silent or _now() - self._ended_at > EXIT_GRACE:
            self._read_rest()
            if not self.running:
                raise self._exit_error()

    def _read_rest(self):
        # type: () -> None
        """Read the available data of the terminal and, until the command is running, of stdout."""
        if self.tty_fd is not None and not self._tty_ended:
            data, self._tty_ended = terminal.read_available(self.tty_fd, MAX_DRAIN)
            self._read_terminal(data)
        if self.out_fd is not None and not self._out_ended and not self.running:
            data, self._out_ended = terminal.read_available(self.out_fd, MAX_DRAIN)
            self._read_stdout(data)

    def _exit_error(self):
        # type: () -> BecomeFailure
        """Return the failure for an exit before the marker."""
        program, chdir = self._steps[0].plan["argv"][0], self.plan.get("chdir")
        not_started = self._failures.not_started(self._transcript.text(), self._error_marker, program, chdir)
        if not_started is not None:
            return not_started
        code = os.WEXITSTATUS(self.status) if self.status is not None and os.WIFEXITED(self.status) else None
        return self._failures.exited(self._entered, self.command, code, terminal.login_shell(self.plan))

    def _text(self, value):
        # type: (Secret) -> str
        return diagnosis.visible_text(as_bytes(value))
