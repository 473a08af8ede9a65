"""The attempts of a login and their outcomes, and the error message if all failed."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple

from pmitogen.errors import AuthenticationError, ConnectError
from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.errors import with_message
from pmitogen.util.peer_text import escape

_WITHHELD = (
    "the target's password, code and passphrase are not sent to a jump host; set those of {} in "
    "ansible_pmitogen_jump_credentials (in the library: jump_credentials)"
)


class Outcome(enum.Enum):
    """The result of an attempt; the value is its text in messages."""

    ACCEPTED = "accepted"
    PARTIAL = "accepted, further authentication required"
    REFUSED = "refused"
    SKIPPED = "not tried"


class Cause(enum.Enum):
    """The kind of reason for an outcome, where it decides on the advice or on a warning."""

    PASSPHRASE = "passphrase"  # a key needs a passphrase, or the one given is wrong
    MISSING = "missing"  # an identity file that the user named does not exist
    OTHER = "other"


class Attempt(NamedTuple):
    """A credential that was offered to the server, or could not be.

    *subject*: the key, or empty. *reason*: text for the message. *cause*: its kind.
    """

    method: str
    subject: str
    outcome: Outcome
    reason: str = ""
    cause: Cause = Cause.OTHER

    def __str__(self) -> str:
        subject = f"{self.method} {self.subject}".strip()
        return f"{subject}: {self.outcome.value}{f' ({self.reason})' if self.reason else ''}"


class AuthReport(NamedTuple):
    """Record of a successful login.

    *methods*: the accepted methods, in order. *round_trips*: number of waits for the server.
    *key*: the key or certificate used; None: none was.
    """

    methods: tuple[str, ...]
    attempts: tuple[Attempt, ...]
    round_trips: int
    key: str | None = None
    banner: str = ""


def refusal(
    settings: Settings,
    attempts: list[Attempt],
    allowed: tuple[str, ...],
    remedy: str | None = None,
    withheld_from: str | None = None,
) -> AuthenticationError:
    """Return the error for a login without further credentials. *remedy* None: found here. *withheld_from*: see Credentials."""
    attempts_text = "; ".join(map(str, attempts)) or "no credentials available"
    methods_text = f"; the server accepts {escape(', '.join(allowed))}" if allowed else ""
    usable = tuple(name for name in allowed if name in settings.preferredauthentications)
    advice = [_remedy(attempts, usable) if remedy is None else remedy]
    if withheld_from is not None:
        advice.append(_WITHHELD.format(withheld_from))
    advised = "; ".join(text for text in advice if text)
    message = f"{settings.endpoint}: authentication failed: {attempts_text}{methods_text}{': ' + advised if advised else ''}"
    return AuthenticationError(message, tuple(escape(name) for name in allowed))


def missing_identities(attempts: Iterable[Attempt]) -> list[str]:
    """Return ssh's lines for the files of IdentityFile that a login needed and did not find."""
    return [f"no such identity: {each.subject}: {each.reason}" for each in attempts if each.cause is Cause.MISSING]


def with_banner(error: ConnectError, banner: bytes) -> ConnectError:
    """Return *error* with the server's banner, which often has the reason (pam_nologin, locked accounts)."""
    text = escape(banner)
    if not text:
        return error
    return with_message(error, f"{error.message}; the server says: {text}")


def _remedy(attempts: list[Attempt], allowed: tuple[str, ...]) -> str:
    offered = [attempt for attempt in attempts if attempt.outcome is Outcome.REFUSED]
    partial = any(attempt.outcome is Outcome.PARTIAL for attempt in attempts)
    if any(attempt.cause is Cause.PASSPHRASE for attempt in attempts):
        return "set the key's passphrase, or add the key to an agent"
    if any(attempt.method == "password" for attempt in offered):
        return "check the user name and the password"
    if not offered and not partial:
        return "set an identity file, an agent with a key, or a password"
    if partial:
        return "the server requires a further factor; set it"
    if "password" in allowed or "keyboard-interactive" in allowed:
        return "add the public key to the account's authorized_keys, or set a password"
    return "add the public key to the account's authorized_keys"
