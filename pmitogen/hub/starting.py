"""Starting a hub, by the first worker of a run that needs one.

A lock beside the socket settles who is the first; the others wait for it and find the socket. A worker may *begin* before
it needs the hub, so that the hub loads its libraries while Ansible builds the first task's payload; it then holds the lock
until it has waited for the hub, or ends. The process that forks the workers may begin earlier still, and wait for nothing ever:
then it is the hub itself that holds the lock, until it listens or ends.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import subprocess
import sys

from pmitogen.errors import HubError
from pmitogen.hub import paths
from pmitogen.hub.client import Client

START_LIMIT = 20.0  # seconds that a resting hub may take to answer


class Start:
    """A hub that we are starting. Holds the lock."""

    def __init__(self, path: str, lock: int) -> None:
        self._path = path
        self._lock = lock
        self._read_fd: int | None = None

    def spawn(self, run_pid: int, *, hand_over: bool = False) -> None:
        """Start the process; *hand_over*: and give it the lock, for nobody will wait for it here. Raises HubError."""
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        self._read_fd, write_fd = os.pipe()
        try:
            code = f"import sys;sys.path.insert(0,{root!r});from pmitogen.hub.main import main;main()"
            lock = [str(self._lock)] if hand_over else []
            process = subprocess.Popen(
                [sys.executable, "-c", code, self._path, str(run_pid), str(write_fd), *lock],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None if os.environ.get("PMITOGEN_LOG") else subprocess.DEVNULL,
                pass_fds=[write_fd, self._lock] if hand_over else [write_fd],
                start_new_session=True,
                cwd="/",
            )
        except OSError as exc:
            raise HubError(f"{sys.executable}: the hub cannot be started: {exc.strerror}") from None
        finally:
            os.close(write_fd)
        process.returncode = 0  # it outlives us by design; nobody here waits for it
        if hand_over:
            os.close(self._read_fd)
            os.close(self._lock)

    def finish(self) -> None:
        """Wait until it listens, and let the others look. Raises HubError."""
        try:
            if self._read_fd is not None:
                with os.fdopen(self._read_fd, "rb") as stream:
                    said = stream.read()
                if said != b"ok":
                    raise HubError(said.decode("utf-8", "replace").strip() or "the hub ended while it started")
        finally:
            self.let_go()

    def let_go(self) -> None:
        """Release the lock."""
        release(self._lock, self._path)


_begun: dict[str, Start] = {}


def begin(path: str, run_pid: int) -> None:
    """Start a hub for *path* unless somebody is about to; wait for nothing. Raises HubError, OSError."""
    if path in _begun:
        return
    lock = _take_lock(path + ".lock", wait=False)
    if lock is None:
        return
    start = Start(path, lock)
    try:
        if not os.path.exists(path) and not _adopt_resting(path, run_pid):
            start.spawn(run_pid)
            _begun[path] = start
    finally:
        if path not in _begun:
            start.let_go()


def begin_ahead(path: str, run_pid: int) -> None:
    """Start a hub for *path*, in the process that workers are forked from. Raises HubError, OSError."""
    lock = _take_lock(path + ".lock", wait=False)
    if lock is None:
        return
    start = Start(path, lock)
    try:
        if os.path.exists(path) or _adopt_resting(path, run_pid):
            start.let_go()
        else:
            start.spawn(run_pid, hand_over=True)
    except BaseException:
        start.let_go()
        raise


def release(lock: int, path: str) -> None:
    """In a hub that was handed the lock: it listens."""
    with contextlib.suppress(OSError):
        os.unlink(path + ".lock")
    os.close(lock)


def ensure(path: str, run_pid: int) -> None:
    """Return when a hub listens on *path*. Raises HubError."""
    start = _begun.pop(path, None)
    if start is None:
        try:
            lock = _take_lock(path + ".lock", wait=True)
        except OSError as exc:
            raise HubError(f"{path}.lock: {exc.strerror}") from None
        assert lock is not None
        start = Start(path, lock)
        try:
            if not _listens(path) and not _adopt_resting(path, run_pid):
                start.spawn(run_pid)
        except BaseException:
            start.let_go()
            raise
    start.finish()


def _listens(path: str) -> bool:
    try:
        Client(path).close()
    except OSError as exc:
        if exc.errno not in (errno.ENOENT, errno.ECONNREFUSED):
            raise HubError(f"{path}: {exc.strerror}") from None
        return False
    return True


def _adopt_resting(path: str, run_pid: int) -> bool:
    """Have a hub that has outlived its run (ControlPersist) serve this one. Returns whether one does."""
    folder = os.path.dirname(path)
    for name in os.listdir(folder):
        if name.startswith(paths.RESTING) and name.endswith(".sock"):
            with contextlib.suppress(OSError, HubError, TimeoutError):
                client = Client(os.path.join(folder, name))
                client.send({"op": "adopt", "id": 1, "run": run_pid, "path": path})
                answer = client.receive(START_LIMIT)[0]
                client.close()
                if answer["op"] == "ok":
                    return True
    return False


def _take_lock(path: str, *, wait: bool) -> int | None:
    """Hold the file *path*, which its last holder removes: so what we hold must still be what has the name.

    None: another holds it, and we were not to wait. Raises OSError.
    """
    while True:
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # a hub that ended has just removed the empty directory
            paths.private_dir()
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if os.fstat(lock).st_ino == os.stat(path).st_ino:
                return lock
        except BlockingIOError:
            os.close(lock)
            return None
        except FileNotFoundError:
            pass
        os.close(lock)
