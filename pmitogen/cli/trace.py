"""``pmitogen trace FILE...``: summarise the timelines that a run with ``PMITOGEN_TRACE=FILE`` has written."""

from __future__ import annotations

import argparse
import collections
import json
from collections.abc import Iterable
from typing import Any

from pmitogen.errors import UsageError

ROWS = (
    ("options", "worker: load the plugin, take the options"),
    ("prepare", "worker: Ansible builds the payload"),
    ("payload", "worker: parse and send the payload"),
    ("wire", "hub, network and agent, both directions"),
    ("start", "target: start the module's process"),
    ("module", "target: run the module"),
    ("result", "worker: from the answer to the end of the task"),
)


def run(options: argparse.Namespace) -> int:
    """Print one table for all files; a run writes a file for each of its hubs."""
    events: list[dict[str, Any]] = []
    for file in options.files:
        try:
            with open(file) as stream:
                events += json.load(stream)["traceEvents"]
        except OSError as exc:
            raise UsageError(f"{file}: {(exc.strerror or str(exc)).lower()}") from None
        except (ValueError, KeyError, TypeError, RecursionError):
            raise UsageError(f"{file}: not a pmitogen trace file; a run with PMITOGEN_TRACE=FILE writes one") from None
    print(table(events))
    return 0


def table(events: Iterable[dict[str, Any]]) -> str:
    """Return the table as text: count, median, mean and total in milliseconds for each kind of span."""
    spans: dict[str, list[float]] = collections.defaultdict(list)
    for event in events:
        if isinstance(event, dict) and event.get("ph") == "X" and isinstance(event.get("dur"), (int, float)):
            spans[str(event.get("name"))].append(event["dur"] / 1000)
    lines = [f"{'stage':58} {'count':>6} {'median ms':>10} {'mean ms':>9} {'total ms':>10}"]
    for name, title in ROWS:
        if spans.get(name):
            lines.append(_line(title, spans[name]))
    for name in ("resolve", "tcp", "proxy", "kex", "auth", "python"):
        if spans.get(name):
            lines.append(_line(f"connecting: {name}", spans[name]))
    return "\n".join(lines)


def _line(title: str, times: list[float]) -> str:
    ordered = sorted(times)
    total = sum(ordered)
    return f"{title:58} {len(ordered):6} {ordered[len(ordered) // 2]:10.2f} {total / len(ordered):9.2f} {total:10.1f}"
