"""The table of stages: how often each occurred in a run, and how long it took."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

from pmitogen.cli.trace.events import read_file

ROWS = (
    ("options", "worker: load the plugin, take the options"),
    ("prepare", "worker: Ansible builds the payload"),
    ("payload", "worker: parse and send the payload"),
    ("wire", "hub, network and agent, both directions"),
    ("start", "target: start the module's process"),
    ("module", "target: run the module"),
    ("other", "requests without a module: files, raw commands"),
    ("result", "worker: from the answer to the end of the task"),
)

CONNECTING = ("config", "resolve", "tcp", "proxy", "version", "kex", "auth", "channel", "python")  # the steps of a login
_CONNECTING = "connecting: "  # before each of them in the table


def summary(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return count, median, mean and total in seconds for each kind of span that occurs."""
    spans: dict[str, list[float]] = collections.defaultdict(list)
    for event in events:
        if isinstance(event, dict) and event.get("ph") == "X" and isinstance(event.get("dur"), (int, float)):
            spans[str(event.get("name"))].append(event["dur"] / 1e6)
    works = read_file([event for event in events if isinstance(event, dict)], {})
    spans["other"] = [span.seconds for work in works for span in work.other_requests]
    rows = [*ROWS, *((name, f"{_CONNECTING}{name}") for name in CONNECTING)]
    return [_stage(name, title, sorted(spans[name])) for name, title in rows if spans.get(name)]


def _stage(name: str, title: str, ordered: Sequence[float]) -> dict[str, Any]:
    total, count = sum(ordered), len(ordered)
    numbers = {"median_seconds": ordered[count // 2], "mean_seconds": total / count, "total_seconds": total}
    return {"name": name, "title": title, "count": count, **{key: round(value, 6) for key, value in numbers.items()}}


def table(events: Sequence[dict[str, Any]]) -> str:
    """Return the same as text: a line for each kind of span, the total of all workers, and the steps of connecting.

    Requests wait for the connection, so its time is in ``wire`` and ``other`` already and not added to the total.
    """
    stages = summary(events)
    connecting = [stage for stage in stages if stage["title"].startswith(_CONNECTING)]
    work = [stage for stage in stages if stage not in connecting]
    total = sum(stage["total_seconds"] for stage in work)
    return "\n".join(
        [
            f"{'stage':58} {'count':>6} {'median ms':>10} {'mean ms':>9} {'total ms':>10}",
            *map(_line, work),
            f"{'total of all workers':58} {'':6} {'':10} {'':9} {1000 * total:10.1f}",
            *map(_line, connecting),
        ]
    )


def _line(stage: dict[str, Any]) -> str:
    median, mean, total = (1000 * stage[f"{name}_seconds"] for name in ("median", "mean", "total"))
    return f"{stage['title']:58} {stage['count']:6} {median:10.2f} {mean:9.2f} {total:10.1f}"
