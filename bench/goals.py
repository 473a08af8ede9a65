"""The goals of pmitogen's speed: each is a ratio to another contender, or an absolute limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .results import Results


@dataclass(frozen=True)
class Goal:
    """pmitogen's *metric* in *case* is at most *limit* (times that of contender *to*, if given)."""

    case: str
    metric: str
    limit: float
    to: str | None = None

    def __str__(self) -> str:
        what = {
            "wall": "wall time",
            "cpu": "CPU",
            "up": "KB up",
            "direction_changes": "direction changes",
            "peak_mb": "MB at most",
        }[self.metric]
        return f"{what} at most {self.limit:g}" + (f" times that of {self.to}" if self.to else "")


GOALS = (
    Goal("hostname", "wall", 0.65, "mitogen"),
    Goal("hostname", "wall", 0.17, "ssh"),
    Goal("hostname", "up", 150),
    Goal("hostname", "direction_changes", 220),
    Goal("hostname", "cpu", 0.5, "ssh"),
    Goal("mix-far", "wall", 0.55, "mitogen"),
    Goal("mix-far", "up", 250),
    Goal("mix-far", "direction_changes", 44),
    Goal("mix", "wall", 0.65, "mitogen"),
    Goal("hosts", "wall", 0.5, "mitogen"),
    Goal("hosts", "wall", 0.2, "ssh"),
    Goal("hosts", "cpu", 0.5, "ssh"),
    Goal("copy", "wall", 0.8, "ssh"),
    Goal("cold", "wall", 0.9, "ssh"),
)


def judged(results: Results) -> Iterator[tuple[Goal, float, bool]]:
    """(goal, what was reached, whether that will do), of the goals that were measured."""
    for goal in GOALS:
        if goal.to:
            reached = results.ratio(goal.case, "pmitogen", goal.to, goal.metric)
        else:
            reached = results.value(goal.case, "pmitogen", goal.metric)
            if reached is not None and goal.metric == "up":
                reached /= 1000
        if reached is not None:
            yield goal, reached, reached <= goal.limit
