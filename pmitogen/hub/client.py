"""What a worker needs of the hub: find it or start it, and exchange frames with it. Standard library only, no thread.

Ansible forks a process for every task, so this is imported and run anew each time; it costs one connect(2) on a local
socket and one frame each way. The first worker that finds no hub starts one (see starting.py).
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Any

from pmitogen.errors import HubError
from pmitogen.hub.daemon import socket_paths
from pmitogen.protocol import hello
from pmitogen.target import frames

GONE = "the hub of this run has gone: something ended it (pmitogen hubs --stop, a lack of memory); see PMITOGEN_LOG_FILE"
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
        self._unsent = [frames.pack({"op": "hello", **hello.identity()})]
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
        self.queue(header, body)
        self.flush()

    def flush(self) -> None:
        """Send what is queued. Raises HubError."""
        data, self._unsent = b"".join(self._unsent), []
        try:
            self._sock.settimeout(None)
            self._sock.sendall(data)
        except OSError:
            with contextlib.suppress(OSError):
                self._sock.settimeout(0)
                self._ready += self._reader.feed(self._sock.recv(1 << 18))
            for said, _ in self._ready:
                _check(said)
            raise HubError(GONE) from None

    def receive(self, timeout: float | None = None) -> tuple[Header, bytes]:
        """Wait for one frame, at most *timeout* seconds between two pieces of it. Raises HubError, TimeoutError."""
        while not self._ready:
            try:
                self._sock.settimeout(timeout)
                data = self._sock.recv(1 << 18)
            except TimeoutError:
                raise
            except OSError:
                raise HubError(GONE) from None
            if not data:
                raise HubError(GONE)
            self._ready = self._reader.feed(data)
        frame = self._ready.pop(0)
        _check(frame[0])
        return frame

    def close(self) -> None:
        self._sock.close()


def _check(frame: Header) -> None:
    """Raise the HubError that a hub says instead of anything else, if it could not start."""
    if frame["op"] == "refused":
        raise HubError(frame["msg"])


def connect(run_pid: int, number: int = 0, *, log: str | None = None) -> Client:
    """Return a connection to a hub of the run whose main process is *run_pid*, started if there is none. Raises HubError.

    A hub that is still starting answers once it is up; if it cannot start, what is asked of it raises a HubError that says why.
    *number*: which of the run's hubs, if it has several. *log*: the level of detail that a new hub logs to our stderr ("debug"),
    if PMITOGEN_LOG does not say.
    """
    path = socket_paths.run_socket(run_pid, number)
    with contextlib.suppress(OSError):
        return Client(path)
    from pmitogen.hub.daemon import spawn

    spawn.ensure(path, run_pid, log=log)
    try:
        return Client(path)
    except OSError as exc:
        raise HubError(f"{path}: {exc.strerror}") from None


def begin(run_pid: int, number: int = 0, *, log: str | None = None) -> None:
    """If the run has no hub of this number, start it. Never raises: :func:`connect` will."""
    with contextlib.suppress(OSError, HubError):
        path = socket_paths.run_socket(run_pid, number)
        if not os.path.exists(path):
            from pmitogen.hub.daemon import spawn

            spawn.ensure(path, run_pid, log=log)


def connect_existing(run_pid: int, number: int = 0) -> Client | None:
    """Return a connection to a hub of a run, or None if it has none of this number. Raises HubError."""
    try:
        return Client(socket_paths.run_socket(run_pid, number))
    except OSError:
        return None


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
    folder = socket_paths.private_dir(create=False)
    clients = []
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(folder)):
            if name.endswith(".sock"):
                with contextlib.suppress(OSError):
                    clients.append(Client(os.path.join(folder, name)))
    return clients
