"""Coloured text, on terminals only: not in pipes and files, not with ``NO_COLOR`` set, and not if TERM is ``dumb``."""

from __future__ import annotations

import os
from typing import TextIO

_CODES = {"green": "32", "red": "31"}


def paint(text: str, colour: str, stream: TextIO) -> str:
    """Return *text* in *colour* ("green", "red") if *stream* shows colour, otherwise *text* as it is."""
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb":
        return text
    return f"\033[{_CODES[colour]}m{text}\033[0m"
