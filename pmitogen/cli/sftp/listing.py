"""The output of ``ls`` and ``df`` in an SFTP session. No I/O."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterable, Iterator

from pmitogen.transport.sessions.sftp_client import FileSystem
from pmitogen.transport.sessions.sftp_packets import Entry
from pmitogen.util.peer_text import one_line

RECENT = 365 * 86400 // 2  # seconds; the time of day is shown for files that are not older


def sort(entries: list[Entry], flags: str) -> list[Entry]:
    """Sort by name, or as the flags say: ``t`` (time), ``S`` (size), ``r`` (reversed), ``f`` (not at all)."""
    if "f" in flags:
        return entries
    reverse = "r" in flags
    if "t" in flags:
        return sorted(entries, key=lambda entry: entry.attributes.mtime or 0, reverse=not reverse)
    if "S" in flags:
        return sorted(entries, key=lambda entry: entry.attributes.size or 0, reverse=not reverse)
    return sorted(entries, key=lambda entry: entry.name, reverse=reverse)


def lines(entries: list[Entry], flags: str, width: int, now: float | None = None) -> Iterator[str]:
    """Yield the lines for *entries*: in columns, one a line (``1``), or long (``l``, ``n``). *width*: of the terminal."""
    names = [one_line(entry.name) for entry in entries]
    if "l" in flags or "n" in flags:
        for entry, name in zip(entries, names, strict=True):
            yield _long(entry, name, flags, time.time() if now is None else now)
        return
    if "1" in flags or not names:
        yield from names
        return
    columns = max(1, width // (max(map(len, names)) + 2))
    space = width // columns
    for start in range(0, len(names), columns):
        yield "".join(f"{name:<{space}}" for name in names[start : start + columns])


def _long(entry: Entry, name: str, flags: str, now: float) -> str:
    attributes = entry.attributes
    owner, group = str(attributes.uid), str(attributes.gid)
    columns = entry.description.split()
    if "n" not in flags and len(columns) >= 9:  # the server's line for ls -l: the only place where SFTP has the owner's name
        owner, group = columns[2], columns[3]
    size = str(attributes.size or 0) if "h" not in flags else _human_size(attributes.size or 0)
    mode = stat.filemode(attributes.mode or 0)
    return f"{mode}    ? {owner:<8} {group:<8} {size:>8} {_date(attributes.mtime or 0, now)} {name}"


def _date(seconds: int, now: float) -> str:
    recent = now - RECENT < seconds <= now + 86400
    return time.strftime("%b %e %H:%M" if recent else "%b %e  %Y", time.localtime(seconds))


def _human_size(size: int) -> str:
    value, unit = float(size), 0
    while value >= 1000 and unit < 5:
        value /= 1024
        unit += 1
    return f"{size}B" if unit == 0 else f"{value:.1f}{'BKMGTP'[unit]}"


def file_system_lines(found: FileSystem, flags: str) -> Iterator[str]:
    """Yield the lines of ``df``: in KiB, in the largest units (``h``), or of inodes (``i``)."""
    used = found.blocks - found.free_blocks
    if "i" in flags:
        used_files = found.files - found.free_files
        yield "     Inodes        Used       Avail      (root)    %Capacity"
        yield _row("{:>11}", (found.files, used_files, found.available_files, found.free_files), used_files, found.files)
        return
    sizes = [count * found.block_size for count in (found.blocks, used, found.available_blocks, found.free_blocks)]
    if "h" in flags:
        yield "    Size     Used    Avail   (root)    %Capacity"
        yield _row("{:>7}B", map(_scaled, sizes), used, found.blocks)
    else:
        yield "        Size         Used        Avail       (root)    %Capacity"
        yield _row("{:>12}", (size // 1024 for size in sizes), used, found.blocks)


def _row(form: str, values: Iterable[object], part: int, whole: int) -> str:
    capacity = f"{100 * part // whole:3}%" if whole else "ERR"
    return " ".join(form.format(value) for value in values) + f"         {capacity}"


def _scaled(size: int) -> str:
    """Return *size* as OpenBSD's fmt_scaled() does."""
    unit, rest = 0, 0
    while size >= 1024 and unit < 6:
        size, rest, unit = size // 1024, size % 1024, unit + 1
    tenths = (rest * 10 + 512) // 1024
    if tenths == 10:
        size, tenths = size + 1, 0
    letter = "BKMGTPE"[unit]
    return f"{size + (tenths >= 5)}{letter}" if size >= 100 or not unit else f"{size}.{tenths}{letter}"
