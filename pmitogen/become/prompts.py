"""Which questions get which secret.

sudo is given a prompt of ours, with a random word in it: only that is answered with its password. su and doas ask in words
of their own: the known texts, and nothing else, stand for their password. So a question in other words ("Delete everything?",
"root@other password:") gets none, whatever it hides of its answer.

NOTE: runs on the target.
"""

from __future__ import absolute_import

import os
import re

from pmitogen.become import diagnosis

PASSWORD, SECOND_FACTOR, NEW_PASSWORD = "password", "otp", "new password"
_COLON = "\\s{0,2}[:\uff1a]\\s*$"
_FLAGS = re.IGNORECASE | re.UNICODE

# An expired password is asked for anew; a one-time password is a password by name only: these come before the general row.
_NEW_PASSWORD = re.compile("(?:^|\\W)(?:new|old|current|retype|re-enter|repeat)\\b.{0,40}password.{0,40}[:\uff1a]\\s*$", _FLAGS)
_SECOND_FACTOR = re.compile(
    "(?:verification code|one[- ]time|passcode|second factor|authenticator|yubikey|token|\\b(?:otp|2fa|pin|code)\\b)"
    "[^\\n]{0,80}[:\uff1a?>]\\s*$",
    _FLAGS,
)


def random_prompt():
    """A prompt for sudo."""
    return "PMITOGEN-%s password:" % "".join("%02x" % byte for byte in bytearray(os.urandom(8)))


class Prompts(object):
    """The questions of one step. *programs*: "sudo", "su" and "doas", those that may ask. *own*: the prompt that sudo was given.

    *words* say "password" in many languages. *user* is the account that is entered. All but *programs* are text.
    """

    def __init__(self, programs, own, words, user):
        patterns = []
        if "sudo" in programs:  # sudo-rs wraps it: "[sudo: MARKER] Password: "
            patterns.append("(?:\\[sudo: )?" + re.escape(own) + "(?:\\][^\\n]{0,80})?\\s*$")
        if "doas" in programs:
            patterns.append("doas \\([^()\\n]{1,330}\\) password:\\s*$")
        self._asks_itself = "su" in programs or "doas" in programs
        if self._asks_itself:
            # su-rs: "[su: authenticate] Password: ". EL6, AIX: "bob's Password:". pam_krb5: "Password for bob@REALM: ".
            known = "|".join([re.escape(word) for word in words] + ["password"])
            before = "(?:\\[su: [^\\]\\n]{1,40}\\] )?(?:" + re.escape(user) + "(?:@[^\\s:]{1,255})?'s |(?:LDAP|UNIX|Kerberos) )?"
            after = "(?: for " + re.escape(user) + "(?:@[^\\s:]{1,255})?)?" + _COLON
            patterns.append(before + "(?:" + known + ")" + after)
        self._password = [re.compile(pattern, _FLAGS) for pattern in patterns]

    def kind(self, partial):
        """What the unfinished line *partial* asks for: PASSWORD, SECOND_FACTOR or NEW_PASSWORD; None for any other text."""
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
    """The question of Linux-PAM in this process's language, as the unfinished lines that it shows as."""
    if not diagnosis.language():
        return
    for msgid in ("Password: ", "Password:"):
        translated = diagnosis.translated("Linux-PAM", msgid)
        if translated is not None:
            yield (translated if not isinstance(translated, bytes) else translated.decode("utf-8", "replace")).strip()
