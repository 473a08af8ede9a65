"""Parse the command line of an ssh inside a ProxyCommand. Its configuration files are read later, when the hop is resolved."""

from __future__ import annotations

from pmitogen.flags.ssh.command_line import CommandLine, Parser
from pmitogen.flags.ssh.local_host import LocalHost
from pmitogen.flags.ssh.match_criteria import ParseState
from pmitogen.flags.ssh.openssh_version import OPENSSH_10
from pmitogen.flags.ssh.option_values import Options, Origin


def parse_proxy_ssh(argv: list[str], local: LocalHost) -> tuple[CommandLine, str | None, int | None]:
    """Return the parsed line, and its user and port if given. Raises UsageError."""
    context = ParseState(Options(), local, OPENSSH_10, "", "")
    line = Parser(context, argv, [Origin("ProxyCommand")] * len(argv)).parse()
    return line, context.options.get("user"), context.options.get("port")
