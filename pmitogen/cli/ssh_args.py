"""Separate the destination from ssh's options, for ``pmitogen ping`` and ``pmitogen trust``."""

from __future__ import annotations

from collections.abc import Sequence

from pmitogen.cli.errors import CommandLineError
from pmitogen.flags.ssh.command_line_flags import FLAGS


def split_destination(argv: Sequence[str], command: str) -> tuple[list[str], str]:
    """Return ssh's options and the destination, which stands among or after them.

    *command*: the subcommand's name, for the message. Raises CommandLineError without a destination, or if a remote command
    follows.
    """
    usage = f"usage: pmitogen {command} [SSH OPTIONS] HOST"
    end = _count_options(argv)
    before, rest = list(argv[:end]), list(argv[end:])
    ended = rest[:1] == ["--"]
    rest = rest[1:] if ended else rest
    if not rest:
        raise CommandLineError(f"no host; {usage}")
    end = 1 if ended else 1 + _count_options(rest[1:])
    if rest[end:]:
        raise CommandLineError(f"{rest[end]}: unexpected argument after the host; {usage}")
    return before + rest[1:end], rest[0]


def _count_options(argv: Sequence[str]) -> int:
    """Return how many arguments at the beginning of *argv* are options or their values."""
    count = 0
    while count < len(argv) and argv[count].startswith("-") and argv[count] not in ("-", "--"):
        count += 2 if _takes_next_argument(argv[count]) else 1
    return min(count, len(argv))


def _takes_next_argument(cluster: str) -> bool:
    """Return whether the value of the last option in an argument such as ``-vp`` is the next argument."""
    for position, letter in enumerate(cluster[1:], 1):
        flag = FLAGS.get(letter)
        if flag is not None and flag.argument:
            return position == len(cluster) - 1
    return False
