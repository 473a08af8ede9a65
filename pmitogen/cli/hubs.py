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
    age = hub.get("age")
    seconds = age if isinstance(age, (int, float)) else 0
    whose = f"of run {hub['run']}" if hub["run"] else "kept for a later run"
    return f"hub {hub['pid']} {whose}: {_counted(hub['hosts'], 'host')}, {hub['busy']} busy, {seconds:.0f} s old"


def _counted(count: object, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
