"""Recognition of prompts: which kind of secret a prompt asks for.

sudo is given a random prompt, and only that prompt is answered with its password. su and doas have prompts of their own, and
only the known texts are answered. So any other question ("Delete everything?", "root@other password:") is not answered, even
if the terminal does not echo.

NOTE: runs on the target.
"""

from __future__ import absolute_import

import os
import re

from pmitogen.become import diagnosis

MYPY = False
if MYPY:
    from typing import Iterator, List, Optional  # noqa: F401

PASSWORD, SECOND_FACTOR, NEW_PASSWORD = "password", "otp", "new password"
_COLON = "\\s{0,2}[:\uff1a]\\s*$"
_FLAGS = re.IGNORECASE | re.UNICODE

# Prompts for a new password and for a one-time password contain "password" too, so these two patterns are separate.
_NEW_PASSWORD = re.compile("(?:^|\\W)(?:new|old|current|retype|re-enter|repeat)\\b.{0,40}password.{0,40}[:\uff1a]\\s*$", _FLAGS)
_SECOND_FACTOR = re.compile(
    "(?:verification code|one[- ]time|passcode|second factor|authenticator|yubikey|token|\\b(?:otp|2fa|pin|code)\\b)"
    "[^\\n]{0,80}[:\uff1a?>]\\s*$",
    _FLAGS,
)


def random_prompt():
    # type: () -> str
    """Return a new prompt for sudo."""
    return "PMITOGEN-%s password:" % "".join("%02x" % byte for byte in bytearray(os.urandom(8)))


class Prompts(object):
    """The prompts of one step. All arguments except *programs* are text.

    *programs*: those of "sudo", "su" and "doas" that may ask.
    *own*: the prompt that sudo was given.
    *translations*: "password" in many languages.
    *user*: the account that is entered.
    """

    def __init__(self, programs, own, translations, user):
        # type: (List[str], str, List[str], str) -> None
        patterns = []  # type: List[str]
        if "sudo" in programs:  # sudo-rs wraps it: "[sudo: MARKER] Password: "
            patterns.append("(?:\\[sudo: )?" + re.escape(own) + "(?:\\][^\\n]{0,80})?\\s*$")
        if "doas" in programs:
            patterns.append("doas \\([^()\\n]{1,330}\\) password:\\s*$")
        self._asks_itself = "su" in programs or "doas" in programs
        if self._asks_itself:
            # su-rs: "[su: authenticate] Password: ". EL6, AIX: "bob's Password:". pam_krb5: "Password for bob@REALM: ".
            known = "|".join([re.escape(each) for each in translations] + ["password"])
            before = "(?:\\[su: [^\\]\\n]{1,40}\\] )?(?:" + re.escape(user) + "(?:@[^\\s:]{1,255})?'s |(?:LDAP|UNIX|Kerberos) )?"
            after = "(?: for " + re.escape(user) + "(?:@[^\\s:]{1,255})?)?" + _COLON
            patterns.append(before + "(?:" + known + ")" + after)
        self._password = [re.compile(pattern, _FLAGS) for pattern in patterns]

    def kind(self, partial):
        # type: (str) -> Optional[str]
        """Return PASSWORD, SECOND_FACTOR or NEW_PASSWORD for a prompt on the unfinished line *partial*, None for other text."""
        if any(pattern.match(partial) for pattern in self._password):
            return PASSWORD
        if _NEW_PASSWORD.search(partial):
            return NEW_PASSWORD
        if _SECOND_FACTOR.search(partial):
            return SECOND_FACTOR
        if self._asks_itself and partial in _pam_prompts():
            return PASSWORD
        return None


def _pam_prompts():
    # type: () -> Iterator[str]
    """Yield Linux-PAM's password prompts in this process's language, without surrounding spaces."""
    if not diagnosis.language():
        return
    for msgid in ("Password: ", "Password:"):
        translated = diagnosis.translated("Linux-PAM", msgid)
        if translated is not None:
            yield translated.strip()
