"""The command line of an ssh inside a ProxyCommand, read for what it says about the hop; its files are not read yet."""

from __future__ import annotations

from pmitogen.flags.command_line import CommandLine, Parser
from pmitogen.flags.criteria import Context
from pmitogen.flags.local import Local
from pmitogen.flags.options import Options, Origin
from pmitogen.flags.program import OPENSSH_10


def inner_line(argv: list[str], local: Local) -> tuple[CommandLine, str | None, int | None]:
    """The parsed line, and its user and port if it names them. Raises UsageError."""
    context = Context(Options(), local, OPENSSH_10, "", "")
    line = Parser(context, argv, [Origin("ProxyCommand")] * len(argv)).parse()
    return line, context.options.get("user"), context.options.get("port")
