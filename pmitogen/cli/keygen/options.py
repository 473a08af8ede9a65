"""Parse the command line of ssh-keygen(1), as far as it is supported."""

from __future__ import annotations

import getopt
from collections.abc import Sequence

from pmitogen.errors import UsageError

LETTERS = "ABHKLQUXcdeghiklpquvyxoC:D:E:F:I:M:N:O:P:R:S:V:Y:Z:a:b:f:m:n:r:s:t:w:z:"
_SUPPORTED = set("HLceilpqvyCEFNPRZabfmto")
UNSUPPORTED = {
    **dict.fromkeys("shnVzIUD", "certificates are signed by OpenSSH's ssh-keygen"),
    **dict.fromkeys("kQu", "revocation lists are made by OpenSSH's ssh-keygen"),
    "A": "host keys are made by the server's own ssh-keygen",
}
MAX_DIGITS = 9  # of a number
CIPHER = "aes256-ctr"
USAGE = """\
usage: ssh-keygen [-q] [-a rounds] [-b bits] [-C comment] [-f output_keyfile] [-t ecdsa | ed25519 | rsa]
                  [-m format] [-N new_passphrase] [-Z cipher]
       ssh-keygen -p [-a rounds] [-f keyfile] [-m format] [-N new_passphrase] [-P old_passphrase]
       ssh-keygen -i [-f input_keyfile] [-m key_format]
       ssh-keygen -e [-f input_keyfile] [-m key_format]
       ssh-keygen -y [-f input_keyfile] [-P passphrase]
       ssh-keygen -c [-C comment] [-f keyfile] [-P passphrase]
       ssh-keygen -l [-v] [-E fingerprint_hash] [-f input_keyfile]
       ssh-keygen -L [-f input_keyfile]
       ssh-keygen -F hostname [-lv] [-f known_hosts_file]
       ssh-keygen -H [-f known_hosts_file]
       ssh-keygen -R hostname [-f known_hosts_file]
"""


SIGNATURE_OPERATIONS = ("check-novalidate", "find-principals", "match-principals", "sign", "verify")


class BadUsage(UsageError):
    """The command line itself is wrong: the usage is printed after the message."""


class Options:
    """The flags of one command line by letter: the last value, "" for a flag without a value, None for an absent flag."""

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values

    def __getitem__(self, letter: str) -> str | None:
        return self._values.get(letter)

    def __contains__(self, letter: str) -> bool:
        return letter in self._values

    @property
    def quiet(self) -> bool:
        """True with ``-q``."""
        return "q" in self

    def integer(self, letter: str, default: int, low: int, high: int, failure: str) -> int:
        """Return a flag's number, *low* to *high*. *failure*: begins the message; its "{}" is the text. Raises UsageError."""
        text = self[letter]
        if text is None:
            return default
        if not text.isascii() or not text.isdigit():
            raise UsageError(f"{failure.format(text)} (invalid)")
        if len(text) > MAX_DIGITS or not low <= int(text) <= high:
            size = "small" if len(text) <= MAX_DIGITS and int(text) < low else "large"
            raise UsageError(f"{failure.format(text)} (too {size}); use {low} to {high}")
        return int(text)


def parse(argv: Sequence[str]) -> Options:
    """Read *argv*. Raises BadUsage, UsageError."""
    try:
        pairs, rest = getopt.getopt(list(argv), LETTERS)
    except getopt.GetoptError as error:
        form = "option requires an argument" if "requires" in error.msg else "unknown option"
        raise BadUsage(f"{form} -- {error.opt.lstrip('-')[:1] or '-'}") from None
    values = {flag[1:]: value for flag, value in pairs}
    if values.get("Y", "sign") not in SIGNATURE_OPERATIONS:
        raise BadUsage(f'Unsupported operation for -Y: "{values["Y"]}"')
    for letter in values:
        if letter not in _SUPPORTED:
            raise UsageError(f"-{letter}: not supported: {UNSUPPORTED.get(letter, 'use OpenSSH')}")
    if rest:
        raise BadUsage("Too many arguments.")
    if values.get("Z", CIPHER) != CIPHER:
        raise UsageError(f"-Z: {values['Z']}: unsupported cipher; keys are encrypted with {CIPHER}, without -Z")
    return Options(values)
