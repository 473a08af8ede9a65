"""Scripted answers to commands."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace

from pmitogen.hub.without_python import simple_commands

# A command of pmitogen that looks for a Python on the host. See pmitogen.hub.bootstrap.
_BOOT = re.compile(r"exec /bin/sh -c 'echo PMITOGEN-([0-9a-f]+) sh; ")


@dataclass(frozen=True)
class Answer:
    """The output and the exit status of one command.

    :param stdout_mark: a line that is written at once, whatever the delay; empty: none.
    :param stderr_mark: the same on stderr, followed by the process.
    """

    stdout: bytes = b""
    stderr: bytes = b""
    rc: int = 0
    delay: float = 0.0
    close: bool = False
    stdout_mark: str = ""
    stderr_mark: str = ""


@dataclass
class Rule:
    """An answer to every command that is equal to *command*, or that this pattern matches as a whole."""

    command: str | re.Pattern[str]
    answer: Answer
    left: int | None  # how many more commands it answers; None: all

    def matches(self, command: str) -> bool:
        """Return whether this answers *command*."""
        if self.left == 0:
            return False
        if isinstance(self.command, str):
            return self.command == command
        return self.command.fullmatch(command) is not None


def login(line: str) -> Answer | None:
    """Return the answer to a command with which pmitogen logs in; None: *line* is another command.

    The answer says that there is no Python, so that each later command is sent by itself, and that the home directory is ``/``.
    """
    if line == "echo ~":
        return Answer(b"/\n")
    if not (match := _BOOT.match(line)):
        return None
    from pmitogen.hub import bootstrap

    markers = [bootstrap.shell_marker(match[1]), bootstrap.no_python_marker(match[1]), b""]
    return Answer(b"\n".join(markers), rc=127)


def marked(line: str, answer: Answer) -> Answer:
    """Return *answer* with the markers that a command of the library writes first, if *line* is one."""
    if telling := simple_commands.parse_telling(line):
        return replace(answer, stderr_mark=telling[0])
    if not (parsed := simple_commands.parse(line)):
        return answer
    return replace(answer, stdout_mark=parsed[0], stderr_mark=parsed[0])


def requested_command(line: str) -> str:
    """Return the command in *line* as it was given to ``Host.run``: without directory, variables and ``/bin/sh -c``."""
    if marked := simple_commands.parse(line):
        return marked[1]
    if telling := simple_commands.parse_telling(line):
        line = telling[1]
    try:
        arguments = shlex.split(line)
    except ValueError:  # an unfinished quotation
        return line
    if arguments[:1] == ["cd"] and arguments[2:3] == ["&&"]:
        del arguments[:3]
    if arguments[:1] == ["env"]:
        del arguments[0]
        while arguments and "=" in arguments[0]:
            del arguments[0]
    return arguments[2] if len(arguments) == 3 and arguments[:2] == ["/bin/sh", "-c"] else line
