"""Build the escalation plan from become_method, become_exe, become_flags and become_user; become/escalation.py runs it.

A plan is a dict that JSON can encode, of the type ``protocol.escalation_plan.EscalationPlan``:

- ``argv``: the argument vector up to the command. ``{prompt}`` in it is replaced by a random prompt on the target.
- ``form``: how the command is added (see ``become/chain.py``). ``shell``: the shell that takes it, ``login``, or None.
- ``stdin``: ``pipe``, or ``tty`` for su, which prompts there.
- ``programs``: the kinds of programs in ``argv``. ``asking``: those that may ask for a password.
- ``secrets``: the kinds of secrets available. The plan itself holds none; the target requests one when a prompt appears.

become_exe may have several parts: a prefix (``env X=1 sudo``), options (``sudo -k``), and programs in a chain (``sudo su -``),
where flags apply to the program that become_method names, and the account to the last one.
"""

from __future__ import annotations

import dataclasses
import posixpath
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from pmitogen.errors import UsageError
from pmitogen.flags.become import doas, su, sudo
from pmitogen.flags.become.getopt import Interpretation, ParsedOptions, split
from pmitogen.flags.ssh.settings import Finding, Verdict

if TYPE_CHECKING:
    from pmitogen.protocol.escalation_plan import EscalationPlan

# Programs that take a method's options; any other name counts as the method's own program.
_PROGRAMS = {"sudo": "sudo", "sudo.ws": "sudo", "sudo-rs": "sudo", "dzdo": "sudo", "su": "su", "su-rs": "su", "doas": "doas"}


class _Interpret(Protocol):
    def __call__(self, arguments: Sequence[str], *, user: str | None, password: bool, origin: str) -> Interpretation: ...


@dataclasses.dataclass(frozen=True)
class _Method:
    interpret: _Interpret
    parse_options: Callable[[Sequence[str], str], tuple[ParsedOptions, list[str]]]


_METHODS = {
    "sudo": _Method(sudo.interpret, sudo.parse_options),
    "su": _Method(su.interpret, su.parse_options),
    "doas": _Method(doas.interpret, doas.parse_options),
}


@dataclasses.dataclass(frozen=True)
class _Program:
    """One program of become_exe: its kind, its name as written, and the options written after it."""

    kind: str
    program: str
    arguments: tuple[str, ...]


def plan(
    method: str,
    *,
    exe: str | None = None,
    flags: str | None = None,
    user: str | None = None,
    password: str | None = None,
    chdir: str | None = None,
    otp: str | None = None,
    prompt_l10n: Sequence[str] = (),
    timeout: float,
    via: EscalationPlan | None = None,
) -> tuple[EscalationPlan, tuple[Finding, ...]]:
    """Return the plan for entering *user* (None: root) by *method* ("sudo", "su", "doas"), with a report on each option.

    *exe*, *flags*: as in Ansible; None: the method's own program, no flags.
    *password*: empty or None: there is none. *otp*: answers a second factor.
    *chdir*: a directory to change to first, as the account that escalates.
    *prompt_l10n*: translations of "Password"; empty: the built-in ones.
    *timeout*: seconds until the command has started.
    *via*: the plan of another escalation, whose account this one starts in.

    Raises UsageError, one line, for the first option that cannot be honoured.
    """
    if method not in _METHODS:
        raise UsageError(f"become_method: {method}: use sudo, su or doas")
    user = user or "root"
    _check_user(user)
    password = password or None
    prefix, steps = _steps(method, exe or method)
    interpretations = _interpret_all(method, steps, split(flags or "", "become_flags"), user, password is not None)
    findings = tuple(finding for interpretation in interpretations for finding in interpretation.findings)
    _refuse(method, findings)
    after_su = via is not None and via["programs"][-1] == "su"
    if after_su and steps[0].kind == "doas" and password:
        raise UsageError("become: doas asks on the terminal, and su gives its command none; use sudo after su, or doas alone")
    argv = list(prefix)
    for index, (step, interpretation) in enumerate(zip(steps, interpretations, strict=True)):
        target = user if index == len(steps) - 1 else interpretation.user
        argv += _argv(step, interpretation, target, noninteractive=interpretation.noninteractive and not password)
        if after_su and not index and step.kind == "sudo":
            argv.insert(len(prefix) + 1, "-S")  # su's command has no controlling terminal, but its stdin is a terminal
    last, asking = interpretations[-1], _asking(steps, interpretations, via)
    return {
        "method": method,
        "user": user,
        "argv": argv,
        "form": last.form,
        "shell": last.shell,
        "programs": [step.kind for step in steps],
        "asking": asking,
        "stdin": "tty" if after_su or "su" in asking or via is not None and via["stdin"] == "tty" else "pipe",
        "prompts": list(prompt_l10n or su.PROMPTS),
        "secrets": [kind for kind, secret in (("password", password), ("otp", otp)) if secret],
        "chdir": chdir or None,
        "timeout": float(timeout) + (via["timeout"] if via else 0.0),
        "via": via,
    }, findings


def is_known_program(exe: str) -> bool:
    """Return True if become_exe names sudo, su or doas by any of their names, or cannot be parsed."""
    try:
        return any(posixpath.basename(arg) in _PROGRAMS for arg in split(exe, "become_exe"))
    except UsageError:
        return True


def explain_become(method: str, flags: str | Sequence[str]) -> dict[str, Any]:
    """``{"options": {name: value}, "report": [{"option", "from", "verdict", "why"}]}`` for *flags* (text or arguments).

    Raises UsageError for options that *method* does not have.
    """
    if method not in _METHODS:
        raise UsageError(f"explain: {method}: use sudo, su or doas")
    origin = "command line"
    arguments = split(flags, origin) if isinstance(flags, str) else list(flags)
    interpretation = _METHODS[method].interpret(arguments, user=None, password=False, origin=origin)
    report = [
        {"option": f.option, "from": f.origin, "verdict": f.verdict.value, "why": f.reason} for f in interpretation.findings
    ]
    return {"options": interpretation.options, "report": report}


def _check_user(user: str) -> None:
    if user.startswith("-") or any(ord(char) < 32 or ord(char) == 127 for char in user):
        raise UsageError(f"become_user: {user!r}: invalid account name; for sudo, '#' and a uid is allowed too")


def _steps(method: str, exe: str) -> tuple[list[str], list[_Program]]:
    """Return the arguments before the first program of become_exe, and its programs."""
    arguments = split(exe, "become_exe")
    start = next((n for n, arg in enumerate(arguments) if posixpath.basename(arg) in _PROGRAMS), None)
    if start is None:
        start = _after_env(arguments)
    prefix, left = arguments[:start], arguments[start:]
    if not left:
        raise UsageError(f"become_exe: {exe}: names no program; use {method}")
    steps: list[_Program] = []
    while left:
        kind = _PROGRAMS.get(posixpath.basename(left[0]), method)
        parsed, _ = _METHODS[kind].parse_options(left[1:], "become_exe")
        rest = list(parsed.rest)
        if rest and posixpath.basename(rest[0]) not in _PROGRAMS:
            raise UsageError(f"become_exe: {exe}: {rest[0]}: not sudo, su or doas; remove it")
        steps.append(_Program(kind, left[0], tuple(left[1 : len(left) - len(rest)])))
        left = rest
    if all(step.kind != method for step in steps):
        raise UsageError(f"become_exe: {exe}: is not {method}; use become_method: {steps[-1].kind}")
    return prefix, steps


def _after_env(arguments: Sequence[str]) -> int:
    """Return the index of the program after ``env VAR=value``; 0 without env."""
    if not arguments or posixpath.basename(arguments[0]) != "env":
        return 0
    return next((n for n, arg in enumerate(arguments) if n and "=" not in arg and not arg.startswith("-")), len(arguments))


def _interpret_all(
    method: str, steps: Sequence[_Program], flags: Sequence[str], user: str, password: bool
) -> list[Interpretation]:
    """Parse each program's options; the flags go to the last program of the method's kind."""
    owner = max(index for index, step in enumerate(steps) if step.kind == method)
    interpretations = []
    for index, step in enumerate(steps):
        arguments = [arg for arg in step.arguments if arg != "--"] if index == owner else list(step.arguments)
        origin = "become_exe"
        if index == owner:
            arguments, origin = [*arguments, *flags], "become_flags" if not arguments else "become_exe and become_flags"
        account = user if index == len(steps) - 1 else None
        interpretations.append(_METHODS[step.kind].interpret(arguments, user=account, password=password, origin=origin))
    return interpretations


def _asking(steps: Sequence[_Program], interpretations: Sequence[Interpretation], via: EscalationPlan | None) -> list[str]:
    """Return the kinds of programs that may ask for a password: su does not if root runs it, as in ``sudo su -``."""
    callers = [via["user"] if via else None, *(interpretation.user or "root" for interpretation in interpretations)]
    pairs = zip(steps, callers, strict=False)
    return [step.kind for step, caller in pairs if step.kind != "su" or caller not in ("root", "#0")]


def _argv(step: _Program, interpretation: Interpretation, user: str | None, *, noninteractive: bool) -> list[str]:
    arguments = [step.program, *interpretation.argv]
    if step.kind == "su":
        return [*arguments, user or "root", "-c"]
    arguments += ["-n"] if noninteractive else []
    arguments += ["-p", "{prompt}"] if step.kind == "sudo" else []
    arguments += ["-u", user] if user else []
    return [*arguments, *interpretation.operands, "--"]


def _refuse(method: str, findings: Sequence[Finding]) -> None:
    for finding in findings:
        if finding.fatal or finding.verdict is Verdict.REFUSED:
            raise UsageError(f"{method} {finding.option}: {finding.reason}", finding.origin)
