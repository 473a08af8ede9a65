"""Measurements: runs, their medians, and both as JSON."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

METRICS = ("wall", "cpu", "target_cpu", "peak_mb", "up", "down", "direction_changes", "connections")


@dataclass
class Cell:
    """The measurements of one case with one contender."""

    runs: list[dict[str, Any]] = field(default_factory=list)  # straight, or all if the case has latency
    relayed: list[dict[str, Any]] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return any(run["code"] for run in (*self.runs, *self.relayed))

    def median(self, metric: str) -> float | None:
        """The median of a metric over the runs that have it; None if none has, or one failed."""
        values = [run[metric] for run in self.runs if metric in run] or [run[metric] for run in self.relayed if metric in run]
        return statistics.median(values) if values and not self.failed else None


@dataclass
class Results:
    """``cells[case][contender]``; titles by name; seconds of each stage of a traced run; and the versions that were measured."""

    core: str
    cases: dict[str, str] = field(default_factory=dict)
    contenders: dict[str, str] = field(default_factory=dict)
    cells: dict[str, dict[str, Cell]] = field(default_factory=dict)
    stages: dict[str, dict[str, float]] = field(default_factory=dict)  # of pmitogen, by case
    load: tuple[float, float] = (0.0, 0.0)  # of the machine in the last minute, before and after

    def value(self, case: str, contender: str, metric: str) -> float | None:
        cell = self.cells.get(case, {}).get(contender)
        return cell.median(metric) if cell else None

    def ratio(self, case: str, contender: str, to: str, metric: str = "wall") -> float | None:
        ours, theirs = self.value(case, contender, metric), self.value(case, to, metric)
        return ours / theirs if ours is not None and theirs else None

    def rows(self) -> Iterator[tuple[str, str]]:
        """(case, contender) of every cell, in the order of the runs."""
        for case in self.cells:
            for contender in self.contenders:
                if contender in self.cells[case]:
                    yield case, contender

    def save(self, path: Path) -> None:
        medians = {
            case: {contender: {metric: self.value(case, contender, metric) for metric in METRICS} for contender in contenders}
            for case, contenders in self.cells.items()
        }
        runs = {
            case: {contender: {"runs": cell.runs, "relayed": cell.relayed} for contender, cell in contenders.items()}
            for case, contenders in self.cells.items()
        }
        machine = {"ansible-core": self.core, "python": platform.python_version(), "system": platform.system(), "load": self.load}
        text = json.dumps(
            {
                "with": machine,
                "cases": self.cases,
                "contenders": self.contenders,
                "medians": medians,
                "stages": self.stages,
                "runs": runs,
            },
            indent=1,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
