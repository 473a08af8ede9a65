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


class Talk:
    """What a wrapped command has said so far, and what that amounts to."""

    def __init__(self, become: Any) -> None:
        self._become = become
        self.escalated = not become.success
        self.asked = not become.expect_prompt()
        self._kept: dict[int, list[bytes]] = {1: [], 2: []}
        self._rest: dict[int, bytes] = {1: b"", 2: b""}

    def take(self, stream: int, data: bytes) -> bool:
        """Take output. Returns whether the password is wanted now. Raises AnsibleError."""
        if self.escalated:
            self._kept[stream].append(data)
            return False
        wanted = False
        lines = (self._rest[stream] + data).splitlines(keepends=True)
        self._rest[stream] = b""
        for position, line in enumerate(lines):
            if self.escalated:
                self._kept[stream].append(line)
            elif self._become.expect_prompt() and self._become.check_password_prompt(line):
                if self.asked:
                    raise AnsibleError(f"Incorrect {self._become.name} password")
                self.asked = wanted = True
            elif self._become.check_success(line):
                self.escalated = True
            elif self._become.check_incorrect_password(line):
                raise AnsibleError(f"Incorrect {self._become.name} password")
            elif self._become.check_missing_password(line):
                raise AnsibleError(f"Missing {self._become.name} password")
            elif position == len(lines) - 1 and not line.endswith((b"\n", b"\r")):
                self._rest[stream] = line
            else:
                self._kept[stream].append(line)
        return wanted

    def output(self, stream: int) -> bytes:
        """All that was said on a stream, but for the prompt and the marker."""
        return b"".join(self._kept[stream]) + self._rest[stream]


def run(become: Any, exchange: Exchange, in_data: bytes | None, timeout: float) -> Result:
    """Hold the conversation with a wrapped command. *timeout* is in seconds, until it has escalated. Raises AnsibleError."""
    try:
        return _run(become, exchange, in_data, timeout)
    except AnsibleError:
        exchange.cancel()
        raise
    except Error as exc:
        raise ansible_error(exc) from None


def _run(become: Any, exchange: Exchange, in_data: bytes | None, timeout: float) -> Result:
    talk = Talk(become)
    until = time.monotonic() + timeout + 2
    sent_input = False
    while True:
        if talk.escalated and not sent_input:
            sent_input = True
            if in_data:
                exchange.write(in_data)
            exchange.end_input()
        try:
            event = exchange.next(None if talk.escalated else max(0.01, until - time.monotonic()))
        except TimeoutError:
            what = "prompt" if not talk.asked else "success message"
            raise AnsibleConnectionFailure(
                f"Timeout ({timeout + 2:g}s) waiting for privilege escalation {what}: "
                f"{escape(talk.output(1) + talk.output(2), keep_end=True)}"
            ) from None
        if not isinstance(event, Output):
            return int(event.header["rc"]), talk.output(1), talk.output(2)
        if talk.take(*event):
            exchange.write(str(become.get_option("become_pass")).encode() + b"\n", is_secret=True)
