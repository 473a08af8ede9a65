"""The attempts of a login and their outcomes, and the error message if all failed."""

from __future__ import annotations

from typing import NamedTuple

from pmitogen.errors import AuthenticationError, ConnectError
from pmitogen.flags.ssh.settings import Settings
from pmitogen.util.peer_text import escape

_WITHHELD = (
    "a jump host is given no password, code or passphrase of the target: give {} its own in ansible_pmitogen_jump_credentials "
    "(in the library: jump_credentials)"
)
ACCEPTED, PARTIAL, REFUSED, SKIPPED = "accepted", "accepted, more is wanted", "refused", "not tried"


class Attempt(NamedTuple):
    """One thing that was offered to the server, or could not be.

    *outcome* is one of this module's words; *why* adds the reason.
    """

    method: str
    subject: str
    outcome: str
    reason: str = ""

    def __str__(self) -> str:
        subject = f"{self.method} {self.subject}".strip()
        return f"{subject}: {self.outcome}{f' ({self.reason})' if self.reason else ''}"


class AuthReport(NamedTuple):
    """How a login came about. *round_trips* counts the times it waited for the server; *key* is the key or certificate used."""

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
    """The error for a login with nothing left to try. *remedy* None: found here. *withheld_from*: see Credentials."""
    attempts_text = "; ".join(map(str, attempts)) or "there was nothing to try"
    methods_text = f"; the server accepts {escape(', '.join(allowed))}" if allowed else ""
    usable = tuple(name for name in allowed if name in settings.preferredauthentications)
    advice = [_remedy(attempts, usable) if remedy is None else remedy]
    if withheld_from is not None:
        advice.append(_WITHHELD.format(withheld_from))
    advised = "; ".join(text for text in advice if text)
    message = f"{settings.endpoint}: login refused: {attempts_text}{methods_text}{': ' + advised if advised else ''}"
    return AuthenticationError(message, tuple(escape(name) for name in allowed))


def with_banner(error: ConnectError, banner: bytes) -> ConnectError:
    """*error* with what the server said to people before the login; such text often says why (pam_nologin, locked accounts)."""
    text = escape(banner)
    if not text:
        return error
    message = f"{error.message}; the server says: {text}"
    if isinstance(error, AuthenticationError):
        return AuthenticationError(message, error.allowed_methods)
    return ConnectError(message, error.stage)


def _remedy(attempts: list[Attempt], allowed: tuple[str, ...]) -> str:
    offered = [attempt for attempt in attempts if attempt.outcome == REFUSED]
    if any("passphrase" in attempt.reason for attempt in attempts):
        return "give the key's right passphrase, or add it to an agent"
    if any(attempt.method == "password" for attempt in offered):
        return "check the user name and the password"
    if not offered and not any(attempt.outcome == PARTIAL for attempt in attempts):
        return "give an identity file, an agent with a key, or a password"
    if any(attempt.outcome == PARTIAL for attempt in attempts):
        return "the server wants a further factor: give it"
    if "password" in allowed or "keyboard-interactive" in allowed:
        return "add the public key to the account's authorized_keys, or give a password"
    return "add the public key to the account's authorized_keys"
