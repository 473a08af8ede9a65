"""The pictures of the figures: a group of bars for each case, each group on its own scale, as SVG.

``python -m bench.chart`` draws those of the documentation again from the table in docs/benchmark.md, and writes the short table
of docs/performance.md.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from html import escape
from pathlib import Path

from .report import BEGIN, END
from .results import Results

# Case -> its bars: class, title, wall seconds.
Groups = dict[str, list[tuple[str, str, float]]]

SUMMARY = ("100 x command: hostname", "50 hosts x 10 steps, forks 20", "copy of a 256 MiB file")  # cases of the README
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #222 }
  .title { font-weight: 600 } .value { font-size: 12px } .faint { fill: #666 } .page { fill: #fff }
  .ssh { fill: #9aa5b1 } .mitogen { fill: #6b9bd1 } .pmitogen { fill: #d9622b } .baseline { fill: #d5d9de }
"""
_LEFT, _WIDTH, _BAR, _GAP, _GROUP = 150, 470, 18, 4, 44  # pixels
_ROW = re.compile(r"^\| ([^|]*) \| ([^|]+) \| ([\d.]*) \|", re.M)


def groups(results: Results) -> Groups:
    """Return the wall seconds of every cell that was measured."""
    found: Groups = {}
    for case, contender in results.rows():
        wall = results.value(case, contender, "wall")
        if wall:
            found.setdefault(results.cases[case], []).append((contender, results.contenders[contender], wall))
    return found


def groups_of_page(page: str) -> Groups:
    """Return the same from the table that the bench has written to a page, of the cases that pmitogen plays.

    Raises ValueError if it has none.
    """
    found: Groups = {}
    case = ""
    table = page.partition(BEGIN)[2].partition(END)[0].strip().partition("\n\n")[0]
    for first, label, wall in _ROW.findall(table):
        case = first.strip() or case
        title = label.strip().strip("*")
        if wall:
            found.setdefault(case, []).append((re.split(r"\W", title)[0].lower(), title, float(wall)))
    if not found:
        raise ValueError(f"no table between {BEGIN} and {END}")
    return {case: bars for case, bars in found.items() if any(contender == "pmitogen" for contender, _, _ in bars)}


def as_svg(shown: Groups, cases: Collection[str] = ()) -> str:
    """Draw the groups, or only those of *cases*. The background is white, because a page cannot tell a picture its colours."""
    parts: list[str] = []
    top = 30.0
    for case, bars in shown.items():
        if cases and case not in cases:
            continue
        longest = max(wall for _, _, wall in bars)
        parts.append(f'<text class="title" x="10" y="{top:.0f}">{escape(case)}</text>')
        for contender, title, wall in bars:
            top += _BAR + _GAP
            width = max(1.0, _WIDTH * wall / longest)
            middle = top - _BAR / 2 + 9
            place = f'x="{_LEFT}" y="{top - _BAR / 2 - 4:.0f}" width="{width:.1f}" height="{_BAR}"'
            parts.append(f'<text class="faint" x="{_LEFT - 8}" y="{middle:.0f}" text-anchor="end">{escape(title)}</text>')
            parts.append(f'<rect class="{contender}" {place} rx="2"/>')
            parts.append(f'<text class="value" x="{_LEFT + width + 6:.0f}" y="{middle:.0f}">{wall:.2f} s</text>')
        top += _GROUP
    height = f"{top - 10:.0f}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{height}" viewBox="0 0 720 {height}" role="img">'
    back = f'<path class="page" d="M0 0H720V{height}H0Z"/>'
    return "\n".join([head, "<title>Wall time, medians</title>", f"<style>{_STYLE}</style>", back, *parts, "</svg>"]) + "\n"


def summary(shown: Groups) -> str:
    """Return the short table as Markdown: wall seconds by case and contender."""
    classes = {contender: title for bars in shown.values() for contender, title, _ in bars}
    titles = (f"**{title}**" if contender == "pmitogen" else title for contender, title in classes.items())
    lines = ["| case, seconds | " + " | ".join(titles) + " |", "| --- |" + " ---: |" * len(classes)]
    for case, bars in shown.items():
        walls = {contender: f"{wall:.2f}" for contender, _, wall in bars}
        lines.append(f"| {case} | " + " | ".join(walls.get(contender, "") for contender in classes) + " |")
    return "\n".join(lines)


def documents(docs: Path) -> Iterator[tuple[Path, str]]:
    """Yield each file that depends on the figures in docs/benchmark.md, with its text. Raises ValueError, OSError."""
    shown = groups_of_page((docs / "benchmark.md").read_text())
    yield docs / "performance.svg", as_svg(shown)
    yield docs / "summary.svg", as_svg(shown, SUMMARY)
    page = (docs / "performance.md").read_text()
    before, _, rest = page.partition(BEGIN)
    yield docs / "performance.md", f"{before}{BEGIN}\n\n{summary(shown)}\n\n{END}{rest.partition(END)[2]}"


def write_documents(docs: Path) -> None:
    """Write them."""
    for path, text in documents(docs):
        path.write_text(text)


if __name__ == "__main__":
    write_documents(Path(__file__).resolve().parent.parent / "docs")
