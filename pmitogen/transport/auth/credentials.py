"""Secrets to authenticate with, in types that hide their values.

A password goes from the user's variables to the server and nowhere else: not into a log, an exception, a repr or a traceback.
It is a :class:`Secret` from the beginning, and only the code that encodes it calls :meth:`Secret.reveal`. This module does
not import Paramiko, because the hub uses it before it loads Paramiko.
"""

from __future__ import annotations

import dataclasses
import hmac
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pmitogen.transport.auth.jump_credentials import JumpEntry


class Secret:
    """A text that only :meth:`reveal` returns. Comparable and hashable; never printed or pickled."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text. Call it at the last moment and keep the result in no attribute."""
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
        raise TypeError("a Secret cannot be pickled")


Prompt = Callable[[str, bool], "str | None"]
"""Asks the user: (prompt, whether the answer may be echoed) -> the answer, or None to give up."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Credentials:
    """The secrets for authentication, in addition to those that the settings name (identity files, the agent).

    *password*: for ``password`` and for prompts that do not echo; None: there is none.
    *private_keys*: private keys as text, in any format that ``ssh-keygen`` writes.
    *passphrase*: opens *private_keys* and the identity files; None: only unencrypted keys are used.
    *passphrase_files*: the identity files that *passphrase* may open; None: all of them.
    *pin*: of the tokens of PKCS11Provider; None: the user is asked, if that is possible.
    *otp*: a one-time code; answers one prompt that asks for a code; None: there is none.
    *prompt*: asks the user; called on the thread that authenticates, never on Paramiko's; None: the user cannot be asked.
    *jump_entries*: the credentials of jump hosts (see jump_credentials.py).
    *withheld_from*: the jump host without an entry that did not get the target's secrets, for messages; None: nothing was
    withheld.
    """

    password: Secret | None = None
    private_keys: tuple[Secret, ...] = ()
    passphrase: Secret | None = None
    passphrase_files: frozenset[str] | None = None
    pin: Secret | None = None
    otp: Secret | None = None
    prompt: Prompt | None = None
    jump_entries: tuple[JumpEntry, ...] = ()
    withheld_from: str | None = None

    def identity(self) -> Hashable:
        """Equal for credentials with which a server would see the same login."""
        files = self.passphrase_files if self.passphrase else None
        return self.password, self.private_keys, self.passphrase, files, self.pin, self.otp
