"""Render the timeline of a run as one HTML page, without scripts and without requests to the network.

It has names of hosts, tasks and modules, which a target may have chosen. They are escaped by peer_text when the timeline is read,
and as HTML here. In addition, a Content-Security-Policy forbids scripts and requests.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

import pmitogen
from pmitogen.cli.trace.advice import advise
from pmitogen.cli.trace.events import STAGES, Work
from pmitogen.cli.trace.page_bars import CSS_COLOURS, rows
from pmitogen.cli.trace.timeline import Timeline, format_time
from pmitogen.util.sizes import format_bytes

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Timeline of a run</title><style>
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 90rem; padding: 1rem; }
h1 { font-size: 1.5rem; margin: .2rem 0; } h2 { font-size: 1.15rem; margin: 1.6rem 0 .4rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .45rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { font-weight: 600; } td.name, th.name { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 14rem; }
.host { display: inline-block; max-width: 8rem; overflow: hidden; text-overflow: ellipsis; vertical-align: bottom; }
.row { display: flex; align-items: center; margin: 2px 0; } .row > b { flex: 0 0 9rem; font-weight: 400; overflow: hidden;
 text-overflow: ellipsis; white-space: nowrap; padding-right: .5rem; font-size: .85rem; }
.track { position: relative; flex: 1; height: 16px; background: var(--soft); }
.track i { position: absolute; top: 0; height: 100%; min-width: 1px; font: 10px/16px system-ui; overflow: hidden;
 text-align: center; color: #000; }
.axis { color: #888; height: 16px; background: none; } .axis i { color: inherit; overflow: visible; }
.bar { display: inline-block; height: .8em; vertical-align: baseline; } .key { display: inline-block; width: .9em; height: .9em; }
.stack { display: flex; height: 22px; margin-bottom: .5rem; } .legend > span { margin-right: 1rem; white-space: nowrap; }
@media (max-width: 600px) { .row > b { flex-basis: 5rem; } body { padding: .6rem; } td.name, th.name { min-width: 8rem; }
 .axis i:nth-child(even) { display: none; } }
"""


def render(timeline: Timeline, files: Sequence[str]) -> str:
    """Return the page. *files*: the names of the files that the timeline was read from."""
    return "\n".join([_HEAD + CSS_COLOURS + "</style></head><body>", *_body(timeline, files), "</body></html>\n"])


def _body(timeline: Timeline, files: Sequence[str]) -> Iterator[str]:
    yield "<h1>Timeline of a run</h1>"
    yield f"<p>{_escape(', '.join(files))}: {timeline.summary()}.</p>"
    yield "<h2>What to do</h2><ul>"
    yield from (f"<li>{_escape(text)}</li>" for text in advise(timeline))
    yield "</ul><h2>Where the time went</h2>"
    yield from _stages(timeline)
    yield "<h2>Timeline</h2><p>A row for each host; point at a bar for its task and duration.</p>"
    yield from rows(timeline)
    yield "<h2>Tasks</h2>"
    yield from _tasks(timeline)
    yield "<h2>Hosts</h2>"
    yield from _hosts(timeline)
    yield f"<p><small>pmitogen {_escape(pmitogen.__version__)}</small></p>"


def _stages(timeline: Timeline) -> Iterator[str]:
    totals = timeline.totals()
    whole = sum(totals.values()) or 1.0
    yield '<div class="stack">'
    for stage, seconds in totals.items():
        yield f'<i class="{stage}" style="width:{100 * seconds / whole:.2f}%" title="{_escape(STAGES[stage])}"></i>'
    yield '</div><div class="wide"><table><tr><th class="name">stage<th>all hosts<th>share</tr>'
    for stage, seconds in totals.items():
        name = f'<span class="key {stage}"></span> {_escape(STAGES[stage])}'
        yield f'<tr><td class="name">{name}<td>{format_time(seconds)}<td>{100 * seconds / whole:.0f} %</tr>'
    yield "</table></div>"
    share = 100 * timeline.between / (timeline.seconds or 1.0)
    yield f"<p>In {format_time(timeline.between)} of the run ({share:.0f} %) no host had a task: Ansible itself was at work.</p>"


def _tasks(timeline: Timeline) -> Iterator[str]:
    heads = "duration", "slowest host", "hosts", "round trips", "sent", "received", *STAGES
    yield '<div class="wide"><table><tr><th>#<th class="name">task' + "".join(f"<th>{head}" for head in heads) + "</tr>"
    tasks = timeline.tasks()
    longest = max((_duration(works) for works in tasks), default=0.0) or 1.0
    for index, works in enumerate(tasks, 1):
        worst = max(works, key=lambda work: work.end - work.start)
        host, lasted = _escape(worst.host), _duration(works)
        bar = f'<i class="bar module" style="width:{4 * lasted / longest:.2f}rem"></i> {format_time(lasted)}'
        cells = [
            bar,
            f'<span class="host" title="{host}">{host}</span> {format_time(worst.end - worst.start)}',
            len({work.host for work in works}),
            sum(len(work.requests) for work in works),
            format_bytes(sum(work.sent for work in works)),
            format_bytes(sum(work.received for work in works)),
            *(format_time(sum(work.seconds[stage] for work in works)) for stage in STAGES),
        ]
        yield _row(f'<td>{index}<td class="name">{_escape(works[0].task)}', cells)
    yield "</table></div>"


def _hosts(timeline: Timeline) -> Iterator[str]:
    heads = "address", "tasks", "round trips", "sent", "received", "waited for others", *STAGES
    yield '<div class="wide"><table><tr><th class="name">host' + "".join(f"<th>{head}" for head in heads) + "</tr>"
    waited = timeline.waited()
    for host, works in timeline.by_host().items():
        cells = [
            _escape(works[0].address),
            len({(work.task_id, work.task) for work in works}),
            sum(len(work.requests) for work in works),
            format_bytes(sum(work.sent for work in works)),
            format_bytes(sum(work.received for work in works)),
            format_time(waited[host]),
            *(format_time(sum(work.seconds[stage] for work in works)) for stage in STAGES),
        ]
        yield _row(f'<td class="name">{_escape(host)}', cells)
    yield "</table></div>"


def _row(first: str, cells: Sequence[object]) -> str:
    return f"<tr>{first}" + "".join(f"<td>{cell}" for cell in cells) + "</tr>"


def _duration(works: Sequence[Work]) -> float:
    return max(work.end for work in works) - min(work.start for work in works)


def _escape(text: str) -> str:
    return html.escape(text, quote=True)
