"""Format sizes, the progress of transfers, and counts, for users."""

from __future__ import annotations

_LARGER_UNITS = ("kB", "MB", "GB", "TB")


def format_bytes(count: float) -> str:
    """Return *count* bytes as text with a decimal unit: ``950 B``, ``1.5 kB``, ``120 MB``."""
    unit = "B"
    for larger in _LARGER_UNITS:
        if count >= 999.5:
            count, unit = count / 1000, larger
    return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"


def progress(moved: int, size: int | None, seconds: float | None = None) -> str:
    """Return how far a transfer is: ``1.2 GB of 4.0 GB (30 %), 110 MB/s``.

    :param moved: bytes so far.
    :param size: bytes of the whole; None: unknown.
    :param seconds: since the beginning; None: leave out the rate.
    """
    text = format_bytes(moved)
    if size:
        text += f" of {format_bytes(size)} ({min(100, 100 * moved // size)} %)"
    return f"{text}, {format_bytes(moved / seconds)}/s" if seconds else text


def format_count(count: int, noun: str) -> str:
    """Return *count* with its noun: ``1 host``, ``2 hosts``."""
    return f"{count} {noun}" + ("" if count == 1 else "s")
