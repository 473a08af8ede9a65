"""Errors in a command line, and the exit code of each error."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from pmitogen.errors import Error, UsageError
from pmitogen.util.suggestions import did_you_mean

ORIGIN = "command line"  # the origin of an error in an argument
_INVALID_CHOICE = re.compile(r"invalid choice: '(?P<word>[^']*)' \(choose from (?P<choices>.*)\)$")  # argparse's


class CommandLineError(UsageError):
    """The arguments of the command are wrong. *problem* and *origin* as in :class:`UsageError`."""


def exit_code(error: Error) -> int:
    """Return the exit code for *error*: 2 for an error in the command line, otherwise 1."""
    is_usage = isinstance(error, CommandLineError) or isinstance(error, UsageError) and error.origin == ORIGIN
    return 2 if is_usage else 1


def from_os_error(error: OSError) -> Error:
    """Return the error to print for *error*, with its file."""
    prefix = f"{error.filename}: " if error.filename else ""
    return Error(f"{prefix}{(error.strerror or str(error)).lower()}")


class Parser(argparse.ArgumentParser):
    """An argument parser that prints an error as one line, without the usage.

    *arguments*: the results of ``add_argument``. *commands*: name, help and parser of each subcommand. Both are for the
    completion and the manual page.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.arguments: list[argparse.Action] = []
        self.commands: list[tuple[str, str, Parser]] = []
        super().__init__(*args, **kwargs)

    def add_argument(self, *args: Any, **kwargs: Any) -> argparse.Action:
        action: argparse.Action = super().add_argument(*args, **kwargs)
        self.arguments.append(action)
        return action

    def parse(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse *arguments* as ``parse_args`` does, and suggest options for unknown ones."""
        options, unknown = self.parse_known_args(arguments)
        if unknown:
            parsers = [self, *(made for name, _, made in self.commands if name == getattr(options, "command", None))]
            known = [text for parser in parsers for action in parser.arguments for text in action.option_strings]
            hints = (did_you_mean(argument.partition("=")[0], known) for argument in unknown if argument.startswith("-"))
            self.error(f"unrecognized arguments: {' '.join(unknown)}{next(filter(None, hints), '')}")
        return options

    def error(self, message: str) -> NoReturn:
        match = _INVALID_CHOICE.search(message)
        if match is not None:
            message += did_you_mean(match["word"], re.findall(r"[\w-]+", match["choices"]))
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")
