"""Starting a hub, by whoever is the first in a run to need one, or foresees that somebody will.

The starter makes the listening socket and hands it to the new process. So nobody waits for a hub to start: whoever comes connects
at once, and what it says lies in the socket until the hub has loaded its libraries. What keeps a hub from starting, it tells
those who have come by then (see main.py). A lock beside the socket settles who is the starter.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator

from pmitogen.errors import HubError
from pmitogen.hub.client import Client
from pmitogen.hub.daemon import socket_paths
from pmitogen.hub.daemon.compatibility import fingerprint, process_environment
from pmitogen.hub.daemon.run_settings import RunSettings
from pmitogen.protocol.operations import Op
from pmitogen.util import private_directory
from pmitogen.util.caller import CallerEnvironment

MAIN = "from pmitogen.hub.daemon.main import main;main()"  # what the new process executes
SAFE_PATH = ("-P",) if sys.version_info >= (3, 11) else ()  # no current directory on its path, not even for -c itself
START_LIMIT = 20.0  # seconds that a resting hub may take to answer
_HAS_PROC = os.path.exists("/proc/self/fd")  # then a hub opens the run's stderr itself: a worker's may be closed
BACKLOG = 256  # workers that may have come before the hub looks


def ensure(path: str, run_pid: int, caller: CallerEnvironment, *, log: str | None = None) -> None:
    """Return when *path* can be connected to, by a hub that knows the *caller* where this call has found or started it.

    *log*: how much such a hub logs to our stderr, if PMITOGEN_LOG does not say. Raises HubError.
    """
    with _lock(path + ".lock"):
        if _listens(path):
            return
        settings = RunSettings.of(caller, log, str(getattr(sys.modules.get("ansible.release"), "__version__", "")))
        environ = process_environment(caller)
        if not _adopt_resting(path, run_pid, settings, environ):
            with _listening(path) as listening:
                _spawn(listening, path, run_pid, settings, environ)
        with contextlib.suppress(OSError, HubError), contextlib.closing(Client(path)) as client:
            client.introduce(caller)
            client.flush()


def _spawn(listening: socket.socket, path: str, run_pid: int, settings: RunSettings, environ: dict[str, str]) -> None:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    # The current directory is /, see below; from there, too, nothing is imported.
    code = f"import sys;sys.path[:]=[{root!r}]+[p for p in sys.path if p not in ('','.','/')];{MAIN}"
    try:
        process = subprocess.Popen(
            [sys.executable, *SAFE_PATH, "-c", code, path, str(run_pid), str(listening.fileno()), json.dumps(settings.message())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if settings.log and not _HAS_PROC else subprocess.DEVNULL,
            env=environ,
            pass_fds=[listening.fileno()],
            start_new_session=True,
            cwd="/",
        )
    except OSError as exc:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise HubError(f"{sys.executable}: the hub cannot be started: {exc.strerror}") from None
    process.returncode = 0  # it outlives us by design; nobody here waits for it


@contextlib.contextmanager
def _listening(path: str) -> Iterator[socket.socket]:
    """A socket that listens on *path*, in the place of one that a hub has left; ours until the block ends. Raises HubError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            with socket_paths.address(path) as address:
                sock.bind(address)
            os.chmod(path, 0o600)
            sock.listen(BACKLOG)
        except OSError as exc:
            raise HubError(f"{path}: {exc.strerror}") from None
        yield sock


def _listens(path: str) -> bool:
    try:
        return socket_paths.listens(path)
    except OSError as exc:
        raise HubError(f"{path}: {exc.strerror}") from None


def _adopt_resting(path: str, run_pid: int, settings: RunSettings, environ: dict[str, str]) -> bool:
    """Have a hub that has outlived its run (ControlPersist) serve this one. Returns whether one does.

    Only one that this run would start itself: of the same version and so on. Of several hubs of a run each has its own hosts, so
    it takes the place of one with the same number.
    """
    resting = socket_paths.resting_sockets(path)
    wanted = fingerprint(environ, settings.ansible) if resting else ""
    for name, offered in resting:
        if offered == wanted:
            with contextlib.suppress(OSError, HubError, TimeoutError), contextlib.closing(Client(name)) as client:
                client.send({"op": "adopt", "id": 1, "run": run_pid, "path": path, "settings": settings.message()})
                if client.receive(START_LIMIT)[0]["op"] == Op.OK:
                    return True
    return False


@contextlib.contextmanager
def _lock(path: str) -> Iterator[None]:
    """Hold the file *path*, which its last holder removes: so what we hold must still be what has the name. Raises HubError."""
    try:
        lock = _take(path)
    except OSError as exc:
        raise HubError(f"{path}: {exc.strerror}") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(lock)


def _take(path: str) -> int:
    while True:
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # a hub that ended has just removed the empty directory
            private_directory.make(os.path.dirname(path))
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock).st_ino == os.stat(path).st_ino:
                return lock
        except FileNotFoundError:
            pass
        os.close(lock)
