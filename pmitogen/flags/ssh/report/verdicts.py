"""Report on each option that was given: honoured, harmless, emulated or refused.

A refused option on a command line is an error. In a file for all of the user's sessions it is ignored with a warning, unless it
tightens security. Contradictions are in conflicts.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from pmitogen.flags.ssh.command_line_flags import FLAGS
from pmitogen.flags.ssh.forwardings import are_cleared
from pmitogen.flags.ssh.keywords import OBSOLETE, Keyword
from pmitogen.flags.ssh.option_values import GivenOption, Origin
from pmitogen.flags.ssh.report.conflicts import conflicts
from pmitogen.flags.ssh.resolve_keywords import Resolution
from pmitogen.flags.ssh.settings import Finding, Verdict
from pmitogen.util import extras

_FORWARDS = ("localforward", "remoteforward", "dynamicforward", "tunnel")


def findings(resolution: Resolution, native: bool = False) -> Iterator[Finding]:
    """Return the findings on one destination. *native*: its ProxyCommand became a jump."""
    seen: set[tuple[str, str]] = set()
    for given in resolution.options.given:
        finding = _classify(resolution, given, native)
        if finding is not None and (finding.option, finding.origin) not in seen:
            seen.add((finding.option, finding.origin))
            yield finding
    if resolution.line.command:
        reason = "pmitogen runs its own command; remove it."
        yield Finding("command", resolution.line.command_origin.place, Verdict.REFUSED, reason, fatal=True)
    yield from conflicts(resolution)


def _classify(resolution: Resolution, given: GivenOption, native: bool) -> Finding | None:
    place = given.origin.place
    if given.option == "destination":
        return None
    flag = FLAGS.get(given.option[1:]) if given.option.startswith("-") else None
    if flag is not None and (given.row is None or flag.verdict is Verdict.REFUSED and given.row.verdict is not Verdict.REFUSED):
        return _finding(given.option, given.origin, flag.verdict, flag.effect)
    if given.row is None:
        return Finding(given.option, place, Verdict.HARMLESS, OBSOLETE.get(given.option, ""))
    if native and given.row.key == "proxycommand":
        return Finding(given.option, place, Verdict.EMULATED, "Only runs ssh to pass through a host: done as a native jump.")
    if given.row.extra and given.value is not False and not extras.is_installed(given.row.extra):
        return _without_extra(given, given.row)
    if given.row.verdict is Verdict.REFUSED:
        return _maybe_refused(resolution, given, given.row)
    return Finding(given.option, place, given.row.verdict, given.row.effect)


def _without_extra(given: GivenOption, row: Keyword) -> Finding:
    """Judge an option whose optional dependency is not installed."""
    reason = f"Needs a further package: {extras.advice(row.extra)}."
    if row.harmless_without:
        return Finding(given.option, given.origin.place, Verdict.HARMLESS, reason)
    if str(given.value).lower() == "none":
        return Finding(given.option, given.origin.place, Verdict.HARMLESS, "Always off in pmitogen.")
    return _finding(given.option, given.origin, Verdict.REFUSED, reason)


def _finding(option: str, origin: Origin, verdict: Verdict, reason: str, strict: bool = False) -> Finding:
    fatal = verdict is Verdict.REFUSED and (strict or origin.explicit)
    if verdict is Verdict.REFUSED and not fatal:
        reason = f"Ignored in a file for all of your sessions. {reason}"
    return Finding(option, origin.place, verdict, reason, fatal)


def _maybe_refused(resolution: Resolution, given: GivenOption, row: Keyword) -> Finding:
    """Judge a row that refuses some values: values that switch it off, or have no effect here, are harmless."""
    harmless = ""
    if row.refuses is not None and not row.refuses(given.value):
        harmless = "Always off in pmitogen."
    elif row.key in _FORWARDS and are_cleared(resolution):
        harmless = "Dropped by ClearAllForwardings."
    elif row.key == "permitlocalcommand" and resolution.text("localcommand") is None:
        harmless = "No effect without LocalCommand."
    elif row.key == "proxyusefdpass" and (resolution.text("proxycommand") is None or resolution.jump() is not None):
        harmless = "No effect without ProxyCommand."
    if harmless:
        return Finding(given.option, given.origin.place, Verdict.HARMLESS, harmless)
    return _finding(given.option, given.origin, Verdict.REFUSED, row.effect, row.strict)
