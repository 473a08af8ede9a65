"""What pmitogen adds to what cannot be avoided: rows computed from the medians of one run.

The *floor* is the same play with ``debug`` in place of each step. The time of the modules themselves is measured in the same run,
in one more play with ``PMITOGEN_TRACE``: each runs in a child of its own, of an interpreter that has imported what modules need.
(Under ``PMITOGEN_TARGET_PRELOAD=0`` that interpreter imports nothing ahead, and each module spends most of its time on imports.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .cases import HOSTNAMES, HOSTS, ITEMS, ROUND_TRIP
from .results import Results


@dataclass(frozen=True)
class Row:
    """*goal*: the most that is wanted; None if there is no goal. *compute* returns None if something was not measured."""

    title: str
    unit: str
    goal: float | None
    compute: Callable[[Results], float | None]


def _over_floor(results: Results, case: str, metric: str = "wall") -> float | None:
    return _less(results.value(case, "pmitogen", metric), results.value(case, "baseline", metric))


def _less(value: float | None, *others: float | None) -> float | None:
    if value is None or None in others:
        return None
    return value - sum(other for other in others if other is not None)


def _per(value: float | None, divisor: float | None) -> float | None:
    return value / divisor if value is not None and divisor else None


def _module(results: Results, case: str) -> float | None:
    """Seconds that the modules of *case* took together."""
    return results.stages.get(case, {}).get("module")


def _task_over_module(results: Results) -> float | None:
    return _per(_less(_over_floor(results, "hostname"), _module(results, "hostname")), HOSTNAMES / 1000)  # ms


def _loop_round_trips(results: Results) -> float | None:
    """What the latency adds to the loop alone: both plays begin with the same command."""
    far = _less(results.value("loop-far", "pmitogen", "wall"), results.value("cold-far", "pmitogen", "wall"))
    near = _less(results.value("loop", "pmitogen", "wall"), results.value("cold", "pmitogen", "wall"))
    return _per(_less(far, near), ROUND_TRIP)


def _loop_of_modules(results: Results) -> float | None:
    loop = _less(results.value("loop", "pmitogen", "wall"), results.value("cold", "pmitogen", "wall"))
    return _per(loop, _module(results, "loop"))


def _cold(results: Results, case: str, login: str) -> float | None:
    return _less(_over_floor(results, case), results.value(login, "ssh", "wall"))


def _each(metric: Callable[[Results], float | None]) -> Callable[[Results], float | None]:
    """*metric* of the play of commands, in milliseconds per task or seconds of it."""
    return lambda results: _per(metric(results), HOSTNAMES / 1000)


ROWS: tuple[Row, ...] = (
    Row("100 x command: (wall - floor - modules) per task", "ms", 1.0, _task_over_module),
    Row("100 x command: (wall - floor) per task", "ms", None, _each(lambda r: _over_floor(r, "hostname"))),
    Row("100 x command: the module, in a child forked for it", "ms", None, _each(lambda r: _module(r, "hostname"))),
    Row(
        "100 x command: controller's CPU per task, over the floor", "ms", 2.0, _each(lambda r: _over_floor(r, "hostname", "cpu"))
    ),
    Row("100 x command: target's CPU per task", "ms", None, _each(lambda r: r.value("hostname", "pmitogen", "target_cpu"))),
    Row("mix at 180 ms: (wall - floor) in round trips", "", 18, lambda r: _per(_over_floor(r, "mix-far"), ROUND_TRIP)),
    Row("loop of 100 items: what 180 ms of latency add, in round trips", "", 3, _loop_round_trips),
    Row("loop of 100 items, no latency: wall of the sum of its modules", "", 1.3, _loop_of_modules),
    Row("first task, cold: over the floor and ssh's bare login", "s", 0.15, lambda r: _cold(r, "cold", "login")),
    Row("the same at 180 ms, in round trips", "", 2, lambda r: _per(_cold(r, "cold-far", "login-far"), ROUND_TRIP)),
    Row("50 hosts: controller's CPU over the floor", "s", 4, lambda r: _over_floor(r, "hosts", "cpu")),
    Row("50 hosts: CPU of one target", "s", 0.35, lambda r: _per(r.value("hosts", "pmitogen", "target_cpu"), HOSTS)),
    Row("facts of one host: wall of ssh's", "", 0.5, lambda r: r.ratio("facts", "pmitogen", "ssh")),
    Row("copy of a large file: wall of ssh's", "", 0.25, lambda r: r.ratio("copy", "pmitogen", "ssh")),
    Row("fetch of a large file: wall of ssh's", "", 0.25, lambda r: r.ratio("fetch", "pmitogen", "ssh")),
    Row("small files by copy: wall of ssh's", "", 0.15, lambda r: r.ratio("small-files", "pmitogen", "ssh")),
)
assert ITEMS == 100, "the titles say so"


def table(results: Results) -> list[tuple[str, ...]]:
    """The rows that were measured, with a head; nothing if there are none."""
    rows: list[tuple[str, ...]] = [("against the floor", "", "reached", "goal", "")]
    for row in ROWS:
        value = row.compute(results)
        if value is not None:
            verdict = "" if row.goal is None else "met" if value <= row.goal else "MISSED"
            rows.append((row.title, row.unit, f"{value:.2f}", "" if row.goal is None else f"{row.goal:g}", verdict))
    return rows if len(rows) > 1 else []


LAYERS: Sequence[tuple[str, tuple[str, ...]]] = (
    ("worker: options", ("options",)),
    ("worker: Ansible builds the payload", ("prepare",)),
    ("session: parse and send", ("payload",)),
    ("hub, wire and agent, both directions", ("wire",)),
    ("runner: start the child", ("start",)),
    ("module", ("module",)),
    ("worker: result", ("result",)),
)


def layer_table(results: Results) -> list[tuple[str, ...]]:
    """Milliseconds of each layer, added up, for each case that was traced."""
    cases = [case for case, stages in results.stages.items() if stages]
    if not cases:
        return []
    rows: list[tuple[str, ...]] = [("layer, ms in all", "", *cases)]
    for title, names in LAYERS:
        sums = [sum(results.stages[case].get(name, 0.0) for name in names) for case in cases]
        rows.append((title, "", *(f"{total * 1000:.0f}" for total in sums)))
    return rows
