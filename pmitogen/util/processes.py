"""Identify other processes of this machine, and check whether they still run.

Standard library only: workers import this in every task. On systems without Linux's ``/proc`` only :func:`exists` is exact.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct

_NAMESPACES = ("mnt", "net", "pid", "user", "uts")
_PR_SET_DUMPABLE = 4  # of Linux's prctl.h


def start_time(pid: int) -> str:
    """Return when the process started, in clock ticks since boot; with the pid, it identifies a process uniquely.

    "0" if there is no such process, or no ``/proc``.
    """
    return _state_and_start(pid)[1]


def is_running(pid: int, start: str) -> bool:
    """Return True if the process with this pid and start time (see :func:`start_time`) still runs. Linux only."""
    state, started = _state_and_start(pid)
    return started == start and state not in ("", "Z")


def exists(pid: int) -> bool:
    """Return True if a process has this pid now."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def forbid_dumps() -> None:
    """Protect this process's memory from core files and from other processes of its account (ptrace, ``/proc/PID/mem``).

    Programs that it starts inherit only the limit of core files. Uses ctypes, because Python has no prctl(2), and the limit does
    not apply to a core pattern with a program.
    """
    import ctypes
    import resource

    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError, AttributeError):  # another system than Linux
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def peer_uid(sock: socket.socket) -> int | None:
    """Return the uid of the process at the other end of a connected Unix socket; None if the system does not support that."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    credentials = struct.Struct("3i")
    return int(credentials.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size))[1])


def groups_and_namespaces() -> list[list[object]]:
    """Return this process's groups and namespaces: they affect access to files and the meaning of names. JSON types."""
    root = os.stat("/")
    return [[os.geteuid(), os.getegid(), sorted(os.getgroups())], [root.st_dev, root.st_ino, *map(_namespace, _NAMESPACES)]]


def _namespace(kind: str) -> str:
    try:
        return os.readlink(f"/proc/self/ns/{kind}")
    except OSError:
        return ""


def _state_and_start(pid: int) -> tuple[str, str]:
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()
        return fields[0].decode(), fields[19].decode()
    except (OSError, IndexError):
        return "", "0"
