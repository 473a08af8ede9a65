"""What was measured: runs, their medians, and both as JSON."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

METRICS = ("wall", "cpu", "peak_mb", "up", "down", "turns", "connections")


@dataclass
class Cell:
    """One case as one column played it."""

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
    """``cells[case][column]``; titles by name; and what it was all measured with."""

    core: str
    cases: dict[str, str] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    cells: dict[str, dict[str, Cell]] = field(default_factory=dict)

    def value(self, case: str, column: str, metric: str) -> float | None:
        cell = self.cells.get(case, {}).get(column)
        return cell.median(metric) if cell else None

    def ratio(self, case: str, column: str, to: str, metric: str = "wall") -> float | None:
        ours, theirs = self.value(case, column, metric), self.value(case, to, metric)
        return ours / theirs if ours is not None and theirs else None

    def rows(self) -> Iterator[tuple[str, str]]:
        """(case, column) of every cell, in the order they were played."""
        for case in self.cells:
            for column in self.columns:
                if column in self.cells[case]:
                    yield case, column

    def save(self, path: Path) -> None:
        medians = {
            case: {column: {metric: self.value(case, column, metric) for metric in METRICS} for column in columns}
            for case, columns in self.cells.items()
        }
        runs = {
            case: {column: {"runs": cell.runs, "relayed": cell.relayed} for column, cell in columns.items()}
            for case, columns in self.cells.items()
        }
        machine = {"ansible-core": self.core, "python": platform.python_version(), "system": platform.system()}
        text = json.dumps(
            {"with": machine, "cases": self.cases, "columns": self.columns, "medians": medians, "runs": runs}, indent=1
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
