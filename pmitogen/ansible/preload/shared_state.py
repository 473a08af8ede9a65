"""What the workers of a run tell each other: which hosts have answered, and whether something that is done once has been done.

What a host's first task does ahead, the later ones need not. Each task has a process of its own, so this lies in memory that they
share, made by the process that they are forked from. It is a hint: two hosts may have the same place in it, and then the second
goes without what is only done ahead to save time; and two workers that ask at once may both be the first.
"""

from __future__ import annotations

import mmap
import struct
import zlib

PLACES = 1 << 16
_HELPER = struct.Struct("QQ")  # its pid, and when it started


class Hosts:
    """See the head of this file. Every process may read and write it at any time: it is a byte to each place."""

    shared = True

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, PLACES + _HELPER.size + 2)

    def has(self, host: str) -> bool:
        return self._memory[_place(host)] != 0

    def add(self, host: str) -> None:
        self._memory[_place(host)] = 1

    def drop(self, host: str) -> None:
        self._memory[_place(host)] = 0

    def is_first(self) -> bool:
        """Whether nobody has asked before."""
        asked, self._memory[-1] = self._memory[-1], 1
        return not asked

    @property
    def lent(self) -> bool:
        """Whether somebody has seen to the payloads of earlier runs (builds.py)."""
        return self._memory[-2] != 0

    @lent.setter
    def lent(self, done: bool) -> None:
        self._memory[-2] = done

    @property
    def helper(self) -> tuple[int, int]:
        """The process that a worker has started for all of them, if any: its pid, or 0, and its start (processes.start_time)."""
        pid, start = _HELPER.unpack_from(self._memory, PLACES)
        return pid, start

    @helper.setter
    def helper(self, process: tuple[int, int]) -> None:
        _HELPER.pack_into(self._memory, PLACES, *process)


class Strangers(Hosts):
    """Stands for it in a process that shares nothing: nobody has been met, and nobody is the first of anything."""

    shared = False
    helper = 0, 0
    lent = False

    def __init__(self) -> None:
        pass

    def has(self, host: str) -> bool:
        return False

    def add(self, host: str) -> None:
        pass

    def drop(self, host: str) -> None:
        pass

    def is_first(self) -> bool:
        return False


def _place(host: str) -> int:
    return zlib.crc32(host.encode("utf-8", "surrogateescape")) % PLACES


hosts: Hosts = Strangers()  # until the process that workers are forked from makes one to share
