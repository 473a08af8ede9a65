"""The words of a command line, and the words it answers with."""

from __future__ import annotations

import argparse
from typing import NoReturn

from pmitogen.errors import Error, UsageError

PLACE = "command line"  # where words stand, in the messages about them


class WrongWords(UsageError):
    """The command line itself is wrong, not what it asks for."""


def exit_code(error: Error) -> int:
    """2 for wrong words on the command line, 1 for all else."""
    return 2 if isinstance(error, WrongWords) or error.message.startswith(f"{PLACE}: ") else 1


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}: {self.prog} --help shows what is possible\n")
