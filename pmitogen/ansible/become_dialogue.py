"""Other become plugins: run the command that the plugin wrapped, answer its prompt and wait for its success marker.

As in Ansible's ssh plugin: while a password is expected, each line of output is compared with the prompt, the success marker
and the plugin's failure texts. After success, all output belongs to the command. The password is sent once.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ansible.errors import AnsibleConnectionFailure, AnsibleError

from pmitogen.ansible.errors import ansible_error
from pmitogen.errors import Error
from pmitogen.protocol.exchange import Exchange, Output
from pmitogen.util.peer_text import escape

if TYPE_CHECKING:
    from ansible.plugins.become import BecomeBase

Result = tuple[int, bytes, bytes]


class BecomeDialogue:
    """The output of a wrapped command so far, and the state of its escalation."""

    def __init__(self, become: BecomeBase) -> None:
        self._become = become
        self.succeeded = not become.success
        self.password_sent = not become.expect_prompt()
        self._output: dict[int, list[bytes]] = {1: [], 2: []}
        self._unfinished_line: dict[int, bytes] = {1: b"", 2: b""}

    def feed(self, stream: int, data: bytes) -> bool:
        """Process output of *stream* (1: stdout, 2: stderr). Return if the password must be sent now. Raises AnsibleError."""
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
        """Return all output of a stream except the prompt and the marker."""
        return b"".join(self._output[stream]) + self._unfinished_line[stream]


def run_wrapped(become: BecomeBase, exchange: Exchange, in_data: bytes | None, timeout: float) -> Result:
    """Run a wrapped command to its end. *timeout*: seconds until it has escalated. Raises AnsibleError."""
    try:
        return _run_dialogue(become, exchange, in_data, timeout)
    except AnsibleError:
        exchange.cancel()
        raise
    except Error as exc:
        raise ansible_error(exc) from None


def _run_dialogue(become: BecomeBase, exchange: Exchange, in_data: bytes | None, timeout: float) -> Result:
    dialogue = BecomeDialogue(become)
    deadline = time.monotonic() + timeout
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
            awaited = "prompt" if not dialogue.password_sent else "success message"
            raise AnsibleConnectionFailure(
                f"Timeout ({timeout:g}s) waiting for privilege escalation {awaited}: "
                f"{escape(dialogue.output(1) + dialogue.output(2), keep_end=True)}"
            ) from None
        if not isinstance(event, Output):
            return int(event.header["rc"]), dialogue.output(1), dialogue.output(2)
        if dialogue.feed(*event):
            exchange.write(str(become.get_option("become_pass")).encode() + b"\n", is_secret=True)
