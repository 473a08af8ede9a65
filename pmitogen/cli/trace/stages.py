"""The table of stages: how often each occurred in a run, and how long it took."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from typing import Any

ROWS = (
    ("options", "worker: load the plugin, take the options"),
    ("prepare", "worker: Ansible builds the payload"),
    ("payload", "worker: parse and send the payload"),
    ("wire", "hub, network and agent, both directions"),
    ("start", "target: start the module's process"),
    ("module", "target: run the module"),
    ("result", "worker: from the answer to the end of the task"),
)

CONNECTING = ("resolve", "tcp", "proxy", "kex", "auth", "python")  # the steps of a login


def stages(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return count, median, mean and total in milliseconds for each kind of span that occurs."""
    spans: dict[str, list[float]] = collections.defaultdict(list)
    for event in events:
        if isinstance(event, dict) and event.get("ph") == "X" and isinstance(event.get("dur"), (int, float)):
            spans[str(event.get("name"))].append(event["dur"] / 1000)
    rows = [*ROWS, *((name, f"connecting: {name}") for name in CONNECTING)]
    return [_stage(name, title, sorted(spans[name])) for name, title in rows if spans.get(name)]


def _stage(name: str, title: str, ordered: Sequence[float]) -> dict[str, Any]:
    total, count = sum(ordered), len(ordered)
    numbers = {"median_ms": ordered[count // 2], "mean_ms": total / count, "total_ms": total}
    return {"name": name, "title": title, "count": count, **{key: round(value, 3) for key, value in numbers.items()}}


def table(events: Iterable[dict[str, Any]]) -> str:
    """Return the same as text, a line for each kind of span."""
    lines = [f"{'stage':58} {'count':>6} {'median ms':>10} {'mean ms':>9} {'total ms':>10}"]
    form = "{title:58} {count:6} {median_ms:10.2f} {mean_ms:9.2f} {total_ms:10.1f}"
    return "\n".join([*lines, *(form.format(**stage) for stage in stages(events))])
