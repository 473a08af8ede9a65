"""Pattern matching as in OpenSSH: only ``*`` and ``?`` are special, lists are comma-separated, ``!`` negates.

Not ``fnmatch``: that knows ``[...]`` classes, which ssh_config(5) does not. Source: match.c of OpenSSH 10.5.
"""

from __future__ import annotations

import functools
import re
import string

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def ascii_lower(text: str) -> str:
    """Convert ASCII letters to lower case, as a C program in a UTF-8 locale does."""
    return text.translate(_LOWER)


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    # Runs of stars are folded: "**" would make the regular expression backtrack for nothing.
    folded = re.sub(r"\*+", "*", pattern)
    return re.compile("".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in folded), re.DOTALL)


def match_pattern(text: str, pattern: str) -> bool:
    """Return whether the whole *text* matches. Linear time, however many stars the pattern has."""
    if "*" not in pattern and "?" not in pattern:
        return text == pattern
    if pattern.count("*") <= 2:
        return _compiled(pattern).fullmatch(text) is not None
    return _match_slowly(text, pattern)


def _match_slowly(text: str, pattern: str) -> bool:
    """Greedy star matching: backtracks to the last star only, so at most len(text) * len(pattern) steps."""
    t = p = 0
    star, mark = -1, 0
    while t < len(text):
        if p < len(pattern) and pattern[p] == "*":
            star, mark = p, t
            p += 1
        elif p < len(pattern) and pattern[p] in ("?", text[t]):
            t += 1
            p += 1
        elif star >= 0:
            mark += 1
            t, p = mark, star + 1
        else:
            return False
    return not pattern[p:].strip("*")


def match_list(text: str, patterns: str, lower: bool = False) -> int:
    """Return 1 for a match, -1 if a negated pattern matches, 0 for none. *lower* applies to the patterns only."""
    result = 0
    if not patterns:
        return 0
    for entry in patterns.split(","):
        negated = entry.startswith("!")
        pattern = entry[1:] if negated else entry
        if len(pattern) >= 1023:  # OpenSSH's buffer: such a pattern ends the search without a match
            return 0
        if match_pattern(text, ascii_lower(pattern) if lower else pattern):
            if negated:
                return -1
            result = 1
    return result


def match_hostname(host: str, patterns: str) -> int:
    """Do the same as :func:`match_list`, with both sides lower-cased."""
    return match_list(ascii_lower(host), patterns, lower=True)
