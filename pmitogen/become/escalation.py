"""One escalation: start sudo, su or doas, have their questions answered, and see the command come up or learn why it does not.

Theory. The terminal carries questions and complaints. Each step's account says on it that it is entered (``entry``), before any
of its own code runs. Until then the step's program may ask for its secret; from the marker of the last step on, nothing is
answered any more, whatever is asked. stdout carries noise (of a profile, say) until the command's loader prints *its* marker: the
command is *up*, and stdin and stdout belong to the caller.

A question is answered when three things agree: the last line on the terminal is unfinished, it is a known prompt of the
step whose turn it is (``prompts``), and the program has switched ECHO off. The secret is not here: the caller is asked for it,
and what has come on the terminal meanwhile is read before it is written. Each is written once; to be asked again means that it
was wrong. BusyBox's su asks on stdout, so where the terminal is stdin, stdout's last line may ask as well.

NOTE: runs on the target, inside the agent's event loop: nothing blocks, and the caller does the reading, the writing and the
waiting::

    e = Escalation(plan, [python, "-c", loader], token)   # the loader prints "PMITOGEN-<token> ready\\n"
    e.start()
    # each turn, and every POLL_INTERVAL until e.up:
    e.on_tty(data)      # what was read from e.tty_fd; b"" at its end (EIO is an end)
    e.on_output(data)   # what was read from e.out_fd; b"" at its end
    e.poll()            # time passes
    e.take_request()    # (step, kind) of a secret that is wanted, or None; it comes by e.give(step, kind, secret)
    e.take_answer()     # bytes to write to e.tty_fd now
    e.take_rest()       # not None once the command is up: what followed its marker
    e.close()           # and then e.reap() now and again until it is True

Each may raise BecomeFailure; after that only close() and reap() make sense.
"""

from __future__ import absolute_import

import errno
import os
import signal
import time

from pmitogen.become import chain, diagnosis, entry, processes, prompts, terminal, transcript
from pmitogen.become.failures import BecomeFailure, Failures
from pmitogen.become.strings import as_bytes, environment_bytes, native

POLL_INTERVAL = 0.05  # seconds between two polls until the command is up
EXIT_GRACE = 0.5  # seconds that output may arrive after its program has exited
KILL_GRACE = 2.0  # seconds between hanging up and SIGKILL
MAX_DRAIN = 1 << 20  # bytes that are read at once from a program that may never stop writing
MARKER = "PMITOGEN-%s"

__all__ = ["POLL_INTERVAL", "BecomeFailure", "Escalation"]

_now = getattr(time, "monotonic", time.time)


class Escalation(object):
    """One run of sudo, su or doas. Single-threaded: every method belongs to the loop that calls start().

    *plan*: what pmitogen.flags.become.plan() made.
    *command*: the argv to run in the other account.
    *token*: a random word of the caller's, the same that its loader prints.
    *env*: the environment for the program (None: this process's).
    *preparation*: shell commands for the other account, before the command; see ``entry``.
    *prepare*: called in the child before the program is started (None: nothing is).

    Attributes: ``pid`` of the started program; ``tty_fd``, ``out_fd`` and ``in_fd``, non-blocking, owned by this object;
    ``in_fd`` is None until the command is up if the program asks its questions on stdin. ``running`` is True from the marker on.
    """

    def __init__(self, plan, command, token, env=None, preparation=None, prepare=None):
        self.plan = plan
        self.command = [native(word) for word in command]
        self.env = dict(os.environ if env is None else env)
        self.pid = self.tty_fd = self.out_fd = self.in_fd = None
        self.running = False
        self.status = None  # as os.waitpid gives it
        self._preparation, self._prepare = preparation, prepare
        self._ready = (MARKER % token + " ready").encode("ascii")
        self._error_marker = MARKER % token + " cannot"
        self._steps = chain.build_steps(plan, self._text, native)
        self._entered = 0  # steps whose account is entered
        self._expected_uids = {0, os.getuid(), os.geteuid()}  # of accounts that may be at work on the terminal
        hidden = [self._text(text) for step in self._steps for text in (step.prompt, step.entry.marker)]
        self._transcript = transcript.Transcript(hidden, native)
        self._failures = Failures(self._steps, self._transcript, native)
        self._wanted_secret = None  # (step, kind) of the secret that the unfinished line asks for
        self._requested_secrets = set()
        self._secrets = {}  # (step, kind) -> what was given and not yet written
        self._data_after_marker = None
        self._tty_ended = self._out_ended = self._closed = False
        self._ended_at = self._deadline = self._hung_up_at = None

    def __repr__(self):
        return "<Escalation %s, pid %s>" % (self._failures.describe(), self.pid)

    # Starting

    def start(self):
        """Start the program. Raises BecomeFailure, kind ``not-installed`` or ``tty``, if there is none or no terminal for it."""
        argv = self._argv()
        words = [as_bytes(word) for word in argv]
        env = {environment_bytes(name): environment_bytes(value) for name, value in self.env.items()}
        program = terminal.find_program(words[0], env.get(b"PATH", b""))
        if program is None:
            raise self._failures.make("not-installed", "%s is not installed on this host, or not in its PATH" % argv[0])
        chdir = self.plan.get("chdir")
        try:
            child = terminal.spawn(
                program,
                words,
                env,
                None if chdir is None else as_bytes(chdir),
                self.plan["stdin"] == "tty",
                self._error_marker.encode("ascii"),
                self._prepare,
            )
        except (OSError, IOError) as e:
            raise self._failures.make("tty", "no terminal for it: %s" % os.strerror(e.errno))
        self.pid, self.tty_fd, self.in_fd, self.out_fd = child.pid, child.tty, child.stdin, child.stdout
        self._deadline = _now() + self.plan["timeout"]

    def _argv(self):
        """The words to start: each program's, around those of the next."""
        words, preparation = self.command, self._preparation
        for step in reversed(self._steps):
            words = step.wrap(words, self.env.get("SHELL") if step is self._steps[0] else None, preparation)
            preparation = None
        return words

    # Events

    def on_tty(self, data):
        """*data* was read from ``tty_fd`` (b"": its end). Raises BecomeFailure."""
        if not data:
            self._tty_ended = True
            self._check_ended()
            return
        self._read_terminal(data)
        self._check_prompt()

    def on_output(self, data):
        """*data* was read from ``out_fd`` (b"": its end). Not to be called once the command is up. Raises BecomeFailure."""
        if not data:
            self._out_ended = True
            self._check_ended()
            return
        self._read_output(data)
        self._check_prompt()

    def _read_terminal(self, data):
        self._note_entered_accounts(self._transcript.terminal, data)
        self._transcript.on_terminal(data)

    def _read_output(self, data):
        self._note_entered_accounts(self._transcript.output, data)
        output = self._transcript.output + data
        at = output.find(self._ready)
        end = output.find(b"\n", at) if at >= 0 else -1
        if end >= 0:
            self._data_after_marker = output[end + 1 :]
            self._on_command_started()
        else:
            self._transcript.on_output(data)

    def poll(self):
        """Time has passed. Raises BecomeFailure, its timeout included."""
        if self.running or self._closed:
            return
        self._check_ended()
        if _now() > self._deadline:
            self.on_timeout()
        self._check_prompt()

    def take_request(self):
        """(step, kind) of a secret that a question waits for, once for each; else None."""
        if self._wanted_secret is None or self._wanted_secret in self._requested_secrets:
            return None
        self._requested_secrets.add(self._wanted_secret)
        return self._wanted_secret

    def give(self, step, kind, secret):
        """A secret that was requested."""
        if (step, kind) in self._requested_secrets and not self.running and not self._closed:
            self._secrets[step, kind] = secret

    def take_answer(self):
        """What to write to ``tty_fd`` now: b"" unless the question of a secret that is here stands at this moment.

        Raises BecomeFailure.
        """
        if self._wanted_secret not in self._secrets:
            return b""
        self._read_rest()
        self._check_prompt()
        if self._wanted_secret not in self._secrets:
            return b""
        step, kind = self._wanted_secret
        secret = self._secrets.pop(self._wanted_secret)
        self._wanted_secret = None
        self._steps[step].secrets_sent.add(kind)
        self._transcript.on_answered(self._text(secret), self._on_stdout())
        return as_bytes(secret) + b"\n"

    def withhold(self, why):
        """The secret that was asked for is not given. Raises BecomeFailure."""
        if not self.running and not self._closed:
            raise self._failures.secret_withheld(why)

    def take_rest(self):
        """Once the command is up, and once only: the bytes that followed its marker. Else None."""
        rest, self._data_after_marker = self._data_after_marker, None
        return rest

    def on_timeout(self):
        """The caller's patience has ended. Raises BecomeFailure unless the command is up."""
        if self.running:
            return
        self._read_rest()
        step = self._steps[self._entered] if self._entered < len(self._steps) else None
        question = self._transcript.unfinished_line(self._on_stdout())
        raise self._failures.timed_out(step, question, terminal.echo_is_on(self.tty_fd), self.plan["timeout"])

    def on_exit(self, status):
        """The program has exited with *status* (as os.waitpid gives it): for callers that collect all children themselves."""
        self.status = status
        self._check_ended()

    def output_complete(self):
        """Whether the last output of a command that has ended is here. To be asked again and again; EXIT_PATIENCE bounds it.

        It passes through the program, which has a terminal of its own for its command (sudo's use_pty), and so comes after the
        end of the command's stdout.
        """
        if self._ended_at is None:
            self._ended_at = _now()
        return self._tty_ended or self._try_reap() or _now() - self._ended_at > EXIT_GRACE

    def last_output(self):
        """What stands on the terminal since the command came up, on one line: its stderr, for an error message if it dies.

        "" for a command whose data pass the terminal too: another terminal on the way (``sudo -u x su``) may have echoed them.
        """
        if self.plan["stdin"] == "tty" or not self.running:
            return ""
        if self.tty_fd is not None:
            self._read_rest()
        return self._transcript.output_excerpt()

    # The end

    def close(self):
        """Hang up: the program and its command get SIGHUP and the end of their stdin. Returns at once; may be called twice."""
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
        """Collect the program after close(): True once it is gone. If it outlives KILL_PATIENCE, it is killed if it can be."""
        if self.pid is None or self.status is not None or self._try_reap():
            return True
        if self._closed and _now() - self._hung_up_at > KILL_GRACE:
            for kill in (os.killpg, os.kill):
                try:
                    kill(self.pid, signal.SIGKILL)
                except OSError:
                    pass  # root's process by now; hanging up is all that we can do to it
        return False

    # Inside

    def _note_entered_accounts(self, before, data):
        """See which accounts are entered, by *data* that follows *before*."""
        data = before[-entry.MAX_MARKER_SIZE :] + data
        while self._entered < len(self._steps) and self._steps[self._entered].entry.is_in(data):
            # By name as well: the kernel's list of children may lack one while another ends.
            self._expected_uids |= processes.uids_of(as_bytes(self._steps[self._entered].plan["user"]))
            self._entered += 1
            self._secrets.clear()
            self._expected_uids |= processes.uids_below(self.pid)

    def _clear_secrets(self):
        """Drop what must not outlast the entering: secrets, and what was printed."""
        self._wanted_secret = None
        self._secrets.clear()
        self._transcript.forget()

    def _check_prompt(self):
        """See whether a question stands that the secret of its step may answer. Raises BecomeFailure."""
        self._wanted_secret = None
        if self.running or self._closed or self._entered == len(self._steps):
            return
        step = self._steps[self._entered]
        if step.secrets_sent and diagnosis.retry_prompted(self._transcript.since_last_answer()):
            raise self._failures.denied("password-wrong")
        question = self._transcript.unfinished_line(self._on_stdout())
        if not question or terminal.echo_is_on(self.tty_fd):
            return  # half a line that only looks like a prompt, or its program does not listen yet
        if len(step.programs) == 1 and processes.uids_below(self.pid) - self._expected_uids:
            return  # not the program asks, but something that it has started: a start-up file of the account
        kind = step.prompts.kind(question)
        expired = kind is None and step.secrets_sent and diagnosis.refusal(step.programs, self._transcript.text()) == "account"
        if kind == prompts.NEW_PASSWORD or expired:
            raise self._failures.expired(question)
        if kind is None:
            return
        if kind in step.secrets_sent:
            raise self._failures.asked_again(step)
        if kind not in step.available:
            raise self._failures.missing_secret(kind, question)
        self._wanted_secret = (self._entered, kind)

    def _on_stdout(self):
        """Whether questions are looked for on stdout: where the terminal is stdin, and nothing is asked on it."""
        return self.plan["stdin"] == "tty" and not self._transcript.unfinished_line(False)

    def _on_command_started(self):
        self.running = True
        self._clear_secrets()
        if self.plan["stdin"] == "tty":
            # su has put the terminal back as it found it: with echo, which would send every byte back.
            terminal.set_raw(self.tty_fd, echo=False)
            self.in_fd = os.dup(self.tty_fd)
            terminal.set_cloexec(self.in_fd)

    def _try_reap(self):
        """True if the program has exited; collects it."""
        if self.status is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except OSError as e:
                if e.errno != errno.ECHILD:
                    return False
                pid, status = self.pid, -1  # collected by somebody else
            if not pid:
                return False
            self.status = status
        return True

    def _check_ended(self):
        """Raise if the program is over: exited and both its outputs ended, or one of the two was given time to follow."""
        if self.running or self._closed:
            return
        exited, silent = self._try_reap(), self._out_ended and self._tty_ended
        if not (exited or silent):
            return
        if self._ended_at is None:
            self._ended_at = _now()
        # What a program leaves behind may hold its outputs open, and one that closed its outputs may take a while to die.
        if exited and silent or _now() - self._ended_at > EXIT_GRACE:
            self._read_rest()
            if not self.running:
                raise self._exit_error()

    def _read_rest(self):
        """Read what waits on the terminal and, until the command is up, on stdout."""
        left = MAX_DRAIN
        while left > 0 and not self._tty_ended:
            data = terminal.read_some(self.tty_fd)
            if data is None:
                break
            self._tty_ended = not data
            self._read_terminal(data)
            left -= len(data)
        while left > 0 and not self._out_ended and not self.running:
            data = terminal.read_some(self.out_fd)
            if data is None:
                break
            self._out_ended = not data
            self._read_output(data)
            left -= len(data)

    # Why it failed

    def _exit_error(self):
        """The failure that an exit without the marker amounts to."""
        program, chdir = self._steps[0].plan["argv"][0], self.plan.get("chdir")
        not_started = self._failures.not_started(self._transcript.text(), self._error_marker, program, chdir)
        if not_started is not None:
            return not_started
        code = os.WEXITSTATUS(self.status) if self.status is not None and os.WIFEXITED(self.status) else None
        return self._failures.exited(self._entered, self.command, code, terminal.login_shell(self.plan))

    def _text(self, value):
        return diagnosis.visible_text(as_bytes(value))
