"""Evaluate the conditions of a ``Match`` line, as ssh does while it reads: against the values set so far.

The command of ``exec`` runs exactly when ssh would run it: if no condition before it on its line has failed.
Source: match_cfg_line() in readconf.c of OpenSSH 10.5.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
from typing import NamedTuple

from pmitogen.flags.ssh import interfaces
from pmitogen.flags.ssh.lexer import Arguments, ConfigValueError
from pmitogen.flags.ssh.local_host import LocalHost
from pmitogen.flags.ssh.openssh_version import Program
from pmitogen.flags.ssh.option_values import Options
from pmitogen.flags.ssh.tokens import connection_hash, expand
from pmitogen.util import patterns
from pmitogen.util.patterns import ascii_lower

_WITH_VALUE = ("host", "originalhost", "user", "localuser", "localnetwork", "version", "tagged", "command", "exec", "sessiontype")
_EQUALS = tuple(name + "=" for name in _WITH_VALUE if name != "sessiontype")
_MAY_BE_EMPTY = ("tagged", "command")


class RequestedSession(NamedTuple):
    """The session that a connection is made for, which ``Match sessiontype`` and ``Match command`` test.

    *type*: "shell", "exec", "subsystem" or "none". Empty: decided by SessionType and the command, as in ssh.
    *command*: the command, or the name of the subsystem; empty without one.
    """

    type: str = ""
    command: str = ""


@dataclasses.dataclass(eq=False, repr=False)
class ParseState:
    """State of reading one destination's configuration: the values so far, and the pass."""

    options: Options
    local: LocalHost
    program: Program
    original: str  # the host as typed
    host: str  # the same, or the canonical name in the final pass
    session: RequestedSession = RequestedSession()
    final: bool = False
    wants_final: bool = False  # set when a "Match final" was seen

    @property
    def target(self) -> str:
        """The host name that conditions and %h refer to."""
        hostname = self.options.get("hostname")
        if self.final and hostname is not None:
            return str(hostname)
        try:
            return self.host if hostname is None else expand(hostname, {"h": self.host})
        except ConfigValueError as problem:
            raise ConfigValueError(f"HostName: {problem}") from None

    @property
    def user(self) -> str:
        """The remote user, or the local one."""
        return str(self.options.get("user", self.local.user))

    def tokens(self) -> dict[str, str]:
        """Return the tokens of ``Match exec`` and ``Include``."""
        host, port = self.target, str(self.options.get("port", 22))
        jump = self.options.get("proxyjump")
        jump_host = "" if jump is None or ascii_lower(jump.host) == "none" else jump.host
        hashed = connection_hash(self.local.host, host, port, self.user, jump_host if self.program.modern else "")
        return {
            "C": hashed, "L": self.local.short_host, "d": self.local.home, "h": host, "l": self.local.host,
            "k": self.options.get("hostkeyalias", host), "n": self.original, "p": port, "r": self.user,
            "u": self.local.user, "i": str(self.local.uid), "j": jump_host,
        }  # fmt: skip


def matches(arguments: Arguments, context: ParseState) -> bool:
    """Evaluate the conditions of one line. Raises ConfigValueError."""
    result = True
    count = 0
    while (arg := arguments.next()) is not None:
        if arg.startswith("#"):
            arguments.take_rest()
            break
        negated = arg.startswith("!")
        name = arg[1:] if negated else arg
        if ascii_lower(name) == "all":
            return _match_all(arguments, count, negated, result)
        count += 1
        if ascii_lower(name) in ("canonical", "final"):
            if ascii_lower(name) == "final" and not negated:
                context.wants_final = True
            result = result and context.final != negated
            continue
        name, value = _split_criterion(name, arguments)
        if ascii_lower(name) == "exec":
            command = _command(value, context)
            result = result and _command_succeeds(command, context) != negated
        else:
            result = (_criterion_matches(ascii_lower(name), value, context) != negated) and result
    if not count:
        raise ConfigValueError("Match: missing condition")
    return result


def _command(text: str, context: ParseState) -> str:
    try:
        return expand(text, context.tokens())
    except ConfigValueError as problem:
        raise ConfigValueError(f"Match exec: {problem}") from None


def _match_all(arguments: Arguments, count: int, negated: bool, result: bool) -> bool:
    following = arguments.next()
    if count > 1 or (following and not following.startswith("#")):
        raise ConfigValueError('Match: "all" cannot be combined with other conditions')
    if following is not None and following.startswith("#"):
        arguments.take_rest()
    return result and not negated


def _split_criterion(name: str, arguments: Arguments) -> tuple[str, str]:
    """Return a condition and its value, which follows "=" or is the next argument."""
    if ascii_lower(name).startswith(_EQUALS):
        name, _, value = name.partition("=")
    else:
        following = arguments.next()
        if following is None:
            raise ConfigValueError(f"Match: the condition {name!r} has no value")
        value = following
    if value.startswith("#") or (not value and ascii_lower(name) not in _MAY_BE_EMPTY):
        raise ConfigValueError(f"Match: the condition {name!r} has no value")
    if ascii_lower(name) not in _WITH_VALUE:
        raise ConfigValueError(f"Match: unsupported condition {name!r}; known: all canonical final {' '.join(_WITH_VALUE)}")
    return name, value


def _criterion_matches(name: str, value: str, context: ParseState) -> bool:
    if name == "host":
        return patterns.match_hostname(context.target, value) == 1
    if name == "originalhost":
        return patterns.match_hostname(context.original, value) == 1
    if name == "localnetwork":
        networks = interfaces.read_networks(value)
        return any(interfaces.in_networks(address, networks) for address in interfaces.local_addresses())
    text = {
        "user": context.user,
        "localuser": context.local.user,
        "version": context.program.release,
        "tagged": context.options.get("tag", ""),
        "command": context.session.command,
        "sessiontype": _session_type(context),
    }[name]
    if name in _MAY_BE_EMPTY and not text:
        return not value
    return patterns.match_list(text, value) == 1


def _session_type(context: ParseState) -> str:
    session_type = context.options.get("sessiontype")
    if session_type in ("none", "subsystem"):
        return str(session_type)
    if context.session.type:
        return context.session.type
    return "exec" if context.session.command else "shell"


def _command_succeeds(command: str, context: ParseState) -> bool:
    """Run a shell command as ssh does: with the user's shell and empty standard input."""
    caller = context.local.caller
    shell = caller.absolute(caller.environ.get("SHELL", "/bin/sh"))
    if not os.access(shell, os.X_OK):
        raise ConfigValueError(f"Match exec: the shell {shell!r} is not executable")
    try:
        done = subprocess.run(
            [shell, "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            **caller.popen_options(),
        )
    except (OSError, ValueError) as problem:
        raise ConfigValueError(f"Match exec: {command!r} cannot be run: {problem}") from None
    if done.returncode < 0:
        raise ConfigValueError(f"Match exec: {command!r} was killed by signal {-done.returncode}")
    return done.returncode == 0
