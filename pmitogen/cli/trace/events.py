"""Read the events of a timeline into one :class:`Work` for each worker process, that is for one task on one host.

A file may contain anything, so every value is checked here; an invalid event is left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pmitogen.util.peer_text import escape

_PREPARING = ("options", "prepare", "payload")
_INSIDE = ("wire", "start", "module")  # parts of a request
STAGES = {
    "connect": "log in and start Python",
    "prepare": "Ansible prepares the task",
    "wire": "network and hub",
    "start": "start the module's process",
    "module": "the module runs",
    "other": "files, raw commands",
    "result": "Ansible takes the result",
}
_CONNECTION = 0  # the row of a host's own events


@dataclasses.dataclass(frozen=True)
class Span:
    """A named period of time, in seconds on the timeline."""

    name: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return self.end - self.start


@dataclasses.dataclass
class Work:
    """One task on one host, by one worker."""

    address: str
    host: str = ""  # the inventory's name, or the address
    task: str = ""
    task_id: str = ""
    spans: list[Span] = dataclasses.field(default_factory=list)  # the worker's own, and the parts of requests
    requests: list[Span] = dataclasses.field(default_factory=list)  # each is a round trip
    sent: int = 0  # bytes on the wire
    received: int = 0
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)  # by stage

    @property
    def start(self) -> float:
        """The start of the first span."""
        return min(span.start for span in self.spans + self.requests)

    @property
    def end(self) -> float:
        """The end of the last span."""
        return max(span.end for span in self.spans + self.requests)

    @property
    def other_requests(self) -> list[Span]:
        """The requests of which no parts are known: they run no module."""
        return [span for span in self.requests if not any(_is_within(part, span) for part in self.spans)]

    def measure(self, logins: list[Span]) -> None:
        """Add up the stages. *logins*: the steps of logins to its address; a request's wait for them is not network time."""
        inside = {name: sum(span.seconds for span in self.spans if span.name == name) for name in _INSIDE}
        whole = self.other_requests
        waited = sum(overlap(request, logins) for request in self.requests)
        other = sum(span.seconds - overlap(span, logins) for span in whole)
        wire = max(0.0, inside["wire"] - (waited - sum(overlap(span, logins) for span in whole)))
        prepare = sum(span.seconds for span in self.spans if span.name in _PREPARING)
        result = sum(span.seconds for span in self.spans if span.name == "result")
        stages = {"connect": waited, "prepare": prepare, "wire": wire, "other": other, "result": result}
        self.seconds = {**stages, "start": inside["start"], "module": inside["module"]}


def read_file(events: list[dict[str, Any]], logins: dict[str, list[Span]]) -> list[Work]:
    """Return the works in one file, and add the steps of logins to *logins*, by address."""
    works: list[Work] = []
    addresses: dict[Any, str] = {}
    open_works: dict[tuple[Any, Any], Work] = {}
    totals: dict[Any, tuple[int, int]] = {}
    for event in events:
        pid, tid, name = _key(event.get("pid")), _key(event.get("tid")), event.get("name")
        given = event.get("args")
        args = given if isinstance(given, Mapping) else {}
        span = _span(event)
        if name == "process_name" and event.get("ph") == "M":
            addresses[pid] = _text(args.get("name"))
        elif name == "thread_name" and event.get("ph") == "M" and tid != _CONNECTION:
            work = open_works.pop((pid, tid), None)
            if work is not None:
                work.host, work.task, work.task_id = (_text(args.get(key)) for key in ("host", "task", "task_id"))
                works.append(work)
        elif span is not None and tid == _CONNECTION:
            logins.setdefault(addresses.get(pid, "?"), []).append(span)
        elif span is not None:
            work = open_works.setdefault((pid, tid), Work(addresses.get(pid, "?")))
            if span.name in (*_PREPARING, *_INSIDE, "result"):
                work.spans.append(span)
                continue
            work.requests.append(span)
            now, before = (_count(args.get("sent")), _count(args.get("received"))), totals.get(pid, (0, 0))
            moved = tuple(n - b if n >= b else n for n, b in zip(now, before, strict=True))  # less: another connection
            work.sent, work.received, totals[pid] = work.sent + moved[0], work.received + moved[1], now
    works += open_works.values()  # of workers that were ended
    for work in works:
        work.host = work.host or work.address
        work.task = work.task or (work.requests[0].name if work.requests else "?")
    return works


def merged(spans: Iterable[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield the spans of time that are covered by any of *spans*, without overlap."""
    begun: tuple[float, float] | None = None
    for start, end in sorted(spans):
        if begun is not None and start <= begun[1]:
            begun = begun[0], max(begun[1], end)
            continue
        if begun is not None:
            yield begun
        begun = start, end
    if begun is not None:
        yield begun


def overlap(span: Span, others: Iterable[Span]) -> float:
    """Return the seconds of *span* that *others* cover."""
    covered = merged((other.start, other.end) for other in others)
    return sum(max(0.0, min(span.end, end) - max(span.start, start)) for start, end in covered)


def _is_within(part: Span, span: Span) -> bool:
    return part.name in _INSIDE and span.start <= part.start and part.end <= span.end + 0.001


def _span(event: Mapping[str, Any]) -> Span | None:
    start, length = _number(event.get("ts")), _number(event.get("dur"))
    if event.get("ph") != "X" or start is None or length is None or length < 0:
        return None
    return Span(_text(event.get("name")), start / 1e6, (start + length) / 1e6)


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and abs(value) < 1e18 else None  # not nan, not infinite


def _count(value: object) -> int:
    return max(0, int(_number(value) or 0))


def _text(value: Any) -> str:
    return escape(value, 100) if isinstance(value, str) else ""


def _key(value: Any) -> Any:
    return value if isinstance(value, (int, str)) else None
