"""What the workers of a run tell each other: which hosts have answered, and whether something that is done once has been done.

What a host's first task does ahead, the later ones need not. Each task has a process of its own, so this lies in memory that they
share, made by the process that they are forked from. It is a hint: two hosts may have the same place in it, and then the second
goes without what is only done ahead to save time; and two workers that ask at once may both be the first.
"""

from __future__ import annotations

import mmap
import struct
import zlib

SLOTS = 1 << 16
_PREBUILD_PROCESS = struct.Struct("QQ")  # its pid, and when it started


class SharedState:
    """See the head of this file. Every process may read and write it at any time: it is a byte to each place."""

    is_shared = True

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, SLOTS + _PREBUILD_PROCESS.size + 2)

    def is_known(self, host: str) -> bool:
        return self._memory[_slot(host)] != 0

    def mark(self, host: str) -> None:
        self._memory[_slot(host)] = 1

    def clear(self, host: str) -> None:
        self._memory[_slot(host)] = 0

    def claim_first(self) -> bool:
        """Whether nobody has asked before."""
        asked, self._memory[-1] = self._memory[-1], 1
        return not asked

    @property
    def payloads_restored(self) -> bool:
        """Whether somebody has seen to the payloads of earlier runs (builds.py)."""
        return self._memory[-2] != 0

    @payloads_restored.setter
    def payloads_restored(self, done: bool) -> None:
        self._memory[-2] = done

    @property
    def prebuild_process(self) -> tuple[int, int]:
        """The process that a worker has started for all of them, if any: its pid, or 0, and its start (processes.start_time)."""
        pid, start = _PREBUILD_PROCESS.unpack_from(self._memory, SLOTS)
        return pid, start

    @prebuild_process.setter
    def prebuild_process(self, process: tuple[int, int]) -> None:
        _PREBUILD_PROCESS.pack_into(self._memory, SLOTS, *process)


class NullSharedState(SharedState):
    """Stands for it in a process that shares nothing: nobody has been met, and nobody is the first of anything."""

    is_shared = False
    prebuild_process = 0, 0
    payloads_restored = False

    def __init__(self) -> None:
        pass

    def is_known(self, host: str) -> bool:
        return False

    def mark(self, host: str) -> None:
        pass

    def clear(self, host: str) -> None:
        pass

    def claim_first(self) -> bool:
        return False


def _slot(host: str) -> int:
    return zlib.crc32(host.encode("utf-8", "surrogateescape")) % SLOTS


current: SharedState = NullSharedState()  # until the process that workers are forked from makes one to share
