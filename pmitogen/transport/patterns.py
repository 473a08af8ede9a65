"""ssh's patterns: ``*`` and ``?`` and nothing else, without case, in lists where ``!`` excludes (PATTERNS in ssh_config(5))."""

from __future__ import annotations

import functools
import re


@functools.lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    pieces = {"*": ".*", "?": "."}
    return re.compile("".join(pieces.get(char) or re.escape(char) for char in pattern.lower()), re.DOTALL)


def matches(name: str, pattern: str) -> bool:
    """Whether *name* is wholly matched by one pattern."""
    return _compiled(pattern).fullmatch(name.lower()) is not None


def in_list(name: str, patterns: list[str] | tuple[str, ...]) -> bool:
    """Whether a pattern matches and no negated one does."""
    found = False
    for pattern in patterns:
        if pattern.startswith("!"):
            if matches(name, pattern[1:]):
                return False
        elif not found:
            found = matches(name, pattern)
    return found
