"""From what a program said to what it means: prompts while it asks, a kind of failure once it has given up.

Both are tables of rows, tried in order. English is matched directly; other languages by asking the target's own message
catalogues for the same sentences, after the failure, in the language that the program saw. All text is decoded first, so that
case and full-width colons are compared as characters.

NOTE: runs on the target.
"""

from __future__ import absolute_import

import os
import re

from pmitogen.become import doas, su, sudo

METHODS = {"sudo": sudo, "su": su, "doas": doas}
LOCALE_FOLDERS = ("/usr/share/locale", "/usr/local/share/locale", "/usr/share/locale-langpack")

PASSWORD, SECOND_FACTOR, NEW_PASSWORD = "password", "second factor", "new password"
_COLON = "[:\uff1a]"
_FLAGS = re.IGNORECASE | re.UNICODE

# An expired password is asked for anew; a one-time password is a password by name only: these come before the general row.
_NEW_PASSWORD = re.compile(
    "(?:^|\\W)(?:new|old|current|retype|re-enter|repeat)\\b.{0,40}password.{0,40}" + _COLON + "\\s*$", _FLAGS
)
_SECOND_FACTOR = re.compile(
    "(?:verification code|one[- ]time|passcode|second factor|authenticator|yubikey|token|\\b(?:otp|2fa|pin|code)\\b)"
    "[^\\n]{0,80}[:\uff1a?>]\\s*$",
    _FLAGS,
)
_ANY_PASSWORD = "password|passphrase|passwd"
_ESCAPES = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)|[ -/]*[0-~])")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SOME_QUESTION = re.compile("\\S.*[:\uff1a?>]\\s*$", _FLAGS)

_NOT_FOUND = (
    "not found|no such file or directory|unknown command|could not find command|permission denied"
    "|cannot execute|no such file|can't open"
)
_NO_SHELL = re.compile(
    "account is (?:currently )?not available|not a shell|interactive shell is disabled|login (?:is )?disabled"
    "|unrecognized command|cannot use a shell|refused to execute",
    _FLAGS,
)
_PYTHON_WORDS = re.compile("Fatal Python error|Traceback \\(most recent call last\\)")
_OTHER_SHELL_WORDS = re.compile(
    "syntax error|unmatched|unexpected token|illegal variable name|badly placed|undefined variable", _FLAGS
)


def text_of(data):
    """Bytes of a terminal to the text that it would show: without colours, and without what was taken back, such as the
    asterisks of a password. What is no UTF-8 shows as replacement characters.
    """
    text = data.decode("utf-8", "replace")
    if not _CONTROL.search(text):
        return text
    shown = []
    for char in _ESCAPES.sub("", text):
        if char == "\b":
            del shown[-1:]
        elif not _CONTROL.match(char):
            shown.append(char)
    return "".join(shown)


class Prompts(object):
    """The rows of one escalation: *marker* is the prompt that sudo was given, *words* say "password" in many languages."""

    def __init__(self, marker, words):
        # sudo-rs wraps ours: "[sudo: MARKER] Password: ".
        self._marker = re.compile(re.escape(marker) + "(?:\\][^\\n]{0,80})?\\s*$", re.UNICODE)
        known = "|".join([re.escape(word) for word in words] + [_ANY_PASSWORD])
        self._password = re.compile("(?:" + known + ")[^\\n]{0,80}" + _COLON + "\\s*$", _FLAGS)

    def is_ours(self, partial):
        """Whether the unfinished line *partial* is the prompt that sudo was given."""
        return bool(self._marker.search(partial))

    def kind(self, partial):
        """What the unfinished line *partial* asks for: PASSWORD, SECOND_FACTOR or NEW_PASSWORD; None if no row knows it."""
        if self.is_ours(partial):
            return PASSWORD
        if _NEW_PASSWORD.search(partial):
            return NEW_PASSWORD
        if _SECOND_FACTOR.search(partial):
            return SECOND_FACTOR
        return PASSWORD if self._password.search(partial) else None


def looks_like_question(partial):
    """True if the unfinished line *partial* ends as questions do. Means something only while the program keeps echo off."""
    return bool(_SOME_QUESTION.search(partial))


def refusal(method, text):
    """The kind of failure that *text*, all that *method* has said, amounts to; None if no row knows it."""
    for kind, pattern in METHODS[method].ROWS:
        if re.search(pattern, text):
            return kind
    return _localised_refusal(method, text)


def tried_again(text):
    """True if *text* says that the password was wrong and will be asked for again: no need to wait for the question."""
    return bool(re.search("[Ss]orry, try again|[Aa]uthentication failed, try again", text))


def _localised_refusal(method, text):
    if not any(ord(char) > 127 for char in text) and not _language():
        return None
    for kind, domain, msgid in METHODS[method].CATALOGUE:
        pattern = _localised(domain, msgid)
        if pattern is not None and re.search(pattern, text, re.UNICODE):
            return kind
    return None


def _language():
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(name, "")
        if value and value.split(".")[0] not in ("C", "POSIX"):
            return value
    return None


def _localised(domain, msgid):
    """A pattern for *msgid* in this process's language, or None where there is no catalogue or no translation."""
    import gettext  # costs a millisecond, and only a failure in another language pays it

    for folder in LOCALE_FOLDERS:
        catalogue = gettext.translation(domain, folder, fallback=True)
        lookup = getattr(catalogue, "ugettext", catalogue.gettext)
        translated = lookup(msgid)
        if translated != msgid:
            pieces = re.split(r"%(?:\d+\$)?[sdu]", translated.strip())
            return ".{0,256}?".join(re.escape(piece) for piece in pieces)
    return None


def command_failure(text, command):
    """True if *text* says that *command* (argv, a Python) itself was not found, cannot be executed or broke down at its start."""
    if _PYTHON_WORDS.search(text):
        return True
    name = os.path.basename(command[0])
    name = re.escape(name if str is not bytes else text_of(name))
    missing = "(?:" + _NOT_FOUND + ")"
    return bool(re.search(name + ".{0,80}" + missing + "|" + missing + ".{0,80}" + name, text, _FLAGS))


def shell_failure(text, status, command, shell):
    """``shell``, ``python`` or None: how the account's login shell or the command itself failed.

    *status* is the exit status or None, *command* the argv that should have run, *shell* the shell that was to run it, or None.
    """
    if _NO_SHELL.search(text):
        return "shell"
    if command_failure(text, command):
        return "python"
    if shell is not None and os.path.basename(shell) in ("false", "true", "nologin", "git-shell", "sync"):
        return "shell"
    if _OTHER_SHELL_WORDS.search(text):
        return "shell"
    return "python" if status in (126, 127) else None
