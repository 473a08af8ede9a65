"""Progress of a copy: a line on the terminal in scp's layout, and a limit of the rate."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator

from pmitogen.util.peer_text import one_line

INTERVAL = 0.5  # seconds between two updates of the line
UNITS = ("B ", "KB", "MB", "GB", "TB", "PB")


class Progress:
    """Progress of one file, in a ``with`` block. This class shows nothing."""

    def __init__(self, name: str, size: int, offset: int) -> None:
        self._name = name
        self._size = size
        self._done = self._first = offset

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        pass

    def watch(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield *pieces*, and count their bytes."""
        return iter(pieces)


class TerminalProgress(Progress):
    """Progress of one file as a line on standard output, which is a terminal."""

    def __enter__(self) -> Progress:
        self._begun = self._shown = time.monotonic()
        self._show(is_end=False)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._show(is_end=True)

    def watch(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield *pieces*, and show how far the copy is."""
        for piece in pieces:
            yield piece
            self._done += len(piece)
            if time.monotonic() - self._shown >= INTERVAL:
                self._show(is_end=False)

    def _show(self, is_end: bool) -> None:
        now = self._shown = time.monotonic()
        columns = os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 80
        rate = (self._done - self._first) / max(now - self._begun, 0.001)
        left = 0.0 if not rate else max(0, self._size - self._done) / rate
        clock = _clock(now - self._begun) if is_end else _clock(left) if rate else "--:--"
        percent = 100 if self._done >= self._size else 100 * self._done // self._size
        tail = f" {percent:3d}% {_amount(self._done)} {_amount(int(rate))}/s {clock}{'    ' if is_end else ' ETA'}"
        room = max(1, columns - 1 - len(tail))
        sys.stdout.write(f"\r{one_line(self._name)[:room]:{room}}{tail}" + ("\n" if is_end else ""))
        sys.stdout.flush()


def _amount(count: int) -> str:
    value, unit = float(count), 0
    while value >= 1000 and unit < len(UNITS) - 1:
        value /= 1024
        unit += 1
    return f"{value:4.0f}{UNITS[unit]}" if unit == 0 else f"{value:5.1f}{UNITS[unit]}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(min(seconds, 359999)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


def limited(kilobits: int) -> Callable[[Iterable[bytes]], Iterator[bytes]]:
    """Return a function that slows pieces down to *kilobits* per second, measured over the whole copy."""
    begun = time.monotonic()
    total = 0

    def pace(pieces: Iterable[bytes]) -> Iterator[bytes]:
        nonlocal total
        for piece in pieces:
            yield piece
            total += len(piece)
            time.sleep(max(0.0, begun + total * 8 / (kilobits * 1000) - time.monotonic()))

    return pace
