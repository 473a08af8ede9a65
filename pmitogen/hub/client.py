"""What a worker needs of the hub: find it or start it, and exchange frames with it. Standard library only, no thread.

Ansible forks a process for every task, so this is imported and run anew each time; it costs one connect(2) on a local
socket and one frame each way. The first worker that finds no hub starts one, under a lock, and the others wait for its
socket.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import subprocess
import sys
import time
from typing import Any

from pmitogen.errors import HubError
from pmitogen.hub import paths
from pmitogen.target import frames

VERSION = 1  # of the frames between worker and hub
START_LIMIT = 20.0  # seconds a hub may take to listen
Header = dict[str, Any]


class Client:
    """One connection to a hub. Not thread-safe. The hub answers every request, and its end closes the socket."""

    def __init__(self, path: str) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._sock.connect(path)
        except OSError:
            self._sock.close()
            raise
        self._reader = frames.Reader()
        self._ready: list[tuple[Header, bytes]] = []
        self._unsent: list[bytes] = []
        self._last_id = 0

    def next_id(self) -> int:
        """A number for a request, unique on this connection."""
        self._last_id += 1
        return self._last_id

    def queue(self, header: Header, body: bytes = b"") -> None:
        """Send with the next frame, in one write."""
        self._unsent.append(frames.pack(header, body))

    def send(self, header: Header, body: bytes = b"") -> None:
        """Send one frame now. Raises HubError."""
        self._unsent.append(frames.pack(header, body))
        data, self._unsent = b"".join(self._unsent), []
        try:
            self._sock.settimeout(None)
            self._sock.sendall(data)
        except OSError as exc:
            raise HubError(f"the hub of this run has gone: {exc.strerror}") from None

    def receive(self, timeout: float | None = None) -> tuple[Header, bytes]:
        """Wait for one frame, at most *timeout* seconds between two pieces of it. Raises HubError, TimeoutError."""
        while not self._ready:
            try:
                self._sock.settimeout(timeout)
                data = self._sock.recv(1 << 18)
            except TimeoutError:
                raise
            except OSError as exc:
                raise HubError(f"the hub of this run has gone: {exc.strerror}") from None
            if not data:
                raise HubError("the hub of this run has gone")
            self._ready = self._reader.feed(data)
        return self._ready.pop(0)

    def has_frame(self) -> bool:
        """Whether :meth:`receive` would return at once."""
        return bool(self._ready)

    def close(self) -> None:
        self._sock.close()


def connect(run_pid: int) -> Client:
    """Return a connection to the hub of the run whose main process is *run_pid*, started if there is none. Raises HubError."""
    path = paths.run_socket(run_pid)
    with contextlib.suppress(OSError):
        return Client(path)
    return _start_and_connect(path, run_pid)


def connect_existing(run_pid: int) -> Client | None:
    """Return a connection to the hub of a run, or None if it has none. Raises HubError."""
    try:
        return Client(paths.run_socket(run_pid))
    except OSError:
        return None


def _start_and_connect(path: str, run_pid: int) -> Client:
    """Start the hub, unless another worker does so first. Raises HubError."""
    try:
        lock = _take_lock(path + ".lock")
    except OSError as exc:
        raise HubError(f"{path}.lock: {exc.strerror}") from None
    try:
        try:
            return Client(path)
        except OSError as exc:
            if exc.errno not in (errno.ENOENT, errno.ECONNREFUSED):
                raise HubError(f"{path}: {exc.strerror}") from None
        if not _adopt_resting(path, run_pid):
            _spawn(path, run_pid)
        return Client(path)
    except OSError as exc:
        raise HubError(f"{path}: {exc.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path + ".lock")
        os.close(lock)


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


def _take_lock(path: str) -> int:
    """Hold the file *path*, which its last holder removes: so what we hold must still be what has the name. Raises OSError."""
    while True:
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # a hub that ended has just removed the empty directory
            paths.private_dir()
            continue
        with contextlib.suppress(FileNotFoundError):
            fcntl.lockf(lock, fcntl.LOCK_EX)
            if os.fstat(lock).st_ino == os.stat(path).st_ino:
                return lock
        os.close(lock)


def _spawn(path: str, run_pid: int) -> None:
    """Start a hub and wait until it listens: it closes the pipe that it was given."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    read_fd, write_fd = os.pipe()
    try:
        code = f"import sys;sys.path.insert(0,{root!r});from pmitogen.hub.main import main;main()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, path, str(run_pid), str(write_fd)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=None if os.environ.get("PMITOGEN_LOG") else subprocess.DEVNULL,
            pass_fds=[write_fd],
            start_new_session=True,
            cwd="/",
        )
    except OSError as exc:
        os.close(read_fd)
        raise HubError(f"{sys.executable}: the hub cannot be started: {exc.strerror}") from None
    finally:
        os.close(write_fd)
    process.returncode = 0  # it outlives us by design; nobody here waits for it
    with os.fdopen(read_fd, "rb") as stream:
        said = stream.read()
    if said != b"ok":
        raise HubError(said.decode("utf-8", "replace").strip() or "the hub ended while it started")


def list_hubs() -> list[Header]:
    """Ask every running hub of this account about itself. Each answer has ``pid``, ``run``, ``hosts`` and ``age`` (seconds)."""
    found = []
    for client in _each_hub():
        with contextlib.suppress(HubError):
            client.send({"op": "status", "id": 1})
            header, _ = client.receive()
            found.append(header)
        client.close()
    return found


def stop_hub(pid: int | None = None, limit: float = 8.0) -> int:
    """End the hub with this *pid* (or all of this account), and wait at most *limit* seconds. Returns how many were told."""
    told = 0
    for client in _each_hub():
        with contextlib.suppress(HubError):
            client.send({"op": "status", "id": 1})
            if pid is None or client.receive()[0].get("pid") == pid:
                client.send({"op": "stop", "id": 2})
                told += 1
                _wait_closed(client, limit)
        client.close()
    return told


def _wait_closed(client: Client, limit: float) -> None:
    with contextlib.suppress(HubError, TimeoutError):
        until = time.monotonic() + limit
        while time.monotonic() < until:
            client.receive(limit)


def _each_hub() -> list[Client]:
    folder = paths.private_dir(create=False)
    clients = []
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(folder)):
            if name.endswith(".sock"):
                with contextlib.suppress(OSError):
                    clients.append(Client(os.path.join(folder, name)))
    return clients
