"""One escalation: start sudo, su or doas, answer what it asks, and see the command come up or learn why it does not.

Theory. The state moves one way: STARTED -> ANSWERED (the password is given) -> UP (the command's loader has printed its
marker) -> CLOSED. Until UP, the terminal carries prompts and complaints, and stdout carries noise (a profile's, a message of
the day) before the marker; from UP on, stdin and stdout belong to the caller and the terminal only has to be drained.

An answer is written when three things agree: the last line on the terminal is unfinished, it is a prompt by a row of
``verdicts`` (or looks like a question, if no row knows the language), and the program has switched ECHO off. A known prompt
that leaves ECHO on for ECHO_PATIENCE gets it switched off by us first. Each secret is written once; to be asked again means
that it was wrong. BusyBox's su asks on stdout, so where the terminal is stdin, stdout's last line may ask as well: in words that
a row knows, and with ECHO off.

NOTE: runs on the target, inside the agent's event loop: nothing blocks, and the caller does the reading, the writing and the
waiting::

    e = Escalation(plan, [python, "-c", loader], token)   # the loader prints "PMITOGEN-<token> ready\\n"
    e.start()
    # each turn, and every POLL_INTERVAL until e.up:  write to e.tty_fd whatever these return
    e.on_tty(data)      # what was read from e.tty_fd; b"" at its end (EIO is an end)
    e.on_output(data)   # what was read from e.out_fd; b"" at its end; not None: the command is up, this follows the marker
    e.poll()            # time passes
    e.close()           # and then e.reap() now and again until it is True

Each may raise BecomeFailure; after that only close() and reap() make sense.
"""

from __future__ import absolute_import

import errno
import os
import re
import signal
import time

from pmitogen.become import chain, terminal, diagnosis

POLL_INTERVAL = 0.05  # seconds between two polls until the command is up
ECHO_PATIENCE = 0.5  # seconds a prompt may stand before its program has switched echo off
STRANGE_PATIENCE = 0.5  # seconds an unfinished line in no known language must stand before it counts as a prompt
EXIT_PATIENCE = 0.5  # seconds that last words may arrive after their speaker has exited
KILL_PATIENCE = 2.0  # seconds between hanging up and SIGKILL
KEPT = 2048  # bytes of talk that are kept for an error message
MARKER = "PMITOGEN-%s"

_now = getattr(time, "monotonic", time.time)


class BecomeFailure(Exception):
    """The other account could not be entered. *kind* is one of errors.BecomeError's, *message* a line without secrets."""

    def __init__(self, kind, message):
        Exception.__init__(self, message)
        self.kind = kind
        self.message = message


def _native(value):
    """Text (JSON gives unicode to Python 2) as this Python's str, which is what argv and paths are."""
    if isinstance(value, str):
        return value
    return value.encode("utf-8") if str is bytes else value.decode("utf-8")


def _bytes(value):
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape" if str is not bytes else "strict")


def _environment_bytes(value):
    """A word of os.environ as the bytes that it was."""
    try:
        return os.fsencode(value)
    except (AttributeError, UnicodeError):  # Python 2, or text that the caller's locale has no bytes for
        return _bytes(value)


class Escalation(object):
    """One run of sudo, su or doas. Single-threaded: every method belongs to the loop that calls start().

    *plan* is what pmitogen.flags.become.plan() made; *command* the argv to run in the other account; *token* a random word of the
    caller's, the same that its loader prints; *env* the environment for the program (None: this process's).

    Attributes: ``pid`` of the started program; ``tty_fd``, ``out_fd`` and ``in_fd``, non-blocking, owned by this object;
    ``in_fd`` is None until the command is up if the program asks its questions on stdin. ``up`` is True from the marker on.
    """

    def __init__(self, plan, command, token, env=None):
        self.plan = plan
        self.command = [_native(word) for word in command]
        self.env = dict(os.environ if env is None else env)
        self.pid = self.tty_fd = self.out_fd = self.in_fd = None
        self.up = False
        self.status = None  # as os.waitpid gives it
        self._ready = (MARKER % token + " ready").encode("ascii")
        self._complaint = (MARKER % token + " cannot").encode("ascii")
        self._prompt = MARKER % token + " password:"
        self._steps = chain.steps(plan, self._prompt, self._text, _native)
        self._talk = b""  # everything on the terminal, the last KEPT bytes of it
        self._unanswered = b""  # what came on the terminal since the last answer
        self._noise = b""  # stdout before the marker
        self._prompt_since = None
        self._tty_ended = self._out_ended = self._closed = False
        self._ended_at = self._deadline = self._hung_up_at = None

    def __repr__(self):
        return "<Escalation %s, pid %s>" % (self._describe(), self.pid)

    # Starting

    def start(self):
        """Start the program. Raises BecomeFailure, kind ``not-installed`` or ``tty``, if there is none or no terminal for it."""
        argv = self._argv()
        words = [_bytes(word) for word in argv]
        env = {_environment_bytes(name): _environment_bytes(value) for name, value in self.env.items()}
        program = terminal.find_program(words[0], env.get(b"PATH", b""))
        if program is None:
            raise self._failure("not-installed", "%s is not installed on this host, or not in its PATH" % argv[0])
        chdir = self.plan.get("chdir")
        try:
            child = terminal.spawn(
                program, words, env, None if chdir is None else _bytes(chdir), self.plan["stdin"] == "tty", self._complaint
            )
        except (OSError, IOError) as e:
            raise self._failure("tty", "no terminal for it: %s" % os.strerror(e.errno))
        self.pid, self.tty_fd, self.in_fd, self.out_fd = child.pid, child.tty, child.stdin, child.stdout
        self._deadline = _now() + self.plan["timeout"]

    def _argv(self):
        """The words to start: each program's, around those of the next."""
        words = self.command
        for step in reversed(self._steps):
            words = step.wrap(words, self.env.get("SHELL") if step is self._steps[0] else None)
        return words

    def _any_given(self):
        return any(step.given for step in self._steps)

    def _describe(self):
        return ", ".join(step.describe() for step in self._steps)

    # Events

    def on_tty(self, data):
        """*data* was read from ``tty_fd`` (b"": its end). Returns a list of bytes to write there. Raises BecomeFailure."""
        if not data:
            self._tty_ended = True
            self._check_ended()
            return []
        if self.up:
            self._talk = (self._talk + data)[-KEPT:]
            return []
        self._talk = (self._talk + data)[-2 * KEPT :]
        self._unanswered = (self._unanswered + data)[-2 * KEPT :]
        self._prompt_since = _now()
        if self._any_given() and diagnosis.tried_again(diagnosis.text_of(self._unanswered)):
            raise self._refused("password-wrong")
        return self._answer()

    def on_output(self, data):
        """*data* was read from ``out_fd`` (b"": its end).

        Returns None until the command is up, and then, once, the bytes that follow its marker (b"" if none have come yet). Raises
        BecomeFailure.
        """
        if self.up:
            return data
        if not data:
            self._out_ended = True
            self._check_ended()
            return None
        self._noise += data
        at = self._noise.find(self._ready)
        end = self._noise.find(b"\n", at) if at >= 0 else -1
        if end < 0:
            if at < 0:
                self._noise = self._noise[-2 * KEPT :]
            return None
        rest, self._noise = self._noise[end + 1 :], b""
        self._come_up()
        return rest

    def poll(self):
        """Time has passed: returns a list of bytes to write to ``tty_fd``. Raises BecomeFailure, its timeout included."""
        if self.up or self._closed:
            return []
        self._check_ended()
        if _now() > self._deadline:
            self.on_timeout()
        return self._answer()

    def on_timeout(self):
        """The caller's patience has ended. Raises BecomeFailure unless the command is up."""
        if self.up:
            return
        self._drain()
        partial = self._partial()
        if partial:
            raise self._failure("timeout", "it waits at %s" % self._quote(partial))
        step = "after the password was given" if self._any_given() else "without a prompt"
        raise self._failure("timeout", "nothing came %s within %g s%s" % (step, self.plan["timeout"], self._last_words()))

    def on_exit(self, status):
        """The program has exited with *status* (as os.waitpid gives it): for callers that collect all children themselves."""
        self.status = status
        self._check_ended()

    def settled(self):
        """Whether the last words of a command that has ended are here. To be asked again and again; EXIT_PATIENCE bounds it.

        They pass through the program, which has a terminal of its own for its command (sudo's use_pty), and so come after the end
        of the command's stdout.
        """
        if self._ended_at is None:
            self._ended_at = _now()
        return self._tty_ended or self._wait() or _now() - self._ended_at > EXIT_PATIENCE

    def said(self):
        """What stands on the terminal since the command came up, on one line: its stderr, for an error message if it dies.

        "" for a command whose data pass the terminal too: another terminal on the way (``sudo -u x su``) may have echoed them.
        """
        if self.plan["stdin"] == "tty" or not self.up:
            return ""
        if self.tty_fd is not None:
            self._drain()
        return self._last_words()

    # The end

    def close(self):
        """Hang up: the program and its command get SIGHUP and the end of their stdin. Returns at once; may be called twice."""
        if self._closed:
            return
        self._closed = True
        for step in self._steps:
            step.secrets.clear()
        self._hung_up_at = _now()
        terminals = (self.in_fd, self.out_fd, self.tty_fd)
        self.in_fd = self.out_fd = self.tty_fd = None
        for fd in terminals:
            terminal.close_quietly(fd)

    def reap(self):
        """Collect the program after close(): True once it is gone. If it outlives KILL_PATIENCE, it is killed if it can be."""
        if self.pid is None or self.status is not None or self._wait():
            return True
        if self._closed and _now() - self._hung_up_at > KILL_PATIENCE:
            for kill in (os.killpg, os.kill):
                try:
                    kill(self.pid, signal.SIGKILL)
                except OSError:
                    pass  # root's process by now; hanging up is all that we can do to it
        return False

    # Inside

    def _come_up(self):
        self.up = True
        self._talk = b""
        for step in self._steps:
            step.secrets.clear()
        if self.plan["stdin"] == "tty":
            # su has put the terminal back as it found it: with echo, which would send every byte back.
            terminal.set_raw(self.tty_fd, echo=False)
            self.in_fd = os.dup(self.tty_fd)
            terminal.set_cloexec(self.in_fd)

    def _answer(self):
        """What to write, given all that stands on the terminal now."""
        partial = self._partial()
        on_stdout = not partial and self.plan["stdin"] == "tty"
        if on_stdout:
            partial = self._last_line(self._noise)
        if not partial or self.up:
            return []
        step, kind = chain.asking(self._steps, partial)
        echo = terminal.echo_is_on(self.tty_fd)
        if on_stdout and (echo or kind is None):
            return []  # a profile's words
        stood = 0 if on_stdout else _now() - self._prompt_since
        if echo and stood < ECHO_PATIENCE:
            return []  # nobody listens yet, or it is half a line that only looks like a prompt
        if kind is None:
            if echo or stood < STRANGE_PATIENCE or not diagnosis.looks_like_question(partial):
                return []
            kind = diagnosis.PASSWORD
        if kind == diagnosis.NEW_PASSWORD:
            raise self._failure("account", "the password has expired and must be changed: it asks %s" % self._quote(partial))
        if kind in step.given:
            raise self._refused("account" if diagnosis.refusal(step.method, self._all_text()) == "account" else "password-wrong")
        if not step.secrets.get(kind):
            raise self._unanswerable(kind, partial)
        if echo:
            terminal.set_raw(self.tty_fd, echo=False)
            if terminal.echo_is_on(self.tty_fd):
                raise self._failure("tty", "it would echo what it asks for: %s" % self._quote(partial))
        step.given.add(kind)
        self._unanswered = b""
        if on_stdout:
            self._talk, self._noise = (self._talk + self._noise)[-2 * KEPT :], b""
        return [_bytes(step.secrets[kind]) + b"\n"]

    def _partial(self):
        """The unfinished last line of the terminal since our last answer, as text, from its last carriage return on."""
        return self._last_line(self._unanswered)

    def _last_line(self, data):
        return diagnosis.text_of(re.split(b"[\r\n]", data)[-1]).strip()

    def _wait(self):
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
        if self.up or self._closed:
            return
        exited, silent = self._wait(), self._out_ended and self._tty_ended
        if not (exited or silent):
            return
        if self._ended_at is None:
            self._ended_at = _now()
        # What a program leaves behind may hold its outputs open, and one that closed its outputs may take a while to die.
        if exited and silent or _now() - self._ended_at > EXIT_PATIENCE:
            self._drain()
            raise self._ended()

    def _drain(self):
        """Take what still stands on the terminal: last words."""
        while not self._tty_ended:
            data = terminal.read_some(self.tty_fd)
            if data is None:
                break
            self._tty_ended = not data
            self._talk = (self._talk + data)[-2 * KEPT :]
            self._unanswered = (self._unanswered + data)[-2 * KEPT :]

    # Why it failed

    def _ended(self):
        """The failure that an exit without the marker amounts to."""
        text = self._all_text()
        own = re.search(re.escape(self._complaint.decode("ascii")) + " (exec|chdir) (\\d+)", text)
        if own:
            what = self.plan["argv"][0] if own.group(1) == "exec" else self.plan["chdir"]
            kind = "not-installed" if own.group(1) == "exec" else "other"
            return self._failure(kind, "cannot %s %s: %s" % (own.group(1), _native(what), os.strerror(int(own.group(2)))))
        kinds = [diagnosis.refusal(step.method, text) for step in self._steps]
        kind = next((found for found in kinds if found is not None), None)
        if kind == "shell" and diagnosis.command_failure(text, self.command):
            kind = None  # the words are those of a shell that does run
        if kind is not None:
            return self._refused(kind)
        status, shell = self._exit_code(), self._shell()
        kind = diagnosis.shell_failure(text, status, self.command, shell)
        if kind is None and status and not self._last_words():
            kind = "python"  # the program itself would have said why
        if kind == "python":
            return self._failure(kind, "%s does not run in that account%s" % (self.command[0], self._last_words()))
        if kind == "shell":
            name = " " + shell if shell else ""
            return self._failure(kind, "its login shell%s takes no commands%s" % (name, self._last_words()))
        return self._failure(
            "other",
            "it ended%s without starting the command%s"
            % ("" if status is None else " with status %d" % status, self._last_words()),
        )

    def _refused(self, kind):
        if kind == "password-wrong" and not self._any_given():
            kind = "not-permitted"  # refused unasked
        said = {
            "password-wrong": "the password is wrong",
            "password-missing": "it wants a password and none was given (ansible_become_password, --ask-become-pass)",
            "not-permitted": "not permitted",
            "unknown-user": "no such account",
            "account": "the account is expired or locked",
            "tty": "it wants a terminal",
            "shell": "the shell cannot be run",
        }[kind]
        return self._failure(kind, said + self._last_words())

    def _unanswerable(self, kind, partial):
        if kind == diagnosis.SECOND_FACTOR:
            return self._failure("password-missing", "it asks for a second factor, %s, and none was given" % self._quote(partial))
        return self._failure("password-missing", "it asks for a password, %s, and none was given" % self._quote(partial))

    def _failure(self, kind, what):
        return BecomeFailure(kind, "%s: %s" % (self._describe(), what))

    def _exit_code(self):
        if self.status is None or not os.WIFEXITED(self.status):
            return None
        return os.WEXITSTATUS(self.status)

    def _shell(self):
        """The shell that was to take the command, or None. Local accounts only: to ask a directory service may block."""
        if self.plan["shell"] != "login":
            return None if self.plan["shell"] is None else _native(self.plan["shell"])
        try:
            with open("/etc/passwd", "rb") as f:
                for line in f:
                    fields = line.rstrip(b"\n").split(b":")
                    if fields[0] == _bytes(self.plan["user"]) and len(fields) == 7:
                        return _native(fields[6])
        except (IOError, OSError):
            pass
        return None

    def _text(self, value):
        return diagnosis.text_of(_bytes(value))

    def _all_text(self):
        return diagnosis.text_of(self._talk + b"\n" + self._noise)

    def _scrub(self, text):
        """*text* without secrets, which a broken program may have repeated."""
        for step in self._steps:
            for secret in (step.plan.get("password"), step.plan.get("otp")):
                hidden = self._text(secret or "")
                if hidden:
                    text = text.replace(hidden, "********")
        return text

    def _without_prompts(self, text, instead):
        for step in self._steps:
            text = text.replace(self._text(step.prompt), instead)
        return text

    def _quote(self, text):
        return "'%s'" % _native(self._without_prompts(self._scrub(text), "password:")).strip()

    def _last_words(self):
        """ ": it said '...'", the last lines of what it said, on one line; "" if it said nothing."""
        text = self._scrub(self._without_prompts(self._all_text(), ""))
        lines = [" ".join(line.split()) for line in re.split("[\r\n]+", text)]
        words = " / ".join(line for line in lines if line)[-400:]
        return _native(": it said '%s'" % words) if words else ""
