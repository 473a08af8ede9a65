"""Suggest a valid name for a misspelt one."""

from __future__ import annotations

from collections.abc import Iterable

SHORT = 4  # characters; in a short word one wrong letter is a large part
CUTOFF, CUTOFF_SHORT = 0.7, 0.6  # similarity, from 0 to 1, as difflib counts it


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean X?)`` with the name in *known* that is most similar to *word*; "" if none is. Case is ignored."""
    import difflib  # here, because most command lines have no error

    names = {name.lower(): name for name in known}
    cutoff = CUTOFF if len(word) > SHORT else CUTOFF_SHORT
    matches = difflib.get_close_matches(word.lower(), names, n=1, cutoff=cutoff)
    return f" (did you mean {names[matches[0]]}?)" if matches else ""
