"""``pmitogen hubs``: the processes that hold the connections of this user's runs."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping

from pmitogen.cli.errors import PLACE, WrongWords
from pmitogen.errors import Error
from pmitogen.util.peer_text import escape

_WANTED = ("pid", "run", "age", "hosts", "busy", "workers")


def run(options: argparse.Namespace) -> int:
    """List the hubs, or end some."""
    if options.stop is not None:
        return _stop(options)
    if options.all:
        raise WrongWords(f"{PLACE}: --all: goes with --stop")
    from pmitogen.hub import client

    hubs, problems = client.list_hubs()
    if options.json:
        print(json.dumps([{name: hub.get(name) for name in _WANTED} for hub in hubs], indent=2))
    else:
        for hub in hubs:
            print(_line(hub))
        if not hubs:
            print("no hub is running")
    for problem in problems:
        print(f"pmitogen hubs: {escape(problem)}", file=sys.stderr)
    return 1 if problems else 0


def _stop(options: argparse.Namespace) -> int:
    """End those kept for a later run, one by its pid, or all."""
    from pmitogen.hub import client

    pid = None
    if options.stop != "kept":
        if not (options.stop.isascii() and options.stop.isdigit()):
            raise WrongWords(f"{PLACE}: --stop: {options.stop}: not the pid of a hub; pmitogen hubs lists them")
        if options.all:
            raise WrongWords(f"{PLACE}: --all: goes with --stop alone, not with the pid of one hub")
        pid = int(options.stop)
    count = client.stop_hubs(pid, everything=options.all)
    if pid is not None and not count:
        raise Error(f"--stop: {pid}: no hub of this account has this pid; pmitogen hubs lists them")
    print(json.dumps({"stopped": count}) if options.json else f"{_counted(count, 'hub')} ended")
    return 0


def _line(hub: Mapping[str, object]) -> str:
    """``hub 812 of run 790: 3 hosts, 1 busy, 12 s old``; of one whose run has ended, that it waits for another."""
    numbers = {name: _number(hub.get(name)) for name in _WANTED}
    whose = f"of run {numbers['run']}" if numbers["run"] else "kept for a later run"
    hosts = _counted(numbers["hosts"], "host")
    return f"hub {numbers['pid']} {whose}: {hosts}, {numbers['busy']} busy, {numbers['age']} s old"


def _number(value: object) -> int:
    """A number of a hub's answer; 0 for anything else that it sends."""
    return int(value) if isinstance(value, (int, float)) and abs(value) < 1e15 else 0


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
