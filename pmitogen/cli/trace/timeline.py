"""The timeline of a run: the time of each task on each host, and of its parts.

Times are seconds since the first event.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable
from typing import Any

from pmitogen.cli.trace.events import STAGES, Span, Work, merged, read_file
from pmitogen.util.sizes import format_bytes, format_count


@dataclasses.dataclass
class Timeline:
    """The timeline of a whole run. *logins*: the steps of each login, by address."""

    works: list[Work]
    logins: dict[str, list[Span]]

    @classmethod
    def read(cls, files: Iterable[list[dict[str, Any]]]) -> Timeline:
        """Return the timeline in the events of all files of a run."""
        made = cls([], {})
        for events in files:
            made.works += read_file(events, made.logins)
        spans = [span for work in made.works for span in work.spans + work.requests]
        first = min((span.start for span in [*spans, *(step for steps in made.logins.values() for step in steps)]), default=0.0)
        made.logins = {name: [_shifted(step, first) for step in steps] for name, steps in made.logins.items()}
        for work in made.works:
            work.spans, work.requests = ([_shifted(span, first) for span in each] for each in (work.spans, work.requests))
            work.measure(made.logins.get(work.address, []))
        made.works.sort(key=lambda work: work.start)
        return made

    @property
    def seconds(self) -> float:
        """From the first event to the last."""
        steps = [step for steps in self.logins.values() for step in steps]
        return max((span.end for span in [*steps, *(Span("", work.start, work.end) for work in self.works)]), default=0.0)

    @property
    def between(self) -> float:
        """Seconds without a busy worker: the time of Ansible itself, between tasks."""
        return max(0.0, self.seconds - sum(end - start for start, end in merged((work.start, work.end) for work in self.works)))

    @property
    def max_parallel(self) -> int:
        """The highest number of workers that were busy at the same time."""
        edges = sorted([(work.start, 1) for work in self.works] + [(work.end, -1) for work in self.works])
        most = now = 0
        for _, step in edges:
            now += step
            most = max(most, now)
        return most

    def by_host(self) -> dict[str, list[Work]]:
        """Return the works of each host, in the order of their first."""
        return _grouped((work.host, work) for work in self.works)

    def tasks(self) -> list[list[Work]]:
        """Return the works of each task, in the order of the run. Two tasks of one name are two."""
        return list(_grouped(((work.task_id, work.task), work) for work in self.works).values())

    def totals(self) -> dict[str, float]:
        """Return the seconds of each stage, over all hosts."""
        return {stage: sum(work.seconds[stage] for work in self.works) for stage in STAGES}

    def waited(self) -> dict[str, float]:
        """Return the seconds that each host waited for the others: from its end of a task to the last host's."""
        waits = dict.fromkeys(self.by_host(), 0.0)
        for works in self.tasks():
            last, ends = max(work.end for work in works), {work.host: work.end for work in works}
            for host, end in ends.items():
                waits[host] += last - end
        return waits

    def summary(self) -> str:
        """Return the whole run in one line."""
        sent, received = (sum(getattr(work, name) for work in self.works) for name in ("sent", "received"))
        return (
            f"{format_time(self.seconds)}, {format_count(len(self.by_host()), 'host')},"
            f" {format_count(len(self.tasks()), 'task')},"
            f" {format_count(sum(len(work.requests) for work in self.works), 'round trip')},"
            f" {format_bytes(sent)} sent, {format_bytes(received)} received"
        )

    def describe(self) -> dict[str, Any]:
        """Return the figures as JSON has them, times in seconds."""
        waited = self.waited()
        return {
            "seconds": _rounded(self.seconds),
            "between_tasks_seconds": _rounded(self.between),
            "round_trips": sum(len(work.requests) for work in self.works),
            "tasks": [{"task": works[0].task, "hosts": len(works), **_figures(works)} for works in self.tasks()],
            "hosts": [
                {"host": host, "waited_seconds": _rounded(waited[host]), **_figures(works)}
                for host, works in self.by_host().items()
            ],
        }


def _figures(works: list[Work]) -> dict[str, Any]:
    return {
        "seconds": _rounded(max(work.end for work in works) - min(work.start for work in works)),
        "round_trips": sum(len(work.requests) for work in works),
        "bytes_sent": sum(work.sent for work in works),
        "bytes_received": sum(work.received for work in works),
        **{f"{stage}_seconds": _rounded(sum(work.seconds[stage] for work in works)) for stage in STAGES},
    }


def format_time(seconds: float) -> str:
    """Return a duration as text, in seconds or milliseconds."""
    return f"{seconds:.1f} s" if seconds >= 10 else f"{seconds:.2f} s" if seconds >= 0.995 else f"{1000 * seconds:.0f} ms"


def median(values: Iterable[float]) -> float:
    """Return the median; 0 without values."""
    return statistics.median([*values] or [0.0])


def _grouped(pairs: Iterable[tuple[Any, Work]]) -> dict[Any, list[Work]]:
    groups: dict[Any, list[Work]] = {}
    for key, work in pairs:
        groups.setdefault(key, []).append(work)
    return groups


def _shifted(span: Span, by: float) -> Span:
    return Span(span.name, span.start - by, span.end - by)


def _rounded(seconds: float) -> float:
    """Return *seconds* to the microsecond, which is the timeline's own unit."""
    return round(seconds, 6)
