"""Become plugins that are not ours: the command as the plugin wraps it, its prompt answered, its success awaited.

As Ansible's ssh plugin does: while a password is expected, what the command says is looked at line by line for the prompt,
the success marker and the plugin's failure texts; from the success on, output is output. The password is written once.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError

from pmitogen.ansible.exchange import ansible_error
from pmitogen.errors import Error
from pmitogen.protocol.exchange import Exchange, Output
from pmitogen.util.peer_text import escape

Result = tuple[int, bytes, bytes]


class BecomeDialogue:
    """What a wrapped command has said so far, and what that amounts to."""

    def __init__(self, become: Any) -> None:
        self._become = become
        self.succeeded = not become.success
        self.password_sent = not become.expect_prompt()
        self._output: dict[int, list[bytes]] = {1: [], 2: []}
        self._unfinished_line: dict[int, bytes] = {1: b"", 2: b""}

    def feed(self, stream: int, data: bytes) -> bool:
        """Take output. Returns whether the password is wanted now. Raises AnsibleError."""
        if self.succeeded:
            self._output[stream].append(data)
            return False
        wanted = False
        lines = (self._unfinished_line[stream] + data).splitlines(keepends=True)
        self._unfinished_line[stream] = b""
        for position, line in enumerate(lines):
            if self.succeeded:
                self._output[stream].append(line)
            elif self._become.expect_prompt() and self._become.check_password_prompt(line):
                if self.password_sent:
                    raise AnsibleError(f"Incorrect {self._become.name} password")
                self.password_sent = wanted = True
            elif self._become.check_success(line):
                self.succeeded = True
            elif self._become.check_incorrect_password(line):
                raise AnsibleError(f"Incorrect {self._become.name} password")
            elif self._become.check_missing_password(line):
                raise AnsibleError(f"Missing {self._become.name} password")
            elif position == len(lines) - 1 and not line.endswith((b"\n", b"\r")):
                self._unfinished_line[stream] = line
            else:
                self._output[stream].append(line)
        return wanted

    def output(self, stream: int) -> bytes:
        """All that was said on a stream, but for the prompt and the marker."""
        return b"".join(self._output[stream]) + self._unfinished_line[stream]


def run_wrapped(become: Any, exchange: Exchange, in_data: bytes | None, timeout: float) -> Result:
    """Hold the conversation with a wrapped command. *timeout* is in seconds, until it has escalated. Raises AnsibleError."""
    try:
        return _converse(become, exchange, in_data, timeout)
    except AnsibleError:
        exchange.cancel()
        raise
    except Error as exc:
        raise ansible_error(exc) from None


def _converse(become: Any, exchange: Exchange, in_data: bytes | None, timeout: float) -> Result:
    dialogue = BecomeDialogue(become)
    deadline = time.monotonic() + timeout + 2
    sent_input = False
    while True:
        if dialogue.succeeded and not sent_input:
            sent_input = True
            if in_data:
                exchange.write(in_data)
            exchange.end_input()
        try:
            event = exchange.next(None if dialogue.succeeded else max(0.01, deadline - time.monotonic()))
        except TimeoutError:
            what = "prompt" if not dialogue.password_sent else "success message"
            raise AnsibleConnectionFailure(
                f"Timeout ({timeout + 2:g}s) waiting for privilege escalation {what}: "
                f"{escape(dialogue.output(1) + dialogue.output(2), keep_end=True)}"
            ) from None
        if not isinstance(event, Output):
            return int(event.header["rc"]), dialogue.output(1), dialogue.output(2)
        if dialogue.feed(*event):
            exchange.write(str(become.get_option("become_pass")).encode() + b"\n", is_secret=True)
