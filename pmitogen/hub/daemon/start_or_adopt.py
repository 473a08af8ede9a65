"""Start a hub, or adopt one on standby.

The first process of a run that needs a hub creates the listening socket and passes it to the new process. So clients can connect
at once; their requests wait in the socket buffer until the hub is up. If the hub fails to start, it sends the reason to every
client connected so far (see main.py). A lock beside the socket ensures that only one process starts a hub.
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

HUB_COMMAND = "from pmitogen.hub.daemon.main import main;main()"  # code of the new process
SAFE_PATH = ("-P",) if sys.version_info >= (3, 11) else ()  # no current directory on its path, not even for -c itself
STANDBY_REPLY_TIMEOUT = 20.0  # seconds that a hub on standby may take to answer
_HAS_PROC = os.path.exists("/proc/self/fd")  # then a hub opens the run's stderr itself: a worker's may be closed
BACKLOG = 256  # workers that may connect before the hub accepts


def connect(run_pid: int, hub_index: int = 0, *, caller: CallerEnvironment | None = None, log: str | None = None) -> Client:
    """Return a connection to a hub of the run whose main process is *run_pid*, started if there is none. Raises HubError.

    A hub that is still starting answers once it is up; if it cannot start, requests raise a HubError with the reason.
    *hub_index*: index of the hub, if the run has several. *caller*: environment for a new hub; None: that of this process.
    *log*: the level of detail that a new hub logs to this process's stderr ("debug"), if PMITOGEN_LOG is not set.
    """
    path = socket_paths.run_socket(run_pid, hub_index)
    ensure_running(path, run_pid, caller or CallerEnvironment.current(), log=log)
    try:
        return Client(path)
    except OSError as exc:
        raise HubError(f"{path}: {exc.strerror}") from None


def start(run_pid: int, caller: CallerEnvironment, hub_index: int = 0, *, log: str | None = None) -> None:
    """Start the hub of this index if the run has none, and send it the *caller*. Never raises; :func:`connect` will."""
    with contextlib.suppress(OSError, HubError):
        path = socket_paths.run_socket(run_pid, hub_index)
        if not os.path.exists(path):
            ensure_running(path, run_pid, caller, log=log)


def ensure_running(path: str, run_pid: int, caller: CallerEnvironment, *, log: str | None = None) -> None:
    """Return when *path* can be connected to. A hub that this call adopts or starts gets the *caller*.

    *log*: the level that such a hub logs to this process's stderr, if PMITOGEN_LOG is not set. Raises HubError.
    """
    with _lock(path + ".lock"):
        if _listens(path):
            return
        settings = RunSettings.of(caller, log, str(getattr(sys.modules.get("ansible.release"), "__version__", "")))
        environ = process_environment(caller)
        if not _adopt_standby(path, run_pid, settings, environ):
            with _bind(path) as listening:
                _spawn(listening, path, run_pid, settings, environ)
        with contextlib.suppress(OSError, HubError), contextlib.closing(Client(path)) as client:
            client.introduce(caller)
            client.flush()


def _spawn(listening: socket.socket, path: str, run_pid: int, settings: RunSettings, environ: dict[str, str]) -> None:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    # The current directory is /, see below; from there, too, nothing is imported.
    code = f"import sys;sys.path[:]=[{root!r}]+[p for p in sys.path if p not in ('','.','/')];{HUB_COMMAND}"
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
    process.returncode = 0  # it outlives this process by design; nothing waits for it


@contextlib.contextmanager
def _bind(path: str) -> Iterator[socket.socket]:
    """Yield a socket that listens on *path*, and replaces a stale one. It is closed at the end of the block. Raises HubError."""
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
        return socket_paths.is_listening(path)
    except OSError as exc:
        raise HubError(f"{path}: {exc.strerror}") from None


def _adopt_standby(path: str, run_pid: int, settings: RunSettings, environ: dict[str, str]) -> bool:
    """Adopt a hub on standby (ControlPersist) for this run. Returns whether there is one.

    It must equal the hub that this run would start (see compatibility.py), and have the same index, because each hub of a run
    has its own hosts.
    """
    is_standby = socket_paths.standby_sockets(path)
    wanted = fingerprint(environ, settings.ansible) if is_standby else ""
    for name, offered in is_standby:
        if offered == wanted:
            with contextlib.suppress(OSError, HubError, TimeoutError), contextlib.closing(Client(name)) as client:
                client.send({"op": "adopt", "id": 1, "run": run_pid, "path": path, "settings": settings.message()})
                if client.receive(STANDBY_REPLY_TIMEOUT)[0]["op"] == Op.OK:
                    return True
    return False


@contextlib.contextmanager
def _lock(path: str) -> Iterator[None]:
    """Hold an exclusive lock on the file *path*, and remove the file at the end. Raises HubError."""
    try:
        lock = _acquire(path)
    except OSError as exc:
        raise HubError(f"{path}: {exc.strerror}") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(lock)


def _acquire(path: str) -> int:
    while True:
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # another hub has ended meanwhile, and removed the empty directory
            private_directory.make(os.path.dirname(path))
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock).st_ino == os.stat(path).st_ino:  # otherwise the previous holder has removed the file
                return lock
        except FileNotFoundError:
            pass
        os.close(lock)
