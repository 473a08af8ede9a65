"""Turn a ProxyCommand that only runs ssh to pass through another host into a native jump.

``ssh [flags] -W %h:%p [user@]host`` and ``ssh [flags] [user@]host nc %h %p`` are recognised if a shell would
certainly split the text that way (see shell_split.py). Anything else is left to the shell. The flags of that inner command line
become the hop's configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pmitogen.errors import UsageError
from pmitogen.flags.ssh.local_host import LocalHost
from pmitogen.flags.ssh.proxy_ssh import parse_proxy_ssh
from pmitogen.flags.ssh.settings import JumpHop
from pmitogen.flags.ssh.shell_split import split_command
from pmitogen.flags.ssh.tokens import expand

_BLANK = " \t"
_QUIET = re.compile(r"\s+2>\s*/dev/null\s*$")
_SSH = re.compile(r"(.*/)?ssh(\.exe)?")
_NETCAT = re.compile(r"(.*/)?(nc|ncat|netcat)")
_DROPPED = "WNTnxaqtfG"  # flags of the inner command that do not concern the hop


def as_jump_host(command: str, tokens: Mapping[str, str], local: LocalHost) -> JumpHop | None:
    """Return the hop that *command* connects through, or None. Raises ConfigValueError for an invalid token."""
    arguments = split_command(_without_shell(command), local, lambda text: expand(text, tokens))
    if not arguments or not _SSH.fullmatch(arguments[0]):
        return None
    try:
        line, user, port = parse_proxy_ssh(arguments[1:], local)
    except UsageError:
        return None  # the shell and ssh report the error
    target = expand("%h:%p", tokens), expand("[%h]:%p", tokens)
    through = (line.stdio in target and not line.command) if line.stdio is not None else _is_netcat(line.command, tokens)
    if line.host is None or not through or any(letter in "LRDwXYsOQV" for letter, _ in line.flags):
        return None
    argv: list[str] = []
    for letter, arg in line.flags:
        if letter not in _DROPPED:
            argv += [f"-{letter}"] if arg is None else [f"-{letter}", arg]
    return JumpHop(line.host, user, port, tuple(argv), " ".join(line.command))


def _without_shell(command: str) -> str:
    """Remove the parts of *command* that have no meaning for a jump, and quote ``[%h]``, a pattern that matches itself."""
    command = _QUIET.sub("", command.strip(_BLANK)).removeprefix("exec ")
    return re.sub(r"(?<![^ \t])(-W)?\[%h\]:%p(?![^ \t])", r"\1'[%h]:%p'", command)


def _is_netcat(command: tuple[str, ...], tokens: Mapping[str, str]) -> bool:
    arguments = " ".join(command).split()
    if len(arguments) < 3 or not _NETCAT.fullmatch(arguments[0]) or arguments[-2:] != [tokens["h"], tokens["p"]]:
        return False
    return re.fullmatch(r"(-[qw] ?\d+[sm]? ?)*", " ".join(arguments[1:-2])) is not None
