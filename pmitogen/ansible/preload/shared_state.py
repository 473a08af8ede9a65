"""State shared by the workers of a run: the hosts that have answered, and the steps of the run that are done once.

Only a host's first task prepares its connection ahead of time. Each task has its own process, so the state is in shared memory
that the parent process creates. It is only a hint: two hosts may share a slot, and then the second host is not prepared ahead;
two workers that ask at the same time may both get the answer that they are the first.
"""

from __future__ import annotations

import mmap
import struct
import zlib

SLOTS = 1 << 16
_PREBUILD_PROCESS = struct.Struct("QQ")  # its pid, and when it started


class SharedState:
    """One byte for each slot of hosts, and one for each step, in shared memory. Any process may read and write it at any time."""

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
        """Return True for the first caller in the run."""
        asked, self._memory[-1] = self._memory[-1], 1
        return not asked

    @property
    def payloads_restored(self) -> bool:
        """True if a worker has restored the payloads of earlier runs (payload_cache.py)."""
        return self._memory[-2] != 0

    @payloads_restored.setter
    def payloads_restored(self, done: bool) -> None:
        self._memory[-2] = done

    @property
    def prebuild_process(self) -> tuple[int, int]:
        """The process that builds payloads for all workers: its pid, or 0, and its start time (processes.start_time)."""
        pid, start = _PREBUILD_PROCESS.unpack_from(self._memory, SLOTS)
        return pid, start

    @prebuild_process.setter
    def prebuild_process(self, process: tuple[int, int]) -> None:
        _PREBUILD_PROCESS.pack_into(self._memory, SLOTS, *process)


class NullSharedState(SharedState):
    """Null object for a process without shared memory: no host has answered, and no caller is the first."""

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
