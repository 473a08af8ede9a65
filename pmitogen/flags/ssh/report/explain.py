"""``pmitogen explain ssh``: what ``ssh -G`` would print, and what becomes of each word here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from pmitogen.flags.ssh.build_settings import settings_from
from pmitogen.flags.ssh.openssh_version import Program
from pmitogen.flags.ssh.report.dump import Shown, dump
from pmitogen.flags.ssh.report.openssh_defaults import installed_program
from pmitogen.flags.ssh.resolver import resolve_words
from pmitogen.util.caller import CallerEnvironment

Line = TypedDict("Line", {"option": str, "from": str, "verdict": str, "why": str})


class Explanation(TypedDict):
    """The JSON that programs get."""

    host: str
    options: dict[str, Shown]
    report: list[Line]


def explain_ssh(
    argv: Sequence[str],
    *,
    origins: Sequence[str] | None = None,
    caller: CallerEnvironment | None = None,
    program: Program | None = None,
) -> Explanation:
    """The resolved options of an ssh command line (without the program's name), and the report.

    ``options`` maps each keyword, in lower case, to its value as ``ssh -G`` prints it: a string, or a list of strings for a
    keyword that it prints on several lines. *program*: whose defaults are shown; by default those of the installed ssh, or
    OpenSSH 10's where there is none. Raises UsageError for a word that cannot be read; one that is refused is in the report.
    """
    found = resolve_words(argv, origins, caller, program=program or installed_program())
    report: list[Line] = [
        {"option": one.option, "from": one.origin, "verdict": one.verdict.value, "why": one.why}
        for one in settings_from(found).report
    ]
    return {"host": found.original, "options": dump(found), "report": report}


def render_table(explanation: Explanation) -> str:
    """The same for people: the options, then what became of each word."""
    rows = [(key, one) for key, value in explanation["options"].items() for one in ([value] if isinstance(value, str) else value)]
    lines = [f"Options for {explanation['host']}", ""]
    width = max(len(key) for key, _ in rows)
    lines += [f"  {key:<{width}}  {value}" for key, value in rows]
    report = explanation["report"]
    lines += ["", "What becomes of each word" if report else "No word was given: everything is at its default."]
    if report:
        words = max(len(line["option"]) for line in report)
        lines.append("")
        for line in report:
            lines.append(f"  {line['verdict']:<8}  {line['option']:<{words}}  {line['why']}  [{line['from']}]")
    return "\n".join(lines) + "\n"
