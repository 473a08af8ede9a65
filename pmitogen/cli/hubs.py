"""``pmitogen hubs``: list and stop the hubs, which are the processes that hold the connections of this user's runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from pmitogen.cli.errors import ORIGIN, CommandLineError
from pmitogen.cli.json_output import print_json
from pmitogen.errors import Error
from pmitogen.util.peer_text import escape
from pmitogen.util.sizes import format_count, progress

FIELDS = ("pid", "run", "age", "hosts", "busy", "workers")


def run(options: argparse.Namespace) -> int:
    """List the hubs, or stop some. Returns 1 if a hub could not be queried."""
    if options.stop is not None:
        return _stop(options)
    if options.all:
        raise CommandLineError("--all: use it with --stop", ORIGIN)
    from pmitogen.hub import client

    hubs, problems = client.list_hubs()
    if options.json:
        print_json([_as_object(hub) for hub in hubs])
    else:
        for hub in hubs:
            print(_line(hub))
            for transfer in _transfers(hub):
                print("  " + _transfer_line(transfer))
        if not hubs:
            print("no hub is running")
    for problem in problems:
        print(f"pmitogen hubs: {escape(problem)}", file=sys.stderr)
    return 1 if problems else 0


def _stop(options: argparse.Namespace) -> int:
    """Stop the hubs that are kept for a later run, one hub by its pid, or all."""
    from pmitogen.hub import client

    pid = None
    if options.stop != "kept":
        if not (options.stop.isascii() and options.stop.isdigit()):
            raise CommandLineError(f"--stop: invalid pid {options.stop!r}; pmitogen hubs lists the hubs", ORIGIN)
        if options.all:
            raise CommandLineError("--all: cannot be combined with the pid of one hub; remove one of them", ORIGIN)
        pid = int(options.stop)
    count = client.stop_hubs(pid, everything=options.all)
    if pid is not None and not count:
        raise Error(f"--stop: {pid}: no such hub of this account, or it did not end; pmitogen hubs lists the hubs")
    if options.json:
        print_json({"stopped": count})
    else:
        print(f"{format_count(count, 'hub')} ended")
    return 0


def _as_object(hub: Mapping[str, object]) -> dict[str, object]:
    """Return what ``--json`` prints of one hub."""
    return {**{name: hub.get(name) for name in FIELDS}, "transfers": _transfers(hub)}


def _line(hub: Mapping[str, object]) -> str:
    """Return the line for one hub, such as ``hub 812 of run 790: 3 hosts, 1 busy, 12 s old``."""
    numbers = {name: _number(hub.get(name)) for name in FIELDS}
    owner = f"of run {numbers['run']}" if numbers["run"] else "kept for a later run"
    hosts = format_count(numbers["hosts"], "host")
    return f"hub {numbers['pid']} {owner}: {hosts}, {numbers['busy']} busy, {numbers['age']} s old"


def _transfers(hub: Mapping[str, object]) -> list[dict[str, object]]:
    """Return the transfers under way, from a hub's answer."""
    given = hub.get("transfers")
    return [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []


def _transfer_line(transfer: Mapping[str, object]) -> str:
    """Return the line for one transfer, such as ``web1: put /srv/image: 1.2 GB of 4.0 GB (30 %)``."""
    host, verb, path = (escape(str(transfer.get(name))) for name in ("host", "action", "path"))
    return f"{host}: {verb} {path}: {progress(_number(transfer.get('transferred')), _number(transfer.get('size')))}"


def _number(value: object) -> int:
    """Return *value*, from a hub's answer, as an int; 0 if it is not a number."""
    return int(value) if isinstance(value, (int, float)) and abs(value) < 1e15 else 0
