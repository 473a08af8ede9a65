"""Errors inside ``transport``, and errors made from others."""

from __future__ import annotations

import copy
import enum

from pmitogen.errors import ConnectError
from pmitogen.util.peer_text import one_line


class EndCause(enum.Enum):
    """Cause of a connection's end; those for which ssh has a message of its own."""

    CORRUPTED_MAC = "corrupted MAC"
    INVALID_LENGTH = "invalid packet length"
    SILENCE = "the server did not answer"
    OTHER = "other"


class VersionTimeout(ConnectError):
    """The server sent no SSH version in time. For users it is a ConnectError (stage ``kex``)."""


class SessionRefused(ConnectError):
    """The server allows no further session on a connection that works. For users it is a ConnectError."""


class HostKeyMismatch(ConnectError):
    """The server's host key is not the recorded one, or revoked. For users it is a ConnectError (stage ``hostkey``).

    :param is_revoked: True if it is revoked, False if it has changed.
    :param key_type: the type of the recorded key as ssh shows it.
    :param location: the deciding ``file:line``.
    """

    def __init__(self, message: str, is_revoked: bool, key_type: str, location: str) -> None:
        super().__init__(message, "hostkey")
        self.is_revoked = is_revoked
        self.key_type = key_type
        self.location = location


class NoCommonAlgorithm(ConnectError):
    """Client and server have no algorithm of one family in common. For users it is a ConnectError (stage ``kex``).

    :param family: the family as ssh names it, such as ``key exchange method``.
    :param offered: the server's algorithms, escaped.
    """

    def __init__(self, message: str, family: str, offered: str) -> None:
        super().__init__(message, "kex")
        self.family = family
        self.offered = offered


class JumpHostFailed(Exception):
    """A jump host cannot be used. Internal: the destination's error is :meth:`for_target`.

    All destinations behind the jump host get the same exception, so it does not name one.

    :param error: the failure, without the destination.
    :param endpoint: the jump host, as ``user@host port N``.
    :param position: its position in the chain, counted from this machine; the first is 1.
    :param last: the position of the jump host nearest to the destination.
    """

    def __init__(self, error: ConnectError, endpoint: str, position: int, last: int) -> None:
        super().__init__(error.message)
        self.error = error
        self.endpoint = endpoint
        self.position = position
        self.last = last

    def for_next_jump_host(self) -> JumpHostFailed:
        """Return the failure as it is for the next jump host of the chain."""
        return JumpHostFailed(self.error, self.endpoint, self.position, self.last + 1)

    def for_target(self, target: str) -> ConnectError:
        """Return the error of *target*, with the class and the attributes of the jump host's own."""
        error = with_message(self.error, f"{target}: jump host {self.position} of {self.last}: {self.error.message}")
        if error.stage != "local":  # then this machine failed, not the jump host
            error.jump_host = self.endpoint
        return error


def with_message(error: ConnectError, message: str) -> ConnectError:
    """Return a copy of *error* with another message."""
    changed = copy.copy(error)
    changed.args = (one_line(message),)
    return changed
