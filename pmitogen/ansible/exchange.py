"""What a worker and the hub say to each other, whoever asks: conversations, long bodies, and how each failure is raised."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import Any, NoReturn

from ansible.errors import AnsibleAuthenticationFailure, AnsibleConnectionFailure, AnsibleError
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

from pmitogen.errors import HubError
from pmitogen.hub import client as hub
from pmitogen.protocol.framing import CHUNK, CREDIT_WINDOW
from pmitogen.util.peer_text import one_line

# Before 2.19 Ansible asks an option, and who becomes, whether to pipe; since then a method of the connection.
OPTION_PIPES = not hasattr(ConnectionBase, "is_pipelining_enabled")
# What Ansible's ssh plugin raises when a become prompt does not come: FAILED at first, UNREACHABLE since 2.19.
Overdue = AnsibleError if OPTION_PIPES else AnsibleConnectionFailure


class RemoteFailure(AnsibleError):
    """Something on the target failed, in the target's own words."""


class NoInterpreter(AnsibleError):
    """The interpreter that a request needs is missing in its account, or does not start."""


class NeedsWrapping(AnsibleError):
    """The hub cannot enter the account (the host has no Python, say), so the become plugin must wrap the command after all."""


def fail(frame: dict[str, Any]) -> NoReturn:
    """Raise what Ansible's ssh plugin would have raised for this kind of failure."""
    message, kind = one_line(str(frame["msg"])), frame.get("kind")
    if kind == "auth":
        raise AnsibleAuthenticationFailure(message)
    if kind == "unreachable" or frame.get("stage") == "options":  # there the ssh program would have ended with 255
        raise AnsibleConnectionFailure(message)
    if frame.get("why") == "timeout":
        raise Overdue(message)
    if kind == "python" or frame.get("why") == "python":
        raise NoInterpreter(message)
    if kind == "wrap" or frame.get("why") == "state":
        raise NeedsWrapping(message)
    if kind is None:
        raise RemoteFailure(message)
    raise AnsibleError(message)


def hub_log() -> str | None:
    """How much a new hub is to log to the run's stderr of what it does."""
    return "debug" if Display().verbosity >= 4 else None


class Conversation:
    """A command whose output is seen as it comes, and that can be answered."""

    def __init__(self, client: hub.Client, rid: int) -> None:
        self._client, self._rid = client, rid

    def read(self, timeout: float | None) -> tuple[int, bytes] | int | None:
        """(stream number, data), or the exit code at the end; None when *timeout* seconds passed. Raises AnsibleError."""
        while True:
            try:
                frame, data = self._client.receive(timeout)
            except TimeoutError:
                return None
            if frame.get("id") != self._rid:
                continue
            if frame["op"] == "out":
                self._client.send({"op": "credit", "id": self._rid, "n": len(data)})
                return frame["s"], data
            if frame["op"] == "exit":
                return int(frame["rc"])
            if frame["op"] == "error":
                fail(frame)

    def write_secret(self, data: bytes) -> None:
        """Send a password to its stdin, or its terminal. The hub fails the command instead where no secret may go to the host."""
        self._client.send({"op": "data", "id": self._rid, "secret": True}, data)

    def write(self, data: bytes) -> None:
        """Send to its stdin, or its terminal."""
        for start in range(0, len(data), CHUNK):
            self._client.send({"op": "data", "id": self._rid}, data[start : start + CHUNK])

    def end_input(self) -> None:
        self._client.send({"op": "eof", "id": self._rid})

    def kill(self) -> None:
        """End it; what it still says is nobody's."""
        self._client.send({"op": "kill", "id": self._rid})


class Spans:
    """What this worker spent its time on, for the timeline (PMITOGEN_TRACE)."""

    def __init__(self) -> None:
        self._last = time.time()
        self._spans: list[tuple[str, float, float]] = []

    def mark(self, name: str) -> None:
        """What has passed since the last mark was *name* (empty: somebody else counts it)."""
        now = time.time()
        if name:
            self._spans.append((name, self._last, now))
        self._last = now

    def tell(self, client: hub.Client) -> None:
        """Send it to the hub; this worker is done."""
        self.mark("result")
        with contextlib.suppress(HubError):
            client.send({"op": "trace", "spans": self._spans})


class Pump:
    """What is left of a request's body, sent as credit comes."""

    def __init__(self, client: hub.Client, rid: int, rest: bytes) -> None:
        self._client, self._rid, self._rest = client, rid, memoryview(rest)
        self._active = bool(rest)
        self._credit = CREDIT_WINDOW
        self._push()

    def credit(self, count: int) -> None:
        self._credit += count
        self._push()

    def _push(self) -> None:
        while self._active and self._credit > 0:
            piece = bytes(self._rest[:CHUNK])
            self._rest = self._rest[CHUNK:]
            self._credit -= len(piece)
            self._active = bool(piece)
            self._client.send({"op": "data" if piece else "eof", "id": self._rid}, piece)


def last_words(header: dict[str, Any], answer: dict[str, Any]) -> bytes:
    """What the shell that starts modules over ssh says of one that a signal ended ("Killed")."""
    number = answer.get("signal")
    if header["op"] != "run" or number in (None, signal.SIGINT, signal.SIGPIPE):
        return b""
    try:
        return f"{signal.strsignal(number) or number}\n".encode()
    except ValueError:
        return b""
