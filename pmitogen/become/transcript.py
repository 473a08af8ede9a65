"""Output of the programs of an escalation, on the terminal and on stdout, and excerpts of it for messages.

NOTE: runs on the target. The output is untrusted: control characters and secrets are removed from excerpts.
"""

from __future__ import absolute_import

import re

from pmitogen.become import diagnosis

MYPY = False
if MYPY:
    from typing import Iterable, List  # noqa: F401
    from pmitogen.become.types import Native  # noqa: F401

TAIL_SIZE = 4096  # bytes stored of the end of each stream
MAX_EXCERPT = 400  # characters of output in a message


class Transcript(object):
    """The end of both streams. *hidden*: pmitogen's own prompts and markers, which are removed from excerpts."""

    def __init__(self, hidden, native):
        # type: (List[str], Native) -> None
        self.terminal = b""
        self.stdout = b""
        self._since_last_answer = b""  # terminal output
        self._hidden = hidden
        self._secrets = []  # type: List[str]
        self._native = native

    def on_terminal(self, data):
        # type: (bytes) -> None
        self.terminal = (self.terminal + data)[-TAIL_SIZE:]
        self._since_last_answer = (self._since_last_answer + data)[-TAIL_SIZE:]

    def on_stdout(self, data):
        # type: (bytes) -> None
        self.stdout = (self.stdout + data)[-TAIL_SIZE:]

    def on_answered(self, secret, from_stdout):
        # type: (str, bool) -> None
        """Record that the prompt, on stdout if *from_stdout*, else on the terminal, was answered with *secret*."""
        self._secrets.append(secret)
        self._since_last_answer = b""
        if from_stdout:
            self.terminal, self.stdout = (self.terminal + self.stdout)[-TAIL_SIZE:], b""

    def forget(self):
        # type: () -> None
        """Discard the output and the secrets."""
        self.terminal = self.stdout = self._since_last_answer = b""
        del self._secrets[:]

    def since_last_answer(self):
        # type: () -> str
        """Return the text on the terminal since the last answer."""
        return diagnosis.visible_text(self._since_last_answer)

    def unfinished_line(self, from_stdout):
        # type: (bool) -> str
        """Return the text after the last line end or carriage return: of the terminal since the last answer, or of stdout."""
        return diagnosis.visible_text(re.split(b"[\r\n]", self.stdout if from_stdout else self._since_last_answer)[-1]).strip()

    def text(self):
        # type: () -> str
        """Return the stored output of both streams."""
        return diagnosis.visible_text(self.terminal + b"\n" + self.stdout)

    def quote(self, text):
        # type: (str) -> str
        """Return the end of *text* in quotes, for a message."""
        return "'%s'" % self._native(self._without(self._hidden, self._scrub(text), "password:")[-MAX_EXCERPT:]).strip()

    def output_excerpt(self):
        # type: () -> str
        """Return ": it said '...'" with the last lines of the output, joined to one line; "" if there is no output."""
        text = self._scrub(self._without(self._hidden, self.text(), ""))
        lines = [" ".join(line.split()) for line in re.split("[\r\n]+", text)]
        excerpt = " / ".join(line for line in lines if line)[-MAX_EXCERPT:]
        return self._native(": it said '%s'" % excerpt) if excerpt else ""

    def _scrub(self, text):
        # type: (str) -> str
        """Mask secrets in *text*, because a faulty program may have printed them."""
        return self._without([secret for secret in self._secrets if secret], text, "********")

    @staticmethod
    def _without(hidden, text, instead):
        # type: (Iterable[str], str, str) -> str
        for each in hidden:
            text = text.replace(each, instead)
        return text
