"""Which hosts have answered in this run: what a host's first task may do ahead, the later ones need not.

Each task has a process of its own, so this lies in memory that they share, made by the process that they are forked from. It is a
hint: two hosts may have the same place in it, and then the second goes without what is only done ahead to save time.
"""

from __future__ import annotations

import mmap
import zlib

PLACES = 1 << 16


class Hosts:
    """See the head of this file. Every process may read and write it at any time: it is a byte to each place."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, PLACES)

    def has(self, host: str) -> bool:
        return self._memory[_place(host)] != 0

    def add(self, host: str) -> None:
        self._memory[_place(host)] = 1

    def drop(self, host: str) -> None:
        self._memory[_place(host)] = 0


def _place(host: str) -> int:
    return zlib.crc32(host.encode("utf-8", "surrogateescape")) % PLACES


hosts: Hosts | None = None  # None: this process is not a worker of a process that made one
