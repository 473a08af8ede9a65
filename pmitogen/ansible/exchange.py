"""Ansible's exceptions for the hub's errors, a worker's timeline, and small helpers that requests share."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

from ansible.errors import AnsibleAuthenticationFailure, AnsibleConnectionFailure, AnsibleError
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

from pmitogen.errors import AuthenticationError, BecomeError, ConnectError, ConnectionLost, Error, HubError, RemoteError
from pmitogen.hub import client as hub
from pmitogen.protocol.error_kinds import InterpreterEnded, InterpreterUnavailable, NoPythonError, OptionsError, WrapperNeeded

if TYPE_CHECKING:
    from pmitogen.protocol.requests import ClientRequest
    from pmitogen.protocol.to_client import Answer

# Before 2.19 Ansible asks an option, and who becomes, whether to pipe; since then a method of the connection.
LEGACY_PIPELINING = not hasattr(ConnectionBase, "is_pipelining_enabled")
# What Ansible's ssh plugin raises when a become prompt does not come: FAILED at first, UNREACHABLE since 2.19.
BecomeTimeout = AnsibleError if LEGACY_PIPELINING else AnsibleConnectionFailure


class RemoteFailure(AnsibleError):
    """An operation failed on the target; the text is the target's message."""


class NoInterpreter(AnsibleError):
    """The interpreter that a request needs does not exist in its account, or does not start."""


class NeedsBecomeWrapper(AnsibleError):
    """The hub cannot enter the account (for example, the host has no Python), so the become plugin must wrap the command."""


# The exception that Ansible's ssh plugin would have raised for each of the hub's errors. The first matching row applies.
_EXCEPTIONS: tuple[tuple[type[Error], type[AnsibleError]], ...] = (
    (AuthenticationError, AnsibleAuthenticationFailure),
    (OptionsError, AnsibleConnectionFailure),  # the ssh program would have ended with 255
    (InterpreterUnavailable, NoInterpreter),
    (WrapperNeeded, NeedsBecomeWrapper),
    (NoPythonError, AnsibleError),
    (InterpreterEnded, AnsibleError),
    (ConnectError, AnsibleConnectionFailure),
    (ConnectionLost, AnsibleConnectionFailure),
    (HubError, AnsibleConnectionFailure),
    (RemoteError, RemoteFailure),
    (Error, AnsibleError),
)
_BECOME_EXCEPTIONS = {"timeout": BecomeTimeout, "python": NoInterpreter, "state": NeedsBecomeWrapper}  # by BecomeError.kind


def ansible_error(error: Error) -> AnsibleError:
    """Return Ansible's exception for *error*."""
    if isinstance(error, BecomeError):
        return _BECOME_EXCEPTIONS.get(error.kind, AnsibleError)(error.message)
    return next(theirs for ours, theirs in _EXCEPTIONS if isinstance(error, ours))(error.message)


def hub_log() -> str | None:
    """Return the level of detail that a new hub logs to the run's stderr."""
    return "debug" if Display().verbosity >= 4 else None


def is_logged() -> bool:
    """Return True if the hub logs requests."""
    return "PMITOGEN_LOG" in os.environ or hub_log() is not None


class WorkerTrace:
    """Records how this worker spent its time, for the timeline (PMITOGEN_TRACE)."""

    def __init__(self) -> None:
        self.labels: dict[str, str] = {}  # host and task, as the timeline shows them
        self._last = time.time()
        self._spans: list[tuple[str, float, float]] = []

    def mark(self, name: str) -> None:
        """Record the time since the last mark as *name* (empty: it is recorded elsewhere)."""
        now = time.time()
        if name:
            self._spans.append((name, self._last, now))
        self._last = now

    def send(self, client: hub.Client) -> None:
        """Send the timeline to the hub at the end of this worker."""
        self.mark("result")
        with contextlib.suppress(HubError):
            client.send({"op": "trace", "spans": self._spans, **self.labels})
        self._spans = []


def signal_message(header: ClientRequest, answer: Answer) -> bytes:
    """Return the shell's message about a module that a signal killed ("Killed"), as over ssh."""
    number = answer.get("signal")
    if header["op"] != "run" or number is None or number in (signal.SIGINT, signal.SIGPIPE):
        return b""
    try:
        return f"{signal.strsignal(number) or number}\n".encode()
    except ValueError:
        return b""
