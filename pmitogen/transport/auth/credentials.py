"""What a login may prove itself with, in types that hide themselves.

A password travels from the user's variables to the wire and nowhere else: not into a log, an exception, a repr or a core
traceback's locals. So it is a :class:`Secret` from the first line on, and only the code that puts it on the wire calls
:meth:`Secret.reveal`. This file imports nothing heavy: the hub builds these before Paramiko is loaded.
"""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pmitogen.transport.auth.jump_credentials import JumpEntry


class Secret:
    """A text that shows itself only to :meth:`reveal`; equal to another with the same text, hashable, never printed."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text. Call it at the last moment and keep the result in no attribute."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(...)"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode("utf-8", "surrogatepass"), other._text.encode("utf-8", "surrogatepass"))

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not pickled")


Prompt = Callable[[str, bool], "str | None"]
"""Asks a person: (the prompt, whether the answer may be echoed) -> the answer, or None to give up."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Credentials:
    """Everything that may log us in, besides what the settings name (identity files, the agent).

    *private_keys*: whole key files as text, in any format of ``ssh-keygen``.
    *passphrase*: opens these and the identity files.
    *passphrase_files*: the identity files that the passphrase may open; None: all.
    *otp*: the one-time second factor. It answers a prompt that asks for a code, once.
    *answers*: (prompt pattern, answer). The pattern is a regular expression, searched without case in the server's prompt; the
    first that matches wins over password and otp.
    *ask*: called on the thread that called :func:`~pmitogen.transport.auth.authenticate`, never on Paramiko's.
    *jump_entries*: what jump hosts on the way are given (see jump_credentials.py).
    *withheld_from*: the name of a jump host without an entry, from which the target's secrets were withheld; for messages.
    """

    password: Secret | None = None
    private_keys: tuple[Secret, ...] = ()
    passphrase: Secret | None = None
    passphrase_files: frozenset[str] | None = None
    otp: Secret | None = None
    answers: tuple[tuple[str, Secret], ...] = ()
    prompt: Prompt | None = None
    jump_entries: tuple[JumpEntry, ...] = ()
    withheld_from: str | None = None

    def identity(self) -> Hashable:
        """Equal for credentials with which a server would see the same login."""
        files = self.passphrase_files if self.passphrase else None
        return self.password, self.private_keys, self.passphrase, files, self.otp, self.answers
