"""The picture: a group of bars for each case, each group on its own scale, as SVG that suits light and dark pages."""

from __future__ import annotations

from html import escape

from .results import Results

_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #222 }
  .title { font-weight: 600 } .value { font-size: 12px } .faint { fill: #777 }
  .ssh { fill: #9aa5b1 } .mitogen { fill: #6b9bd1 } .pmitogen { fill: #d9622b } .floor { fill: #d5d9de }
  @media (prefers-color-scheme: dark) { text { fill: #ddd } .faint { fill: #999 } .floor { fill: #555c66 } }
"""
_LEFT, _WIDTH, _BAR, _GAP, _GROUP = 150, 470, 18, 4, 44  # pixels


def as_svg(results: Results) -> str:
    """Wall seconds of every cell that was measured."""
    parts: list[str] = []
    top = 30.0
    for case in results.cells:
        measured = [(column, results.value(case, column, "wall")) for column in results.columns]
        bars = [(column, wall) for column, wall in measured if wall]
        if not bars:
            continue
        longest = max(wall for _, wall in bars)
        parts.append(f'<text class="title" x="10" y="{top:.0f}">{escape(results.cases[case])}</text>')
        for column, wall in bars:
            top += _BAR + _GAP
            width = max(1.0, _WIDTH * wall / longest)
            middle = top - _BAR / 2 + 9
            title = escape(results.columns[column])
            place = f'x="{_LEFT}" y="{top - _BAR / 2 - 4:.0f}" width="{width:.1f}" height="{_BAR}"'
            parts.append(f'<text class="faint" x="{_LEFT - 8}" y="{middle:.0f}" text-anchor="end">{title}</text>')
            parts.append(f'<rect class="{column}" {place} rx="2"/>')
            parts.append(f'<text class="value" x="{_LEFT + width + 6:.0f}" y="{middle:.0f}">{wall:.2f} s</text>')
        top += _GROUP
    height = f"{top:.0f}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="720" height="{height}" viewBox="0 0 720 {height}" role="img">'
    title = f"<title>Wall time, medians, ansible-core {escape(results.core)}</title>"
    return "\n".join([head, title, f"<style>{_STYLE}</style>", *parts, "</svg>"]) + "\n"
