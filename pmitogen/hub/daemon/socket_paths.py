"""Where hubs listen: a directory that belongs to us alone, one socket per hub, named after its run and its number in it.

Whoever can write into that directory could take the place of a hub and be handed passwords; so it is used only if it is a real
directory, ours, and closed to everyone else. Standard library only: workers import this in every task.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import zlib

from pmitogen.errors import HubError
from pmitogen.util import processes

RESTING = "resting-"


def private_dir(create: bool = True) -> str:
    """Return the directory for this account's hubs. Raises HubError if somebody else has a hand in it."""
    uid = os.getuid()
    base = os.environ.get("XDG_RUNTIME_DIR") or ""
    if not base or not _is_private(base, uid):
        base = "/tmp"  # noqa: S108 - the directory made below is checked
    path = os.path.join(base, f"pmitogen-{uid}")
    if create:
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        except OSError as exc:
            raise HubError(f"{path}: cannot be made for the hub's socket: {exc.strerror}") from None
        if not _is_private(path, uid):
            raise HubError(f"{path}: not a directory of uid {uid} with mode 0700, so no hub may listen there; remove it")
    return path


def _is_private(path: str, uid: int) -> bool:
    try:
        return is_closed(os.lstat(path), uid)
    except OSError:
        return False


def is_closed(found: os.stat_result, uid: int) -> bool:
    """Whether what was found is a directory of *uid*'s, and closed to everybody else."""
    return stat.S_ISDIR(found.st_mode) and found.st_uid == uid and not stat.S_IMODE(found.st_mode) & 0o077


_this_process: dict[int, str] = {}  # number -> start, which does not change


def remember_start() -> None:
    """Find out when this process started, so that those forked from it need not."""
    pid = os.getpid()
    _this_process[pid] = processes.start_time(pid)


def number_of(host: str, hubs: int) -> int:
    """Which of the *hubs* of a run, from 0, holds the connections to the address *host*."""
    return zlib.crc32(host.encode("utf-8", "surrogateescape")) % hubs if hubs > 1 else 0


def run_socket(pid: int, number: int = 0) -> str:
    """The socket of a hub that serves the run whose main process is *pid*; *number*: which of them, if it has several."""
    return os.path.join(private_dir(), f"{pid}-{_this_process.get(pid) or processes.start_time(pid)}{_suffix(number)}")


def resting_socket(number: int) -> str:
    """The socket of this process as a hub that waits for a run, to have that *number* in it."""
    pid = os.getpid()
    return os.path.join(private_dir(), f"{RESTING}{pid}-{processes.start_time(pid)}{_suffix(number)}")


def number_in(path: str) -> int:
    """The number of the hub whose socket is *path*."""
    number = os.path.basename(path).split(".")[1]
    return int(number) if number.isdigit() else 0


def _suffix(number: int) -> str:
    return f".{number}.sock" if number else ".sock"


def sweep(folder: str, ended: int) -> None:
    """Remove what hubs and workers have left in *folder* that can tell so no more: those of run *ended*, and of runs long gone.

    Not where somebody listens: another hub of that run removes its own. The folder itself goes when it is empty.
    """
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            pid, _, start = name.removeprefix(RESTING).partition(".")[0].partition("-")
            if not name.endswith((".sock", ".sock.lock")) or not pid.isdigit():
                continue
            path = os.path.join(folder, name)
            if int(pid) == ended or processes.start_time(int(pid)) != start:
                with contextlib.suppress(OSError):
                    if not listens(path.removesuffix(".lock")):
                        os.unlink(path)
        os.rmdir(folder)


def listens(path: str) -> bool:
    """Whether somebody listens at *path*. Raises OSError where that cannot be seen."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True
