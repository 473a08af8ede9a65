"""Seconds of each stage of a run, from the timeline that ``PMITOGEN_TRACE`` has it write."""

from __future__ import annotations

import json
from pathlib import Path

NAMES = frozenset(("options", "prepare", "payload", "wire", "start", "module", "result"))


def read(path: Path) -> dict[str, float]:
    """Add up the spans of each stage; nothing if there is no timeline. The file is removed."""
    if not path.exists():
        return {}
    found: dict[str, float] = {}
    for event in json.loads(path.read_text())["traceEvents"]:
        if event.get("ph") == "X" and event["name"] in NAMES:
            found[event["name"]] = found.get(event["name"], 0.0) + event["dur"] / 1e6
    path.unlink()
    return found
