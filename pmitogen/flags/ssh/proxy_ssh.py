"""The command line of an ssh inside a ProxyCommand, read for what it says about the hop; its files are not read yet."""

from __future__ import annotations

from pmitogen.flags.ssh.command_line import CommandLine, Parser
from pmitogen.flags.ssh.local_host import Local
from pmitogen.flags.ssh.match_criteria import Context
from pmitogen.flags.ssh.openssh_version import OPENSSH_10
from pmitogen.flags.ssh.options import Options, Origin


def inner_line(argv: list[str], local: Local) -> tuple[CommandLine, str | None, int | None]:
    """The parsed line, and its user and port if it names them. Raises UsageError."""
    context = Context(Options(), local, OPENSSH_10, "", "")
    line = Parser(context, argv, [Origin("ProxyCommand")] * len(argv)).parse()
    return line, context.options.get("user"), context.options.get("port")
