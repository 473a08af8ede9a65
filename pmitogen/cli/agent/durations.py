"""Lifetimes as ssh writes them: ``90``, ``10m``, ``1h30m``."""

from __future__ import annotations

import re

from pmitogen.errors import UsageError

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
MAX_SECONDS = (1 << 31) - 1


def parse(text: str, flag: str) -> int:
    """Return a lifetime in seconds; 0: without an end. *flag*: names it in the message. Raises UsageError."""
    total = -1
    if text.isascii() and re.fullmatch(r"(?:[0-9]{1,10}[smhdwSMHDW]?)+", text):
        total = sum(int(amount) * _UNITS[unit.lower()] for amount, unit in re.findall(r"([0-9]+)([a-zA-Z]?)", text))
    if not 0 <= total <= MAX_SECONDS:
        raise UsageError(f"{flag}: invalid lifetime {text!r}; use seconds, or a time such as 1h30m")
    return total
