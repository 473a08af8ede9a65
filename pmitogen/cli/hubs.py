"""``pmitogen hubs``: the processes that hold the connections of this user's runs."""

from __future__ import annotations

import argparse
import json


def run(options: argparse.Namespace) -> int:
    """List the hubs, or end them."""
    from pmitogen.hub import client

    if options.stop:
        count = client.stop_hub()
        print(json.dumps({"stopped": count}) if options.json else f"{_counted(count)} ended")
        return 0
    hubs = client.list_hubs()
    if options.json:
        wanted = ("pid", "run", "hosts", "age")
        print(json.dumps([{name: hub.get(name) for name in wanted} for hub in hubs], indent=2))
        return 0
    for hub in hubs:
        print(_line(hub))
    if not hubs:
        print("no hub is running")
    return 0


def _counted(count: int) -> str:
    return "1 hub" if count == 1 else f"{count} hubs"


def _line(hub: dict[str, object]) -> str:
    hosts = hub.get("hosts")
    held = ", ".join(map(str, hosts)) if isinstance(hosts, (list, tuple)) else str(hosts)
    age = hub.get("age")
    since = f"{age:.0f} s old" if isinstance(age, (int, float)) else "of unknown age"
    return f"hub {hub.get('pid')} of run {hub.get('run')}, {since}: {held or 'no connection'}"
