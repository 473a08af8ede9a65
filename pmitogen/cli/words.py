"""Words of a command line, and those that make no command."""

from __future__ import annotations

import argparse
from typing import NoReturn

from pmitogen.errors import UsageError


class WrongWords(UsageError):
    """The command line itself is wrong, not what it asks for: exit code 2."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}: {self.prog} --help shows what is possible\n")
