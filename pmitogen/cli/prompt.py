"""Prompts for the user of ``pmitogen ping`` and ``pmitogen trust``."""

from __future__ import annotations

import getpass
import sys


class TerminalPrompt:
    """Ask the user at the terminal: on stderr and stdin, or on the terminal itself for an answer that is not echoed.

    An empty answer cancels: no further question is asked. Called as ``prompt(text, echo)``; returns the answer, or None.
    """

    def __init__(self) -> None:
        self._is_cancelled = False

    def __call__(self, prompt: str, echo: bool) -> str | None:
        if self._is_cancelled:
            return None
        answer = _read_visible(prompt) if echo else _read_hidden(prompt)
        self._is_cancelled = not answer
        return answer or None


def _read_visible(prompt: str) -> str:
    sys.stderr.write(prompt)
    sys.stderr.flush()
    return sys.stdin.readline().strip()


def _read_hidden(prompt: str) -> str:
    try:
        return getpass.getpass(prompt)
    except EOFError:
        return ""
