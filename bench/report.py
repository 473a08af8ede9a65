"""The tables: for a terminal, and the same as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from . import against_floor, goals
from .results import Results

BEGIN, END = "<!-- written by the bench -->", "<!-- to here -->"
_HEAD = (
    "case",
    "",
    "wall s",
    "of ssh",
    "of Mitogen",
    "CPU s",
    "of ssh",
    "targets CPU s",
    "KB up",
    "KB down",
    "direction changes",
    "peak MB",
)


def _number(value: float | None, form: str = "{:.2f}", scale: float = 1.0) -> str:
    return "" if value is None else form.format(value * scale)


def table(results: Results) -> list[tuple[str, ...]]:
    """The rows of the main table, its head first."""
    rows: list[tuple[str, ...]] = [_HEAD]
    shown = None
    for case, contender in results.rows():
        cell = results.cells[case][contender]

        def value(metric: str, case: str = case, contender: str = contender) -> float | None:
            return results.value(case, contender, metric)

        compared = contender not in ("ssh", "baseline")
        rows.append(
            (
                results.cases[case] if case != shown else "",
                results.contenders[contender] + (" FAILED" if cell.failed else ""),
                _number(value("wall")),
                _number(results.ratio(case, contender, "ssh")) if compared else "",
                _number(results.ratio(case, contender, "mitogen")) if contender == "pmitogen" else "",
                _number(value("cpu")),
                _number(results.ratio(case, contender, "ssh", "cpu")) if compared else "",
                _number(value("target_cpu")) if contender != "baseline" else "",
                _number(value("up"), "{:.0f}", 0.001) if contender != "baseline" else "",
                _number(value("down"), "{:.0f}", 0.001) if contender != "baseline" else "",
                _number(value("direction_changes"), "{:.0f}") if contender != "baseline" else "",
                _number(value("peak_mb"), "{:.0f}"),
            )
        )
        shown = case
    return rows


def goal_table(results: Results) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [("case", "goal", "reached", "")]
    for goal, reached, is_met in goals.judged(results):
        shown = f"{reached:.2f}" if goal.to else f"{reached:.0f}"
        rows.append((results.cases[goal.case], str(goal), shown, "met" if is_met else "MISSED"))
    return rows if len(rows) > 1 else []


def as_text(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: words to the left, numbers to the right."""
    if not rows:
        return ""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = []
    for row in rows:
        padded = enumerate(zip(row, widths, strict=True))
        cells = [cell.ljust(width) if place < 2 else cell.rjust(width) for place, (cell, width) in padded]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    rule = ["---" if place < 2 else "---:" for place in range(len(rows[0]))]
    rows = [["**pmitogen**" if cell == "pmitogen" else cell for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]])


def tables_of(results: Results) -> list[list[tuple[str, ...]]]:
    """All tables: contenders side by side, goals, what is added to the floor, and the layers."""
    return [table(results), goal_table(results), against_floor.table(results), against_floor.layer_table(results)]


def in_page(page: str, results: Results) -> str:
    """The text of *page*, with these results between its two marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not after:
        raise ValueError(f"the page lacks its marks: {BEGIN} and {END}")
    tables = "\n\n".join(filter(None, map(as_markdown, tables_of(results))))
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"
