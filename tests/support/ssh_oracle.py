"""The installed ssh as an oracle: compare the output of ``ssh -G`` with pmitogen's, in the way of that version of ssh.

Defaults and names of algorithms differ between versions, so pmitogen's are taken from the installed one (``ssh -Q``, ``ssh -G``);
all configured values are compared unchanged.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
from collections.abc import Sequence

import pytest

from pmitogen.errors import UsageError
from pmitogen.flags.ssh.report.dump import dump
from pmitogen.flags.ssh.report.openssh_defaults import installed_program
from pmitogen.flags.ssh.resolve_keywords import resolve_keywords
from tests.support.programs import find_program

Values = dict[str, list[str]]

# pmitogen always has a command when it connects.
_WANT_A_COMMAND = ("Cannot fork into background without a command", "You must specify a subsystem")
COMMAND = "true"
# Neither can it honour a RemoteCommand; then it refuses any value.
_HAVE_A_COMMAND = "Cannot execute command-line and remote command"
_MERELY_OLD = "Unsupported option"  # ssh prints this and continues


@dataclasses.dataclass(frozen=True)
class Answer:
    """The values of all keywords, or an error."""

    values: Values
    error: str | None = None

    def line(self, place: str) -> int | None:
        """Return the number of the first bad line in a file whose name begins with *place*."""
        for text in (self.error or "").splitlines():
            found = re.match(re.escape(place) + r"[^ :]*:? line (\d+)", text)
            if found and _MERELY_OLD not in text:
                return int(found[1])
        return None


def need_ssh() -> str:
    """Return the path of ssh; skip the test if it is missing."""
    path = find_program("ssh")
    if path is None:
        pytest.skip("needs ssh, the oracle for the parsing of configurations")
    return path


def run_ssh(argv: Sequence[str]) -> Answer:
    """Run the installed ssh."""
    done = subprocess.run([need_ssh(), "-G", *argv], stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)
    errors = done.stderr.decode(errors="surrogateescape")
    if done.returncode != 0:
        return Answer({}, errors)
    values: Values = {}
    for line in (
        done.stdout.decode(errors="surrogateescape").removesuffix("\n").split("\n")
    ):  # not at other characters that end lines in Python
        key, _, value = line.partition(" ")
        values.setdefault(key.lower(), []).append(value)
    return Answer(values)


def run_ours(argv: Sequence[str]) -> Answer:
    """Run pmitogen's parser."""
    try:
        shown = dump(resolve_keywords(argv, program=installed_program(need_ssh())))
    except UsageError as error:
        return Answer({}, str(error))
    return Answer({key: [value] if isinstance(value, str) else value for key, value in shown.items()})


def difference(argv: Sequence[str], place: str = "") -> str | None:
    """Return the difference between the two answers, or None. *place*: a file in which errors must have the same line number."""
    theirs, ours = run_ssh(argv), run_ours(argv)
    hidden = theirs.error is not None and not theirs.error.strip()  # -q, or LogLevel
    if argv[-1] != COMMAND and (hidden or any(text in (theirs.error or "") for text in _WANT_A_COMMAND)):
        return difference([*argv, COMMAND], place)
    if hidden and ours.values.get("remotecommand"):
        return None  # ssh prints nothing and continues
    if theirs.error and _HAVE_A_COMMAND in theirs.error:
        return None if ours.values.get("remotecommand") else "we see no RemoteCommand"
    if (theirs.error is None) != (ours.error is None):
        return f"ssh: {theirs.error and theirs.error.strip()}; ours: {ours.error}"
    if theirs.error is not None:
        if place and (line := theirs.line(place)) and line != ours.line(place):
            return f"ssh: {theirs.error.strip()}; ours: {ours.error}"
        return None
    wrong = {key: (value, ours.values.get(key)) for key, value in theirs.values.items() if value != ours.values.get(key)}
    return f"ssh, ours: {wrong}" if wrong else None
