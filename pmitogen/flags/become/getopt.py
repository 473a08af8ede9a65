"""Parse options as the getopt of sudo, su and doas does.

A program has a table of ``Option`` rows, one for each option in its manual, refused ones included. Any other option is unknown.
``parse`` accepts short options, clusters and attached values (``-HnS``, ``-unobody``), long options with ``=`` or a separate
value, unambiguous prefixes of long options, and ``--``. sudo.py, su.py and doas.py apply each option to the plan.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Callable, Sequence

from pmitogen.errors import UsageError
from pmitogen.flags.ssh.settings import Finding, Verdict
from pmitogen.util.suggestions import did_you_mean

# Shell syntax: Ansible's become plugins pass flags through a shell, pmitogen does not.
_SHELL_SYNTAX = re.compile(r"[`;|&<>()]|\$[A-Za-z_({]")
_QUOTED = re.compile(r"'[^']*'|\"(?:[^\"\\$`]|\\.)*\"|\\.")


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a program. *value*: "no", "required" or "optional" (attached only)."""

    short: str  # without the dash; "" if it has none
    long: str  # without the dashes; for a program without long options, a name for messages
    value: str
    verdict: Verdict
    reason: str


@dataclasses.dataclass(frozen=True)
class ParsedOption:
    """One option as given. *written*: its spelling, without the value."""

    option: Option
    value: str | None
    written: str


@dataclasses.dataclass(frozen=True)
class ParsedOptions:
    """The options in order, and the command: everything from its first argument on."""

    given: tuple[ParsedOption, ...]
    rest: tuple[str, ...]


@dataclasses.dataclass
class Interpretation:
    """The meaning of one program's options, returned by sudo.py, su.py and doas.py to plan.py.

    *argv*: the options to pass, without the program, its prompt, its user, ``-n`` and the command.
    *form*: how the command is passed ("argv", "sudo-shell", "string", "own-shell"; see become/escalation.py).
    *shell*: "login" for the account's login shell, a path, or None if no shell of the account runs.
    """

    argv: list[str] = dataclasses.field(default_factory=list)
    operands: list[str] = dataclasses.field(default_factory=list)
    options: dict[str, str | bool] = dataclasses.field(default_factory=dict)
    findings: list[Finding] = dataclasses.field(default_factory=list)
    user: str | None = None
    noninteractive: bool = False
    form: str = "argv"
    shell: str | None = None

    def note(self, given: ParsedOption, verdict: Verdict | None = None, reason: str | None = None, *, origin: str) -> None:
        """Add a line to the report, by default with the row's text. A refused option is fatal."""
        verdict = given.option.verdict if verdict is None else verdict
        reason = given.option.reason if reason is None else reason
        self.findings.append(Finding(given.written, origin, verdict, reason, fatal=verdict is Verdict.REFUSED))


def split(text: str, origin: str) -> list[str]:
    """Split *text*, quoted as for a shell. Raises UsageError for open quotes and for text that needs a shell."""
    try:
        arguments = shlex.split(text)
    except ValueError as e:
        raise UsageError(f"{text}: {str(e).lower()}: close the quote", origin) from None
    syntax = _SHELL_SYNTAX.search(_QUOTED.sub("", text))
    if syntax:
        raise UsageError(f"{text}: {syntax.group()}: flags are not read by a shell; use the result of the expansion", origin)
    return arguments


def parse(
    arguments: Sequence[str], table: Sequence[Option], takes_operand: Callable[[str], bool], program: str, origin: str
) -> ParsedOptions:
    """Parse *arguments* with *table*, up to the first argument that is not an option and for which *takes_operand* is False.

    Raises UsageError for an unknown option, an ambiguous prefix, a missing value or an unexpected one.
    """
    given: list[ParsedOption] = []
    left = list(arguments)
    while left:
        arg = left[0]
        if arg == "--":
            del left[0]
            while left and takes_operand(left[0]):
                del left[0]
            break
        if not arg.startswith("-") or arg == "-":
            if not takes_operand(arg):
                break
            del left[0]
            continue
        del left[0]
        interpret = _long if arg.startswith("--") else _cluster
        try:
            given.extend(interpret(arg, left, table))
        except UsageError as error:
            raise UsageError(f"{program}: {error.problem}", origin) from None
    return ParsedOptions(tuple(given), tuple(left))


def _long(arg: str, left: list[str], table: Sequence[Option]) -> list[ParsedOption]:
    name, equals, value = arg[2:].partition("=")
    rows = [s for s in table if len(s.long) > 1]
    fits = [s for s in rows if s.long == name] or [s for s in rows if s.long.startswith(name)]
    names = sorted({"--" + s.long for s in fits})
    if not fits:
        raise UsageError(f"--{name}: unknown option{did_you_mean(f'--{name}', (f'--{row.long}' for row in rows))}")
    if len(names) > 1:
        raise UsageError(f"--{name}: ambiguous option; use one of {', '.join(names)}")
    # Two rows may share a long name (sudo: --preserve-env with and without a list); the one that fits the value is used.
    option = next((s for s in fits if (s.value != "no") == bool(equals)), fits[0])
    if option.value == "no" and equals:
        raise UsageError(f"--{option.long}: takes no value; leave out ={value}")
    if option.value == "required" and not equals:
        value = _next(left, f"--{option.long}")
    return [ParsedOption(option, value if option.value == "required" or equals else None, "--" + option.long)]


def _cluster(arg: str, left: list[str], table: Sequence[Option]) -> list[ParsedOption]:
    parsed: list[ParsedOption] = []
    for at, letter in enumerate(arg[1:], 1):
        option = next((s for s in table if s.short == letter), None)
        if option is None:
            raise UsageError(f"-{letter}: unknown option" + (f" (in {arg})" if len(arg) > 2 else ""))
        if option.value == "required":
            parsed.append(ParsedOption(option, arg[at + 1 :] or _next(left, f"-{letter}"), "-" + letter))
            break
        parsed.append(ParsedOption(option, None, "-" + letter))
    return parsed


def _next(left: list[str], option: str) -> str:
    if not left:
        raise UsageError(f"{option}: needs a value")
    return left.pop(0)


def render(given: ParsedOption) -> list[str]:
    """Return *given* as arguments; short where possible, because programs from before 2013 have no long options."""
    if given.option.short:
        return ["-" + given.option.short, *([] if given.value is None else [given.value])]
    return [f"--{given.option.long}" + ("" if given.value is None else f"={given.value}")]


def check_user(interpretation: Interpretation, given: ParsedOption, wanted: str | None, origin: str) -> None:
    """Check a user named in the flags: it must be the one that become_user names."""
    if wanted is None or wanted == given.value:
        interpretation.note(given, Verdict.HARMLESS, "names the account that become_user names", origin=origin)
        interpretation.user = given.value
        return
    reason = f"names {given.value}, but become_user is {wanted}: use become_user: {given.value}"
    interpretation.note(given, Verdict.REFUSED, reason, origin=origin)


def check_repeats(interpretation: Interpretation, parsed: ParsedOptions, origin: str, *, repeatable: str = "") -> None:
    """Report options given twice with different values, except *repeatable* (a long name)."""
    first: dict[str, ParsedOption] = {}
    for given in parsed.given:
        known = first.setdefault(given.option.long, given)
        if known.value != given.value and known.option is given.option and given.option.long != repeatable:
            reason = f"given twice, as {known.value} and as {given.value}: keep one"
            interpretation.findings.append(Finding(given.written, origin, Verdict.CONFLICT, reason, fatal=True))
