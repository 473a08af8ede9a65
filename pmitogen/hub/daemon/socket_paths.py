"""Paths of the hubs' sockets: one per hub, named after run and index, in a directory of this account alone.

A user who can write into that directory could replace a hub and receive passwords. So it is used only if it is a real
directory of this user, closed to all others, which no other user can rename. If another user has created a directory of that
name in /tmp, the next place in the list is used:

1. ``$XDG_RUNTIME_DIR/pmitogen-UID``, if that variable names a directory of this user that is closed to others; then only this;
2. ``/tmp/pmitogen-UID``;
3. ``pmitogen-hubs-BOOT`` in ``$ANSIBLE_HOME`` or ``~/.ansible``; BOOT names this boot of this machine, because machines may
   share a home.

The name of a socket may be longer than the system allows; :func:`address` makes it short. Standard library only: workers import
this in every task.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import zlib
from collections.abc import Iterator

from pmitogen.errors import HubError
from pmitogen.util import private_directory, processes

STANDBY = "standby-"
SSH = "ssh-"
WARNINGS = ".warnings"
MAX_ADDRESS = 107  # bytes of a socket's path on Linux
TEMPORARY = "/tmp"  # noqa: S108 - the directory made below is checked


def private_dir() -> str:
    """Return the directory for this account's hubs, made if need be. Raises HubError if there is no safe place for it."""
    problems = []
    for path in _places():
        try:
            _make(path)
        except OSError as exc:
            problems.append(f"{exc.filename or path} {exc.strerror}")
        else:
            return path
    raise HubError(f"no directory is safe for the hub's socket: {'; '.join(problems)}")


def existing_dirs() -> list[str]:
    """Return the directories in which a run in this environment may have its hub, of those that exist and are safe."""
    return [path for path in _places() if private_directory.is_private(path)]


def _places() -> Iterator[str]:
    """Yield the directories to try, in order."""
    name = f"pmitogen-{os.getuid()}"
    base = os.environ.get("XDG_RUNTIME_DIR") or ""
    if base.startswith("/") and private_directory.is_private(base):
        yield os.path.join(base, name)
        return  # no other user can create it
    yield os.path.join(TEMPORARY, name)
    ansible = os.environ.get("ANSIBLE_HOME") or os.path.join(_home(), ".ansible")
    if os.path.isabs(ansible := os.path.expanduser(ansible)):
        yield os.path.join(ansible, f"pmitogen-hubs-{_boot()}")


def _home() -> str:
    try:
        return os.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""


def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as stream:
            return stream.read(8)
    except OSError:
        return socket.gethostname()


def _make(path: str) -> None:
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        os.makedirs(parent, 0o700, exist_ok=True)
    private_directory.make(path)
    private_directory.check_parents(path)


@contextlib.contextmanager
def address(path: str) -> Iterator[str]:
    """Yield a name for the socket *path* that is short enough to bind or connect to. Raises OSError."""
    if len(os.fsencode(path)) <= MAX_ADDRESS:
        yield path
        return
    directory, name = os.path.split(path)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


_this_process: dict[int, str] = {}  # pid -> start, which does not change


def cache_start_time() -> None:
    """Cache the start time of this process, for its forks."""
    pid = os.getpid()
    _this_process[pid] = processes.start_time(pid)


def hub_index_for(host: str, hubs: int) -> int:
    """Return the index, from 0, of the hub that holds the connections to the address *host*, of *hubs* in the run."""
    return zlib.crc32(host.encode("utf-8", "surrogateescape")) % hubs if hubs > 1 else 0


def run_socket(pid: int, hub_index: int = 0) -> str:
    """Return the socket of a hub that serves the run whose main process is *pid*. *hub_index*: which of several."""
    return os.path.join(private_dir(), f"{pid}-{_this_process.get(pid) or processes.start_time(pid)}{_suffix(hub_index)}")


def standby_socket(path: str, fingerprint: str) -> str:
    """Return the socket of this process as a hub on standby, with the same index as the hub at *path*.

    *fingerprint*: of the runs that it may serve (see compatibility.py).
    """
    pid, hub_index = os.getpid(), hub_index_in(path)
    name = f"{STANDBY}{pid}-{processes.start_time(pid)}-{fingerprint}{_suffix(hub_index)}"
    return os.path.join(os.path.dirname(path), name)


def ssh_socket(path: str) -> str:
    """Return the socket for ``pmitogen ssh`` of this process as the hub at *path*. It stays the same from run to run."""
    pid = os.getpid()
    name = f"{SSH}{pid}-{processes.start_time(pid)}{_suffix(hub_index_in(path))}"
    return os.path.join(os.path.dirname(path), name)


def ssh_sockets() -> list[str]:
    """Return the sockets for ``pmitogen ssh`` of all hubs of this account."""
    paths = []
    for directory in existing_dirs():
        with contextlib.suppress(OSError):
            paths += [os.path.join(directory, name) for name in sorted(os.listdir(directory)) if is_ssh_socket(name)]
    return paths


def warnings_file(path: str) -> str:
    """Return the file of the warnings that the run with a hub at *path* has had (see run_warnings.py)."""
    directory, name = os.path.split(path)
    return os.path.join(directory, f"{name.partition('.')[0]}{WARNINGS}")


def is_ssh_socket(name: str) -> bool:
    """Return whether *name*, without its directory, is that of a socket for ``pmitogen ssh``."""
    return name.startswith(SSH) and name.endswith(".sock")


def standby_sockets(path: str) -> list[tuple[str, str]]:
    """Return the sockets of hubs on standby with the same index as *path*, each with its fingerprint."""
    directory, hub_index = os.path.split(path)[0], hub_index_in(path)
    return [
        (os.path.join(directory, name), name.partition(".")[0].rpartition("-")[2])
        for name in os.listdir(directory)
        if name.startswith(STANDBY) and name.endswith(".sock") and hub_index_in(name) == hub_index
    ]


def hub_index_in(path: str) -> int:
    """Return the index of the hub whose socket is *path*."""
    digits = os.path.basename(path).split(".")[1]
    return int(digits) if digits.isdigit() else 0


def _suffix(hub_index: int) -> str:
    return f".{hub_index}.sock" if hub_index else ".sock"


def remove_stale(directory: str, ended: int) -> None:
    """Remove stale sockets, locks and files of warnings in *directory*: those of the run *ended*, and of ended processes.

    A socket with a listener stays: another hub of that run removes its own. The directory is removed if it is empty.
    """
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            pid, _, start = name.removeprefix(STANDBY).removeprefix(SSH).partition(".")[0].partition("-")
            start = start.partition("-")[0]
            if not name.endswith((".sock", ".sock.lock", WARNINGS)) or not pid.isdigit():
                continue
            path = os.path.join(directory, name)
            if int(pid) == ended or processes.start_time(int(pid)) != start:
                with contextlib.suppress(OSError):
                    if not is_listening(path.removesuffix(".lock")):
                        os.unlink(path)
        os.rmdir(directory)


def is_listening(path: str) -> bool:
    """Return whether a process listens at *path*. Raises OSError if that cannot be found out."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            with address(path) as short:
                sock.connect(short)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True
