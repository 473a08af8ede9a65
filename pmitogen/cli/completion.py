"""``pmitogen completion SHELL``: completion of this command line for bash, zsh or fish, generated from the parsers."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import re
from collections.abc import Iterator

from pmitogen.cli.errors import Parser
from pmitogen.flags.ssh.command_line_flags import FLAGS

# Commands without an argparse parser -> the module with the command's USAGE, or that of OpenSSH's program.
USAGES = {
    "ping": "ping",
    "trust": "trust",
    "cp": "cp.command_line",
    "sftp": "sftp.command_line",
    "keygen": "keygen.options",
    "agent": "agent.main",
    "add": "agent.add",
    "copy-id": "copy_id",
}
TAKES_NO_FILES = {"plugin-path", "demo", "hubs", "version", "completion", "manual"}
TAKES_HOST = {"ssh", "sftp", "copy-id", "ping", "keyscan", "trust"}
TAKES_SSH_OPTIONS = {"ssh": (), "ping": ("--json",), "trust": ("--json", "--fingerprint")}  # and pmitogen's own options


@dataclasses.dataclass(frozen=True)
class Command:
    """A command as the completion and the manual page show it.

    *arguments*: options and fixed arguments. *usage*: that of a command without an argparse parser, under the command's own name.
    """

    name: str
    help: str
    arguments: tuple[str, ...]
    parser: Parser
    usage: str = ""


def commands() -> Iterator[Command]:
    """Yield each command."""
    from pmitogen.cli import dispatch, keyscan

    for name, text, parser in dispatch.build_parser().commands:
        if name == "keyscan":
            parser = keyscan.parser()
        arguments = [text for action in parser.arguments for text in _arguments(action)]
        if name in TAKES_SSH_OPTIONS:
            arguments += [*TAKES_SSH_OPTIONS[name], *(f"-{letter}" for letter in FLAGS)]
        usage = _usage(name)
        yield Command(name, text, tuple(dict.fromkeys([*arguments, *_options(usage)])), parser, usage)


def _usage(name: str) -> str:
    """Return the command's usage, with the name of the command in the place of that of OpenSSH's program."""
    if name not in USAGES:
        return ""
    usage: str = importlib.import_module("pmitogen.cli." + USAGES[name]).USAGE
    return re.sub(r"^(usage:|      ) ss?[a-z-]+", rf"\1 pmitogen {name}", usage, flags=re.M)


def _options(usage: str) -> Iterator[str]:
    """Yield the options in a usage: each letter of ``[-lv]``, and ``--resume``."""
    for dashes, letters in re.findall(r"(?<![\w<])(--?)(?!-)([\w-]+)", usage):
        yield from [dashes + letters] if dashes == "--" else (f"-{letter}" for letter in letters)


def _arguments(action: argparse.Action) -> list[str]:
    return [*action.option_strings, *map(str, action.choices or () if not action.option_strings else ())]


def run(options: argparse.Namespace) -> int:
    """Print the completion for the shell."""
    print({"bash": bash, "zsh": zsh, "fish": fish}[options.shell](list(commands())), end="")
    return 0


def bash(commands: list[Command]) -> str:
    """Return a script for ``eval "$(pmitogen completion bash)"`` or bash-completion's directory."""
    cases = "".join(f"    {command.name}) words='{' '.join(command.arguments)}' ;;\n" for command in commands)
    return f"""\
_pmitogen() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} words=
  if [ "$COMP_CWORD" -eq 1 ]; then
    words='{" ".join(command.name for command in commands)} --help --version'
  else case ${{COMP_WORDS[1]}} in
{cases}  esac; fi
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _pmitogen pmitogen
"""


def zsh(commands: list[Command]) -> str:
    """Return a function for a file ``_pmitogen`` on zsh's fpath; it can also be evaluated."""
    names = "".join(f"      {_quote(command.name + ':' + _escape_colons(command.help))}\n" for command in commands)
    cases = "".join(
        f"    {command.name}) compadd -- {' '.join(command.arguments)}{_zsh_arguments(command.name)} ;;\n" for command in commands
    )
    return f"""\
#compdef pmitogen
_pmitogen() {{
  if (( CURRENT == 2 )); then
    local -a found
    found=(
{names}    )
    _describe command found
  else case $words[2] in
{cases}  esac; fi
}}
if [ "$funcstack[1]" = _pmitogen ]; then _pmitogen "$@"; else compdef _pmitogen pmitogen; fi
"""


def _zsh_arguments(name: str) -> str:
    return ("; _hosts" if name in TAKES_HOST else "") + ("" if name in TAKES_NO_FILES else "; _default")


def fish(commands: list[Command]) -> str:
    """Return lines for ``~/.config/fish/completions/pmitogen.fish``."""
    lines = []
    for command in commands:
        lines.append(f"complete -c pmitogen -n __fish_use_subcommand -f -a {command.name} -d {_fish_quote(command.help)}")
        seen = f"-n '__fish_seen_subcommand_from {command.name}'"
        if command.name in TAKES_NO_FILES:
            lines.append(f"complete -c pmitogen {seen} -f")
        if command.name in TAKES_HOST:
            lines.append(f"complete -c pmitogen {seen} -a '(__fish_print_hostnames)'")
        for arg in command.arguments:
            kind = f"-l {arg[2:]}" if arg.startswith("--") else f"-s {arg[1:]}" if arg.startswith("-") else f"-a {arg}"
            lines.append(f"complete -c pmitogen {seen} {kind}")
    return "\n".join(lines) + "\n"


def _escape_colons(text: str) -> str:
    return text.replace(":", r"\:")


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
