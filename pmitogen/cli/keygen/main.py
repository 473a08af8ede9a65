"""Run ``pmitogen keygen``: from an argument vector to an exit status."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from pmitogen.cli.keygen import create, formats, known_hosts_edit, show
from pmitogen.cli.keygen.options import USAGE, BadUsage, parse
from pmitogen.errors import Error
from pmitogen.util.peer_text import one_line

WRONG_USAGE, NOT_SAVED, FAILED = 1, 1, 255  # as ssh-keygen
# The operation of each flag; of several flags, the first row applies.
_ACTIONS = {
    "F": known_hosts_edit.find,
    "R": known_hosts_edit.remove,
    "H": known_hosts_edit.hash_names,
    "l": show.fingerprints,
    "L": show.certificates,
    "p": create.change_passphrase,
    "c": create.change_comment,
    "e": formats.export,
    "i": formats.import_key,
    "y": show.public_half,
}


def run(argv: Sequence[str]) -> int:
    """Run the command. Returns the exit status: 0, 1 for wrong usage and for a host that is not found, 255 for failures."""
    if list(argv) in [["--help"], ["-h"]]:
        sys.stdout.write(USAGE)
        return 0
    try:
        options = parse(argv)
        action = next((function for letter, function in _ACTIONS.items() if letter in options), create.create)
        return action(options)
    except BadUsage as error:
        sys.stderr.write(one_line(error.message) + "\n" + USAGE)
        return WRONG_USAGE
    except Error as error:
        sys.stdout.flush()
        sys.stderr.write(one_line(error.message) + "\n")
        return NOT_SAVED if isinstance(error, create.SaveError) else FAILED
