"""``pmitogen ping``: log in to a host, start Python there, and measure round trips.

These are the steps of a host's first task. The arguments are ssh's. As with ssh, the user is prompted on the terminal for
passwords, passphrases, codes and the confirmation of a new host key.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pmitogen
from pmitogen import logging
from pmitogen.cli.colour import paint
from pmitogen.cli.errors import ORIGIN, CommandLineError
from pmitogen.cli.prompt import TerminalPrompt
from pmitogen.cli.ssh_args import split_destination, take_flag, verbosity
from pmitogen.errors import ConnectError, UsageError
from pmitogen.util.peer_text import escape

if TYPE_CHECKING:
    from pmitogen.api import Host

SAMPLES = 10  # measured round trips

LEVELS = (None, "debug", "trace")  # of the log, by the number of -v

USAGE = """usage: pmitogen ping [SSH OPTIONS] HOST

Log in to HOST as "ssh [SSH OPTIONS] HOST" does, start Python there, and print the duration of each step.

  --json       print JSON
  -v           log each step on stderr; -vv adds the messages of the SSH protocol

Exit code: 0 if the host is usable, 1 if not, 2 for a wrong command line.
"""


def run(argv: list[str]) -> int:
    """Run the command. Returns 0 once Python has started, or 2 without arguments. Raises Error."""
    if not argv or argv[0] in ("-h", "--help"):
        (sys.stdout if argv else sys.stderr).write(USAGE)
        return 0 if argv else 2
    as_json, argv = take_flag(argv, "--json")
    ssh_args, target = split_destination(argv, "ping")
    logging.setup("ping", LEVELS[min(verbosity(ssh_args), len(LEVELS) - 1)])
    began = time.monotonic()
    with _connect(target, ssh_args) as host:
        took = time.monotonic() - began
        found = host.info()
        if not as_json:
            for line in describe(found):
                print(line, flush=True)
        elif not found.get("python"):
            print(json.dumps(as_object(found, took), indent=2), flush=True)
        if not found.get("python"):
            raise ConnectError(f"{found.get('peer', target)}: logged in, but {found.get('no_python')}", "python")
        trips = [_round_trip(host) for _ in range(SAMPLES)]
        if as_json:
            print(json.dumps(as_object(found, took, trips), indent=2))
            return 0
        print(f"round trip: {_time(statistics.median(trips))} ({_time(min(trips))} to {_time(max(trips))}, {SAMPLES} times)")
        text = f"ok: {found.get('peer', target)}: Python {_version(found)} after {_time(took)}"
        print(paint(text, "green", sys.stdout))
    return 0


def _connect(target: str, ssh_args: Sequence[str]) -> Host:
    try:
        return pmitogen.connect(target, ssh_args=ssh_args, ask=TerminalPrompt() if sys.stdin.isatty() else None)
    except UsageError as error:
        if error.origin != "ssh_args":
            raise
        raise CommandLineError(error.problem, ORIGIN) from None


def _round_trip(host: Host) -> float:
    """Return the seconds that the smallest request to the target takes."""
    began = time.monotonic()
    host.get("/dev/null")
    return time.monotonic() - began


def describe(found: Mapping[str, Any]) -> list[str]:
    """Return a line for each kind of information in *found* (see ``Host.info``). Text of the server is escaped."""
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


def as_object(found: Mapping[str, Any], seconds: float, trips: Sequence[float] = ()) -> dict[str, Any]:
    """Return what ``--json`` prints: *found* (see ``Host.info``) with the seconds of login and round trips."""
    names = ("peer", "python", "exe", "user", "home", "no_python", "algorithms", "stages", "sent", "received")
    measured = {"median": statistics.median(trips), "min": min(trips), "max": max(trips), "count": len(trips)} if trips else None
    return {"ok": bool(trips), "seconds": seconds, "round_trip": measured, **{name: found.get(name) for name in names}}


def _version(found: Mapping[str, Any]) -> str:
    version = found.get("python")
    return escape(".".join(map(str, version)) if isinstance(version, (list, tuple)) else str(version), 40)


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
