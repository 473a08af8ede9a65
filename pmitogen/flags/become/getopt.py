"""Option words of a program, read as its own getopt reads them: the grammar that sudo, su and doas share.

A program is a table of ``Switch`` rows, one for every option its manual names, the refused ones included, so that only what is
in no row is unknown. ``scan`` knows short options alone, in clusters and with attached values (``-HnS``, ``-unobody``), long
options with ``=`` or a word of their own, unambiguous beginnings of long options, and ``--``. What an option does to the plan
is the program's own affair; see sudo.py, su.py and doas.py.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Callable, Sequence

from pmitogen.errors import UsageError
from pmitogen.flags.ssh.settings import Finding, Verdict

# What only a shell could make something of: Ansible's become plugins hand flags to one, and nothing here does.
_SHELL_SYNTAX = re.compile(r"[`;|&<>()]|\$[A-Za-z_({]")
_QUOTED = re.compile(r"'[^']*'|\"(?:[^\"\\$`]|\\.)*\"|\\.")


@dataclasses.dataclass(frozen=True)
class Switch:
    """One option of a program. *value*: "no", "required" or "optional" (attached only)."""

    short: str  # without the dash; "" if it has none
    long: str  # without the dashes; for a program without long options, a name of ours
    value: str
    verdict: Verdict
    why: str


@dataclasses.dataclass(frozen=True)
class Given:
    """One option as it was given; *written* is how, without the value."""

    switch: Switch
    value: str | None
    written: str


@dataclasses.dataclass(frozen=True)
class Scanned:
    """The options in order, and the words from the first operand on that the program takes for a command."""

    given: tuple[Given, ...]
    rest: tuple[str, ...]


@dataclasses.dataclass
class Reading:
    """What option words mean to one program: the seam between its file and become.py.

    *argv* are the options to pass, without the program, its prompt, its user, ``-n`` and what comes after; *form* is how the
    command is to be given ("argv", "sudo-shell", "string", "own-shell"; see become/escalation.py). *shell*: "login" for the
    account's own, a path, or None where no shell of the account is run.
    """

    argv: list[str] = dataclasses.field(default_factory=list)
    operands: list[str] = dataclasses.field(default_factory=list)
    options: dict[str, str | bool] = dataclasses.field(default_factory=dict)
    findings: list[Finding] = dataclasses.field(default_factory=list)
    user: str | None = None
    noninteractive: bool = False
    form: str = "argv"
    shell: str | None = None

    def note(self, given: Given, verdict: Verdict | None = None, why: str | None = None, *, origin: str) -> None:
        """Adds a line to the report, the row's own words where none are given. Refused is fatal."""
        verdict = given.switch.verdict if verdict is None else verdict
        why = given.switch.why if why is None else why
        self.findings.append(Finding(given.written, origin, verdict, why, fatal=verdict is Verdict.REFUSED))


def split(text: str, origin: str) -> list[str]:
    """The words of *text*, quoted as for a shell. Raises UsageError for open quotes and for what needs a shell to mean
    anything.
    """
    try:
        words = shlex.split(text)
    except ValueError as e:
        raise UsageError(f"{origin}: {text}: {str(e).lower()}: close the quotes") from None
    syntax = _SHELL_SYNTAX.search(_QUOTED.sub("", text))
    if syntax:
        raise UsageError(f"{origin}: {text}: {syntax.group()}: no shell reads these words: write what it would have made of them")
    return words


def scan(words: Sequence[str], table: Sequence[Switch], operand: Callable[[str], bool], program: str, origin: str) -> Scanned:
    """Reads *words* by *table*. *operand* is asked about each word that is no option: True takes it and goes on, False ends.

    Raises UsageError for an unknown option, an ambiguous beginning, a missing value or one too many.
    """
    given: list[Given] = []
    left = list(words)
    while left:
        word = left[0]
        if word == "--":
            del left[0]
            while left and operand(left[0]):
                del left[0]
            break
        if not word.startswith("-") or word == "-":
            if not operand(word):
                break
            del left[0]
            continue
        del left[0]
        read = _long if word.startswith("--") else _cluster
        given.extend(read(word, left, table, f"{origin}: {program}"))
    return Scanned(tuple(given), tuple(left))


def _long(word: str, left: list[str], table: Sequence[Switch], where: str) -> list[Given]:
    name, equals, value = word[2:].partition("=")
    rows = [s for s in table if len(s.long) > 1]
    fits = [s for s in rows if s.long == name] or [s for s in rows if s.long.startswith(name)]
    names = sorted({"--" + s.long for s in fits})
    if not fits:
        raise UsageError(f"{where}: --{name}: no such option")
    if len(names) > 1:
        raise UsageError(f"{where}: --{name}: may be any of {', '.join(names)}: write it in full")
    # Two rows may share a long name (sudo: --preserve-env with and without a list); the one that fits the value is meant.
    switch = next((s for s in fits if (s.value != "no") == bool(equals)), fits[0])
    if switch.value == "no" and equals:
        raise UsageError(f"{where}: --{switch.long}: takes no value: leave out ={value}")
    if switch.value == "required" and not equals:
        value = _next(left, f"{where}: --{switch.long}")
    return [Given(switch, value if switch.value == "required" or equals else None, "--" + switch.long)]


def _cluster(word: str, left: list[str], table: Sequence[Switch], where: str) -> list[Given]:
    found: list[Given] = []
    for at, letter in enumerate(word[1:], 1):
        switch = next((s for s in table if s.short == letter), None)
        if switch is None:
            raise UsageError(f"{where}: -{letter}: no such option" + (f" (in {word})" if len(word) > 2 else ""))
        if switch.value == "required":
            found.append(Given(switch, word[at + 1 :] or _next(left, f"{where}: -{letter}"), "-" + letter))
            break
        found.append(Given(switch, None, "-" + letter))
    return found


def _next(left: list[str], where: str) -> str:
    if not left:
        raise UsageError(f"{where}: needs a value")
    return left.pop(0)


def render(given: Given) -> list[str]:
    """*given* as words for the program; short where it can be, since programs of before 2013 know no long ones."""
    if given.switch.short:
        return ["-" + given.switch.short, *([] if given.value is None else [given.value])]
    return [f"--{given.switch.long}" + ("" if given.value is None else f"={given.value}")]


def check_user(reading: Reading, given: Given, wanted: str | None, origin: str) -> None:
    """Judges a user named in the flags: the account is become_user's to say, and both must say the same."""
    if wanted is None or wanted == given.value:
        reading.note(given, Verdict.HARMLESS, "names the account that become_user names", origin=origin)
        reading.user = given.value
        return
    why = f"names {given.value}, but become_user is {wanted}: write become_user: {given.value}"
    reading.note(given, Verdict.REFUSED, why, origin=origin)


def check_repeats(reading: Reading, scanned: Scanned, origin: str, *, may: str = "") -> None:
    """Reports options that were given twice with different values; *may* is the long name of one that may be."""
    first: dict[str, Given] = {}
    for given in scanned.given:
        known = first.setdefault(given.switch.long, given)
        if known.value != given.value and known.switch is given.switch and given.switch.long != may:
            why = f"given twice, as {known.value} and as {given.value}: keep one"
            reading.findings.append(Finding(given.written, origin, Verdict.CONFLICT, why, fatal=True))
