"""``pmitogen ping``: is this host usable, and how fast is it? The way of a first task, without Ansible.

Logs in as ssh would with the same words, starts Python, and measures round trips. Somebody who sits at the terminal is asked for
passwords, passphrases, codes and whether to trust a new host key, as by ssh.
"""

from __future__ import annotations

import getpass
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pmitogen
from pmitogen import logging
from pmitogen.cli.errors import PLACE, WrongWords
from pmitogen.errors import ConnectError, UsageError
from pmitogen.flags.ssh.command_line_flags import FLAGS
from pmitogen.util.peer_text import escape

if TYPE_CHECKING:
    from pmitogen.api import Host

ROUNDS = 10  # round trips that are measured

USAGE = """usage: pmitogen ping [SSH OPTIONS] HOST

Log in to HOST as "ssh [SSH OPTIONS] HOST" would, start Python there, and say how long each step took.
Exit code 0 if the host is usable, 1 if not, 2 for wrong words.
"""


def run(words: list[str]) -> int:
    """The command. Returns 0 if a Python came up, 1 if not, 2 for wrong usage."""
    if not words or words[0] in ("-h", "--help"):
        (sys.stdout if words else sys.stderr).write(USAGE)
        return 0 if words else 2
    logging.setup("ping")
    ssh_args, target = split(words)
    began = time.monotonic()
    with _connect(target, ssh_args) as host:
        took = time.monotonic() - began
        found = host.info()
        for line in describe(found):
            print(line, flush=True)
        if not found.get("python"):
            raise ConnectError(f"{found.get('peer', target)}: logged in, but {found.get('no_python')}", "python")
        trips = [_round_trip(host) for _ in range(ROUNDS)]
        print(f"round trip: {_time(statistics.median(trips))} ({_time(min(trips))} to {_time(max(trips))}, {ROUNDS} times)")
        print(f"ok: {found.get('peer', target)}: Python {_version(found)} after {_time(took)}")
    return 0


def split(words: Sequence[str], command: str = "ping") -> tuple[list[str], str]:
    """ssh's options, and the destination among or after them. Raises WrongWords if there is none, or a command as well."""
    usage = f"write pmitogen {command} [SSH OPTIONS] HOST"
    end = _end_of_options(words)
    before, rest = list(words[:end]), list(words[end:])
    ended = rest[:1] == ["--"]
    rest = rest[1:] if ended else rest
    if not rest:
        raise WrongWords(f"no host: {usage}")
    end = 1 if ended else 1 + _end_of_options(rest[1:])
    if rest[end:]:
        raise WrongWords(f"{rest[end]}: a command has no place here: {usage}")
    return before + rest[1:end], rest[0]


def _end_of_options(words: Sequence[str]) -> int:
    """How many of *words*, from the first on, are options and their values."""
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] not in ("-", "--"):
        at += 2 if _needs_next(words[at]) else 1
    return min(at, len(words))


def _needs_next(cluster: str) -> bool:
    """Whether the value of the last option of a word such as ``-vp`` stands in the next word."""
    for position, letter in enumerate(cluster[1:], 1):
        flag = FLAGS.get(letter)
        if flag is not None and flag.argument:
            return position == len(cluster) - 1
    return False


def _connect(target: str, ssh_args: Sequence[str]) -> Host:
    try:
        return pmitogen.connect(target, ssh_args=ssh_args, ask=Person() if sys.stdin.isatty() else None)
    except UsageError as error:
        place, _, rest = error.message.partition(": ")
        raise UsageError(f"{PLACE}: {rest}" if place == "ssh_args" else error.message) from None


class Person:
    """Whoever sits at the terminal. An empty answer gives up, for good."""

    def __init__(self) -> None:
        self._gave_up = False

    def __call__(self, prompt: str, echo: bool) -> str | None:
        if self._gave_up:
            return None
        answer = self._visibly(prompt) if echo else self._secretly(prompt)
        self._gave_up = not answer
        return answer or None

    @staticmethod
    def _visibly(prompt: str) -> str:
        sys.stderr.write(prompt)
        sys.stderr.flush()
        return sys.stdin.readline().strip()

    @staticmethod
    def _secretly(prompt: str) -> str:
        try:
            return getpass.getpass(prompt)
        except EOFError:
            return ""


def _round_trip(host: Host) -> float:
    """Seconds for the smallest request that the target itself must answer."""
    began = time.monotonic()
    host.get("/dev/null")
    return time.monotonic() - began


def describe(found: Mapping[str, Any]) -> list[str]:
    """What is known of a connection (see ``Host.info``), a line for each kind of thing. Much of it is the server's own text."""
    lines = []
    algorithms = found.get("algorithms")
    if algorithms:
        texts = algorithms.values() if isinstance(algorithms, Mapping) else [algorithms]
        lines.append("connection: " + ", ".join(escape(str(text)) for text in texts if text not in (None, "", "none")))
    stages = found.get("stages") or {}
    if stages:
        lines.append("stages: " + ", ".join(f"{name} {_time(seconds)}" for name, seconds in stages.items()))
    if found.get("python"):
        exe, user, home = (escape(str(found.get(name))) for name in ("exe", "user", "home"))
        lines.append(f"python: {_version(found)}, {exe}, as {user} in {home}")
    if found.get("sent") is not None:
        lines.append(f"bytes: {found['sent']} sent, {found['received']} received")
    return lines


def _version(found: Mapping[str, Any]) -> str:
    version = found.get("python")
    return escape(".".join(map(str, version)) if isinstance(version, (list, tuple)) else str(version), 40)


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
