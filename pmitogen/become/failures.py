"""Errors that say in one line why an account could not be entered.

NOTE: runs on the target.
"""

from __future__ import absolute_import

import os
import re

from pmitogen.become import entry, prompt_patterns, diagnosis

MYPY = False
if MYPY:
    from typing import List, Optional, Sequence  # noqa: F401
    from pmitogen.become.chain import EscalationStep  # noqa: F401
    from pmitogen.become.transcript import Transcript  # noqa: F401
    from pmitogen.become.types import Native  # noqa: F401

_MEANING = {
    "password-wrong": "the password is wrong",
    "password-missing": "a password is required and none was given (ansible_become_password, --ask-become-pass)",
    "not-permitted": "not permitted",
    "unknown-user": "no such account",
    "account": "the account is expired or locked",
    "tty": "a terminal is required",
    "shell": "the shell cannot be run",
}
_OWN_PROMPT = "'Defaults passprompt_override' in sudoers makes sudo use the prompt that pmitogen gives it"


class BecomeFailure(Exception):
    """The other account could not be entered. *kind*: see errors.BecomeError. *message*: one line without secrets."""

    def __init__(self, kind, message):
        # type: (str, str) -> None
        Exception.__init__(self, message)
        self.kind = kind
        self.message = message


class Failures(object):
    """Creates the errors of one escalation. *native*: turns text into the str type of this Python."""

    def __init__(self, steps, transcript, native):
        # type: (List[EscalationStep], Transcript, Native) -> None
        self._steps = steps
        self._transcript = transcript
        self._native = native

    def describe(self):
        # type: () -> str
        """Return the steps, for the start of a message: "sudo to bob"."""
        return ", ".join(step.describe() for step in self._steps)

    def make(self, kind, problem):
        # type: (str, str) -> BecomeFailure
        """Return the error whose message begins with the steps. *kind*: see errors.BecomeError."""
        return BecomeFailure(kind, "%s: %s" % (self.describe(), problem))

    def denied(self, kind):
        # type: (str) -> BecomeFailure
        """Return the failure for a refusal by the program. *kind*: from the rows of its table."""
        unasked = not any(step.secrets_sent for step in self._steps)
        if kind == "password-wrong" and unasked:
            kind = "not-permitted"  # refused without asking
        hint = ""
        if unasked and kind in ("password-missing", "not-permitted") and "sudo" in self._steps[0].programs:
            hint = "; a rule in sudoers that allows it must cover %s" % entry.SUDOERS_COMMAND
        return self.make(kind, _MEANING[kind] + hint + self._transcript.output_excerpt())

    def asked_again(self, step):
        # type: (EscalationStep) -> BecomeFailure
        """Return the failure if the program asks again for a secret that it was given."""
        expired = diagnosis.refusal(step.programs, self._transcript.text()) == "account"
        return self.denied("account" if expired else "password-wrong")

    def expired(self, question):
        # type: (str) -> BecomeFailure
        return self.make("account", "the password has expired and must be changed: it asks %s" % self._transcript.quote(question))

    def missing_secret(self, kind, question):
        # type: (str, str) -> BecomeFailure
        secret = "second factor" if kind == prompt_patterns.SECOND_FACTOR else "password"
        return self.make(
            "password-missing", "it asks for a %s (prompt %s), and none was given" % (secret, self._transcript.quote(question))
        )

    def secret_withheld(self, reason):
        # type: (str) -> BecomeFailure
        """Return the failure if the hub withholds the secret."""
        return self.make("password-missing", reason)

    def timed_out(self, step, question, echo, seconds):
        # type: (Optional[EscalationStep], str, bool, float) -> BecomeFailure
        """Return the failure if the command did not start within *seconds*.

        *step*: the step that is waiting, None if all accounts are entered.
        *question*: the unfinished line.
        *echo*: True if the terminal echoes.
        """
        if question and step is not None and step.prompts.kind(question) and echo:
            return self.make(
                "tty", "the terminal would echo the answer, so none was given: %s" % self._transcript.quote(question)
            )
        if question and step is not None:
            hint = ""
            if not echo and step.programs == ["sudo"]:
                hint = "; only its own prompt is answered (%s)" % _OWN_PROMPT
            elif not echo:
                hint = "; only known prompts are answered (ansible_%s_prompt_l10n)" % step.programs[-1]
            return self.make("timeout", "it waits at %s%s" % (self._transcript.quote(question), hint))
        given = any(each.secrets_sent for each in self._steps)
        when = (
            "after the account was entered" if step is None else "after the password was given" if given else "without a prompt"
        )
        return self.make("timeout", "no output %s within %g s%s" % (when, seconds, self._transcript.output_excerpt()))

    def not_started(self, text, error_marker, program, chdir):
        # type: (str, str, str, Optional[str]) -> Optional[BecomeFailure]
        """Return the failure if the child of terminal.spawn wrote *error_marker* into *text*, else None.

        *program*: the program that it should start.
        *chdir*: the directory that it should change to, or None.
        """
        error = re.search(re.escape(error_marker) + " (exec|chdir) (\\d+)", text)
        if not error:
            return None
        subject, kind = (program, "not-installed") if error.group(1) == "exec" else (chdir or "", "other")
        return self.make(kind, "cannot %s %s: %s" % (error.group(1), self._native(subject), os.strerror(int(error.group(2)))))

    def exited(self, entered, command, code, shell):
        # type: (int, Sequence[str], Optional[int], Optional[str]) -> BecomeFailure
        """Return the failure if the program ended before the command was running.

        *entered*: number of accounts that were entered.
        *command*: the argv that should run in the last one.
        *code*: exit status, or None.
        *shell*: the shell that should run the command, or None.
        """
        text = self._transcript.text()
        if entered < len(self._steps):
            kind = diagnosis.refusal(self._steps[entered].programs, text)
            if kind == "shell" and diagnosis.is_command_failure(text, ["/bin/sh"]):
                kind = None  # a shell that does run printed this text
            if kind is not None:
                return self.denied(kind)
            kind = diagnosis.shell_failure(text, code, ["/bin/sh"], shell)
        else:
            kind = "python"
        if kind == "python":
            name = command[0] if entered == len(self._steps) else "/bin/sh"
            return self.make(kind, "%s does not run in that account%s" % (name, self._transcript.output_excerpt()))
        if kind == "shell":
            name = " " + shell if shell else ""
            return self.make(kind, "its login shell%s takes no commands%s" % (name, self._transcript.output_excerpt()))
        status = "" if code is None else " with status %d" % code
        return self.make("other", "it ended%s without starting the command%s" % (status, self._transcript.output_excerpt()))
