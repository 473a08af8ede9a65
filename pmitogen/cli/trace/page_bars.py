"""Render the bars of the page: a row for each host, a bar for each part of its tasks, and one row that names the tasks.

Rows and bars are limited, because a browser cannot show those of a large run. The page tells how many are shown.
"""

from __future__ import annotations

import html
from collections.abc import Iterator

from pmitogen.cli.trace.events import STAGES, Work
from pmitogen.cli.trace.timeline import Timeline, format_time

MAX_ROWS = 300
MAX_BARS = 20_000  # then each task of a host is one bar

_COLOURS = {
    "connect": "#b58bd8",
    "prepare": "#c9b458",
    "wire": "#6a9bd1",
    "start": "#8fd0c8",
    "module": "#d9622b",
    "other": "#5fa968",
    "result": "#a7a7a7",
    "even": "#b9c4d0",
    "odd": "#93a4b5",
}
CSS_COLOURS = "".join(f".{name} {{ background: {colour}; }} " for name, colour in _COLOURS.items())
_STAGE_OF = {"options": "prepare", "prepare": "prepare", "payload": "prepare"}


def rows(timeline: Timeline) -> Iterator[str]:
    """Yield the lines of the timeline."""
    whole, hosts = timeline.seconds or 1.0, timeline.by_host()
    parts = sum(len(work.spans) + len(work.requests) for work in timeline.works)
    yield (
        '<div class="legend">'
        + "".join(f'<span><span class="key {stage}"></span> {title}</span>' for stage, title in STAGES.items())
        + "</div>"
    )
    yield '<div class="row"><b title="since the first event">time</b><div class="track axis">'
    yield from (f'<i style="left:{25 * quarter}%">{format_time(whole * quarter / 4)}</i>' for quarter in range(4))
    yield f'<i style="right:0">{format_time(whole)}</i>'
    yield '</div></div><div class="row"><b title="number of the task">task</b><div class="track">'
    for index, works in enumerate(timeline.tasks(), 1):
        start, end = min(work.start for work in works), max(work.end for work in works)
        yield _bar("odd" if index % 2 else "even", start, end, whole, f"{index}: {works[0].task}", str(index))
    yield "</div></div>"
    for host in list(hosts)[:MAX_ROWS]:
        yield f'<div class="row"><b title="{html.escape(host)}">{html.escape(host)}</b><div class="track">'
        for work in hosts[host]:
            yield from _bars(work, timeline, whole) if parts <= MAX_BARS else [_work_bar(work, whole)]
        yield "</div></div>"
    if len(hosts) > MAX_ROWS:
        yield f"<p>The first {MAX_ROWS} of {len(hosts)} hosts; the tables below have them all.</p>"
    if parts > MAX_BARS:
        yield "<p>This run has many tasks: each task of a host is one bar, in the colour of its longest stage.</p>"


def _bars(work: Work, timeline: Timeline, whole: float) -> Iterator[str]:
    """Yield the bars of a work: its requests, on top of them the login, and on top of both the parts of requests."""
    timed = [span for span in work.spans if span.name == "module"]
    for request in work.requests:
        has_module = any(request.start <= span.start <= request.end for span in timed)
        yield _bar("wire" if has_module else "other", request.start, request.end, whole, f"{work.task}: {request.name}")
        for step in timeline.logins.get(work.address, ()):
            if step.start < request.end and request.start < step.end:
                start, end = max(step.start, request.start), min(step.end, request.end)
                yield _bar("connect", start, end, whole, f"log in: {step.name}")
    for span in work.spans:
        if span.name != "wire":
            yield _bar(_STAGE_OF.get(span.name, span.name), span.start, span.end, whole, f"{work.task}: {span.name}")


def _work_bar(work: Work, whole: float) -> str:
    return _bar(max(work.seconds, key=lambda stage: work.seconds[stage]), work.start, work.end, whole, work.task)


def _bar(kind: str, start: float, end: float, whole: float, title: str, text: str = "") -> str:
    place = f"left:{100 * start / whole:.3f}%;width:{100 * (end - start) / whole:.3f}%"
    return f'<i class="{kind}" style="{place}" title="{html.escape(title)}, {1000 * (end - start):.1f} ms">{text}</i>'
