"""``pmitogen ping``: log in to a host, start Python there, and measure round trips.

These are the steps of a host's first task. The arguments are ssh's. As with ssh, the user is prompted on the terminal for
passwords, passphrases, codes and the confirmation of a new host key.
"""

from __future__ import annotations

import functools
import importlib
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pmitogen
from pmitogen import logging
from pmitogen.cli.colour import paint
from pmitogen.cli.errors import ORIGIN, CommandLineError
from pmitogen.cli.identity_warnings import warn_of_inaccessible
from pmitogen.cli.json_output import errors_as_json, print_json
from pmitogen.cli.prompt import TerminalPrompt
from pmitogen.cli.ssh_args import host_of, identity_files, split_destination, take_flag, verbosity
from pmitogen.errors import ConnectError, UsageError
from pmitogen.util.peer_text import escape, one_line

if TYPE_CHECKING:
    from pmitogen.api import Host

SAMPLES = 10  # measured round trips
OTHER = "other"  # the time that is in no other stage
# Modules that a login imports.
_LIBRARIES = ("pmitogen.api", "pmitogen.hub.bootstrap", "pmitogen.hub.mitogen_stream", "pmitogen.transport.connect")

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
    ssh_args, target = split_destination(argv, "ping", ("--json", "--help"))
    result: dict[str, Any] = as_object({"host": host_of(target)})
    with errors_as_json(as_json, result):
        logging.setup("ping", LEVELS[min(verbosity(ssh_args), len(LEVELS) - 1)])
        warn_of_inaccessible(identity_files(ssh_args))
        _ping(target, ssh_args, None if as_json else functools.partial(print, flush=True), result)
    if as_json:
        print_json(result)
    return 0


def _ping(target: str, ssh_args: Sequence[str], show: Callable[[str], None] | None, result: dict[str, Any]) -> None:
    """Measure. *show*: prints a line. *result*: gets what ``--json`` prints, as it becomes known. Raises Error."""
    began = time.monotonic()
    load = _load_libraries()
    with _connect(target, ssh_args) as host:
        info = host.info()
        seconds = time.monotonic() - began
        info["stages"] = complete({"load": load, **info.get("stages", {})}, seconds)
        result.update(as_object(info, seconds))
        for line in (*info.get("missing_identities", ()), *(f"Warning: {each}" for each in info.get("warnings", ()))):
            print(one_line(line), file=sys.stderr)
        if show is not None:
            for line in describe(info, seconds):
                show(line)
        if not info.get("python"):
            raise ConnectError(f"{info.get('peer', target)}: logged in, but {info.get('no_python')}", "python")
        trips = [_round_trip(host) for _ in range(SAMPLES)]
        result.update(as_object(info, seconds, trips))
        if show is not None:
            show(f"round trip: {_time(statistics.median(trips))} ({_time(min(trips))} to {_time(max(trips))}, {SAMPLES} times)")
            text = f"ok: {info.get('peer', target)}: Python {_version(info)} after {_time(seconds)}"
            show(paint(text, "green", sys.stdout))


def _load_libraries() -> float:
    """Import the modules for a login, and return the duration in seconds."""
    began = time.monotonic()
    for name in _LIBRARIES:
        importlib.import_module(name)
    return time.monotonic() - began


def complete(stages: Mapping[str, float], seconds: float) -> dict[str, float]:
    """Return *stages* with the rest of *seconds* as a stage."""
    return {**stages, OTHER: max(0.0, seconds - sum(stages.values()))}


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


def describe(info: Mapping[str, Any], seconds: float | None = None) -> list[str]:
    """Return a line for each kind of information in *info* (see ``Host.info``). Text of the server is escaped.

    *seconds*: the time until Python had started, the sum of all stages; None: it is not shown.
    """
    lines = []
    algorithms = info.get("algorithms")
    if algorithms:
        texts = algorithms.values() if isinstance(algorithms, Mapping) else [algorithms]
        lines.append("connection: " + ", ".join(escape(str(text)) for text in texts if text not in (None, "", "none")))
    stages = info.get("stages") or {}
    if stages:
        lines.append("stages: " + ", ".join(f"{name} {_time(taken)}" for name, taken in stages.items() if name != OTHER))
    if OTHER in stages:
        lines.append(f"other: {_time(stages[OTHER])} between the stages")
    if seconds is not None:
        lines.append(f"total: {_time(seconds)}")
    if info.get("python"):
        exe, user, home = (escape(str(info.get(name))) for name in ("exe", "user", "home"))
        lines.append(f"python: {_version(info)}, {exe}, as {user} in {home}")
    if info.get("sent") is not None:
        lines.append(f"bytes: {info['sent']} sent, {info['received']} received")
    return lines


def as_object(info: Mapping[str, Any], seconds: float | None = None, trips: Sequence[float] = ()) -> dict[str, Any]:
    """Return what ``--json`` prints: *info* (see ``Host.info``) with the seconds of login and round trips."""
    measured = {"median": statistics.median(trips), "min": min(trips), "max": max(trips), "count": len(trips)} if trips else None
    algorithms = info.get("algorithms")
    return {
        "ok": bool(trips),
        **{name: info.get(name) for name in ("host", "hostname", "port")},
        "user": info.get("user") or info.get("login_user"),
        "seconds": seconds,
        "stages": info.get("stages"),
        "round_trip": measured,
        "python": _version(info) if info.get("python") else None,
        "executable": info.get("exe"),
        "home": info.get("home"),
        "algorithms": algorithms and {name.replace(" ", "_"): text for name, text in algorithms.items()},
        "bytes_sent": info.get("sent"),
        "bytes_received": info.get("received"),
        "warnings": [*info.get("missing_identities", ()), *info.get("warnings", ())],
        "error": None,
    }


def _version(info: Mapping[str, Any]) -> str:
    version = info.get("python")
    return escape(".".join(map(str, version)) if isinstance(version, (list, tuple)) else str(version), 40)


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
