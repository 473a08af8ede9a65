"""Ansible's exceptions for the hub's errors."""

from __future__ import annotations

from ansible.errors import AnsibleAuthenticationFailure, AnsibleConnectionFailure, AnsibleError
from ansible.plugins.connection import ConnectionBase

from pmitogen.errors import AuthenticationError, BecomeError, ConnectError, ConnectionLost, Error, HubError, RemoteError
from pmitogen.protocol.error_kinds import InterpreterEnded, InterpreterUnavailable, NoPythonError, OptionsError, WrapperNeeded

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
