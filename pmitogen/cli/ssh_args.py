"""Separate the destination from ssh's options, for ``pmitogen ping`` and ``pmitogen trust``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pmitogen.cli.errors import CommandLineError
from pmitogen.flags.ssh.command_line_flags import FLAGS
from pmitogen.flags.ssh.lexer import ConfigValueError
from pmitogen.flags.ssh.values import numbers
from pmitogen.util.suggestions import did_you_mean


def take_flag(argv: Sequence[str], flag: str) -> tuple[bool, list[str]]:
    """Remove *flag*, an option of pmitogen, from ssh's arguments. Returns whether it was given. Values of options, and arguments
    after ``--``, are not changed.
    """
    rest: list[str] = []
    is_given = is_value = False
    for at, argument in enumerate(argv):
        if argument == "--" and not is_value:
            return is_given, [*rest, *argv[at:]]
        if argument == flag and not is_value:
            is_given = True
            continue
        rest.append(argument)
        is_value = not is_value and argument.startswith("-") and argument not in ("-", "--") and _takes_next_argument(argument)
    return is_given, rest


def verbosity(ssh_args: Sequence[str]) -> int:
    """Return how many ``-v`` are among ssh's options."""
    return sum(letter == "v" for letter, _ in _flags(ssh_args))


def identity_files(ssh_args: Sequence[str]) -> list[str]:
    """Return the values of ``-i`` among ssh's options."""
    return [value for letter, value in _flags(ssh_args) if letter == "i"]


def _flags(ssh_args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the letter and the value of each of ssh's options; "" for a flag without a value."""
    arguments = iter(ssh_args)
    for argument in arguments:
        letters = argument[1:] if argument.startswith("-") else ""
        for position, letter in enumerate(letters, 1):
            flag = FLAGS.get(letter)
            if flag is not None and flag.argument:
                yield letter, letters[position:] or next(arguments, "")
                break
            yield letter, ""


def host_of(destination: str) -> str:
    """Return the host of ``[user@]host`` or ``ssh://[user@]host[:port]``; of an invalid destination, its text."""
    try:
        parts = numbers.ssh_uri(destination)
    except ConfigValueError:
        return destination
    return parts[1] if parts else destination.rpartition("@")[2]


def split_destination(argv: Sequence[str], command: str, own: Sequence[str] = ()) -> tuple[list[str], str]:
    """Return ssh's options and the destination, which stands among or after them.

    *command*: the subcommand's name, for the message. *own*: its options besides those of ssh, to suggest one for a misspelt one.
    Raises CommandLineError without a destination, for a long option, or if a remote command follows.
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
    options = before + rest[1:end]
    _refuse_long_options(options, own)
    return options, rest[0]


def _refuse_long_options(options: Sequence[str], own: Sequence[str]) -> None:
    is_value = False
    for option in options:
        if not is_value and option.startswith("--"):
            name = option.partition("=")[0]
            raise CommandLineError(f"{name}: unknown option{did_you_mean(name, own)}; ssh has no long options")
        is_value = not is_value and _takes_next_argument(option)


def _count_options(argv: Sequence[str]) -> int:
    """Return how many arguments at the beginning of *argv* are options or their values."""
    count = 0
    while count < len(argv) and argv[count].startswith("-") and argv[count] not in ("-", "--"):
        count += 2 if _takes_next_argument(argv[count]) else 1
    return min(count, len(argv))


def _takes_next_argument(cluster: str) -> bool:
    """Return whether the value of the last option in an argument such as ``-vp`` is the next argument."""
    if cluster.startswith("--"):  # no flag of ssh
        return False
    for position, letter in enumerate(cluster[1:], 1):
        flag = FLAGS.get(letter)
        if flag is not None and flag.argument:
            return position == len(cluster) - 1
    return False
