"""What the programs of an escalation have printed, on the terminal and on stdout, and how it is quoted in messages.

NOTE: runs on the target. What is quoted was written by others: control characters and secrets are removed from it.
"""

from __future__ import absolute_import

import re

from pmitogen.become import diagnosis

TAIL_SIZE = 4096  # bytes of each stream that are kept
MAX_EXCERPT = 400  # characters of it in a message


class Transcript(object):
    """*hidden*: texts that are left out of what is quoted: prompts and markers of ours."""

    def __init__(self, hidden, native):
        self.terminal = b""
        self.output = b""
        self._since_last_answer = b""  # of the terminal, since the last answer
        self._hidden = hidden
        self._secrets = []  # texts that were given as answers
        self._native = native

    def on_terminal(self, data):
        self.terminal = (self.terminal + data)[-TAIL_SIZE:]
        self._since_last_answer = (self._since_last_answer + data)[-TAIL_SIZE:]

    def on_output(self, data):
        self.output = (self.output + data)[-TAIL_SIZE:]

    def on_answered(self, secret, from_stdout):
        """The question on the terminal, or with *on_output* the one on stdout, was answered with *secret* (text)."""
        self._secrets.append(secret)
        self._since_last_answer = b""
        if from_stdout:
            self.terminal, self.output = (self.terminal + self.output)[-TAIL_SIZE:], b""

    def forget(self):
        """Drop all of it, secrets as well."""
        self.terminal = self.output = self._since_last_answer = b""
        del self._secrets[:]

    def since_last_answer(self):
        """Text on the terminal since the last answer."""
        return diagnosis.visible_text(self._since_last_answer)

    def unfinished_line(self, from_stdout):
        """The unfinished last line of the terminal since the last answer, or of stdout, from its last carriage return on."""
        return diagnosis.visible_text(re.split(b"[\r\n]", self.output if from_stdout else self._since_last_answer)[-1]).strip()

    def text(self):
        """All that was printed."""
        return diagnosis.visible_text(self.terminal + b"\n" + self.output)

    def quote(self, text):
        """The end of *text* in quotes, for a message."""
        return "'%s'" % self._native(self._without(self._hidden, self._scrub(text), "password:")[-MAX_EXCERPT:]).strip()

    def output_excerpt(self):
        """ ": it said '...'", the last lines of what was printed, on one line; "" if that is nothing."""
        text = self._scrub(self._without(self._hidden, self.text(), ""))
        lines = [" ".join(line.split()) for line in re.split("[\r\n]+", text)]
        words = " / ".join(line for line in lines if line)[-MAX_EXCERPT:]
        return self._native(": it said '%s'" % words) if words else ""

    def _scrub(self, text):
        """*text* without secrets, which a broken program may have repeated."""
        return self._without([secret for secret in self._secrets if secret], text, "********")

    @staticmethod
    def _without(hidden, text, instead):
        for each in hidden:
            text = text.replace(each, instead)
        return text
