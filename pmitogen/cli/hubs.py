"""``pmitogen hubs``: the processes that hold the connections of this user's runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping

_WANTED = ("pid", "run", "age", "hosts", "busy", "workers")


def run(options: argparse.Namespace) -> int:
    """List the hubs, or end them."""
    from pmitogen.hub import client

    if options.stop:
        count = client.stop_hub()
        print(json.dumps({"stopped": count}) if options.json else f"{_counted(count, 'hub')} ended")
        return 0
    hubs = client.list_hubs()
    if options.json:
        print(json.dumps([{name: hub.get(name) for name in _WANTED} for hub in hubs], indent=2))
        return 0
    for hub in hubs:
        print(_line(hub))
    if not hubs:
        print("no hub is running")
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
