"""Prompts for the user of a command.

``ping`` and ``trust`` ask on stderr and stdin. The commands with OpenSSH's command lines ask as OpenSSH does: on ``/dev/tty``, or
by the program in SSH_ASKPASS if there is a display and no terminal, or as SSH_ASKPASS_REQUIRE specifies (ssh(1)).
"""

from __future__ import annotations

import contextlib
import getpass
import os
import subprocess
import sys
from collections.abc import Callable

from pmitogen.util.peer_text import one_line

Ask = Callable[[str, bool], "str | None"]
"""(prompt, whether the answer is echoed) -> the answer, or None to give up."""


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


def find_asker(allow_stdin: bool = False) -> Ask | None:
    """Return the function that prompts the user; None: the user cannot be asked.

    *allow_stdin*: without a terminal and a program to ask with, standard input answers, as for ssh-keygen and ssh-add.
    """
    program = os.environ.get("SSH_ASKPASS")
    require = os.environ.get("SSH_ASKPASS_REQUIRE", "")
    if program and require in ("force", "prefer"):
        return _Askpass(program)
    if _has_terminal():
        return ask_on_terminal
    if program and require != "never" and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return _Askpass(program)
    return ask_on_standard_input if allow_stdin else None


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def ask_on_terminal(prompt: str, echo: bool) -> str | None:
    """Prompt on the controlling terminal, not on standard input and output."""
    try:
        if not echo:
            return getpass.getpass(prompt)
        with open("/dev/tty", "rb+", buffering=0) as terminal:
            terminal.write(prompt.encode("utf-8", "backslashreplace"))
            line = b""
            while not line.endswith(b"\n"):
                character = terminal.read(1)
                if not character:
                    return None
                line += character
        return line.decode("utf-8", "surrogateescape").rstrip("\r\n")
    except (EOFError, OSError):
        return None


def ask_on_standard_input(prompt: str, echo: bool) -> str | None:
    """Prompt on standard error and read a line of standard input; "" at its end."""
    sys.stdout.flush()
    sys.stderr.write(prompt)
    sys.stderr.flush()
    return sys.stdin.readline().rstrip("\r\n")


class _Askpass:
    def __init__(self, program: str) -> None:
        self._program = program

    def __call__(self, prompt: str, echo: bool) -> str | None:
        try:
            done = subprocess.run([self._program, prompt], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, check=False)
        except OSError as error:
            with contextlib.suppress(OSError):
                sys.stderr.write(one_line(f"ssh_askpass: exec({self._program}): {error.strerror}") + "\n")
            return None
        if done.returncode:
            return None
        return done.stdout.decode("utf-8", "surrogateescape").split("\n", 1)[0].rstrip("\r")


def confirm_as_ssh(ask: Ask) -> Callable[[str], bool]:
    """Return a function that asks about a host key; only the full answer "yes" accepts it."""

    def confirm(facts: str) -> bool:
        prompt = f"{facts}\nAre you sure you want to continue connecting (yes/no)? "
        while True:
            answer = ask(prompt, True)
            if answer is None:
                return False
            answer = answer.strip().lower()
            if answer in ("", "no"):
                return False
            if answer == "yes":
                return True
            prompt = "Please type 'yes' or 'no': "

    return confirm
