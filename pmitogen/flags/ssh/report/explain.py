"""``pmitogen explain ssh``: the output of ``ssh -G``, and what pmitogen does with each option."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from pmitogen.flags.ssh.build_settings import build_settings
from pmitogen.flags.ssh.forwardings import OPTIONS
from pmitogen.flags.ssh.openssh_version import Program
from pmitogen.flags.ssh.report.dump import DumpValue, dump
from pmitogen.flags.ssh.report.openssh_defaults import installed_program
from pmitogen.flags.ssh.resolve_keywords import PMITOGEN_SESSION, resolve_keywords
from pmitogen.flags.ssh.settings import Verdict
from pmitogen.util.caller import CallerEnvironment

Line = TypedDict("Line", {"option": str, "from": str, "verdict": str, "why": str})


class Explanation(TypedDict):
    """The JSON form of an explanation."""

    host: str
    options: dict[str, DumpValue]
    report: list[Line]


def explain_ssh(
    argv: Sequence[str],
    *,
    caller: CallerEnvironment | None = None,
    program: Program | None = None,
    forwards: bool = False,
) -> Explanation:
    """Return the resolved options of an ssh command line (without the program's name), and the report.

    ``options`` maps each keyword, in lower case, to its value as ``ssh -G`` prints it: a string, or a list of strings for a
    keyword that it prints on several lines. *program*: the ssh whose defaults are shown; default: the installed one, or OpenSSH
    10 if none is installed. *forwards*: of the library, which carries out -L, -R and -D. Without a command, ``Match`` tests the
    session of a play. Raises UsageError for an argument that cannot be parsed; a refused one is in the report.
    """
    resolution = resolve_keywords(argv, caller=caller, program=program or installed_program(), default_session=PMITOGEN_SESSION)
    report: list[Line] = []
    for finding in build_settings(resolution).report:
        verdict, why = finding.verdict, finding.reason
        if forwards and finding.fatal and finding.option.lower() in OPTIONS:
            verdict, why = Verdict.HONOURED, "Forwarded as long as the connection lasts."
        report.append({"option": finding.option, "from": finding.origin, "verdict": verdict.value, "why": why})
    return {"host": resolution.original, "options": dump(resolution), "report": report}
