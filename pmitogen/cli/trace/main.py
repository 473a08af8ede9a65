"""``pmitogen trace [--json] [--html PAGE] FILE...``: read the timelines of a run and print a table, JSON or a page.

A timeline is checked like any other input: the names in it may be those of a target, and the file may be damaged.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from pmitogen.cli.errors import CommandLineError
from pmitogen.cli.json_output import print_json
from pmitogen.cli.trace import advice, page, stages
from pmitogen.cli.trace.timeline import Timeline
from pmitogen.errors import Error, UsageError
from pmitogen.util.atomic_file import atomic_write


def run(options: argparse.Namespace) -> int:
    """Show one result for all files; a run writes a file for each of its hubs."""
    if options.json and options.html:
        raise CommandLineError("--html: cannot be combined with --json; remove one of them", "command line")
    files = [_events(file) for file in options.files]
    every = [event for events in files for event in events]
    if options.html:
        _write(options.html, page.render(Timeline.read(files), options.files))
    elif options.json:
        timeline = Timeline.read(files)
        result = {"stages": stages.summary(every), **timeline.describe(), "advice": advice.advise(timeline)}
        print_json(result)
    else:
        print(stages.table(every))
        print(Timeline.read(files).summary())
    return 0


def _write(path: str, text: str) -> None:
    try:
        with atomic_write(path, lambda: 0o600) as stream:  # the mode of the timeline file
            stream.write(text.encode("utf-8", "backslashreplace"))
    except OSError as exc:
        raise Error(f"--html: {path}: {(exc.strerror or str(exc)).lower()}") from None


def _events(file: str) -> list[dict[str, Any]]:
    try:
        with open(file) as stream:
            events = json.load(stream)["traceEvents"]
        if not isinstance(events, list):
            raise TypeError
    except OSError as exc:
        raise UsageError(f"{file}: {(exc.strerror or str(exc)).lower()}") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(f"{file}: not a pmitogen trace file; a run with PMITOGEN_TRACE=FILE writes one") from None
    return [event for event in events if isinstance(event, dict)]
