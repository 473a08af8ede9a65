"""A client of the hub: find it, and exchange frames with it. Standard library only, no thread.

Ansible forks a process for every task, so this is imported and run anew each time; it costs one connect(2) on a local
socket and one frame each way. A worker that finds no hub starts one (see daemon/start_or_adopt.py, which uses this file).
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, cast

from pmitogen.errors import HubError
from pmitogen.hub.daemon import socket_paths
from pmitogen.protocol import framing, hello
from pmitogen.protocol.operations import Op
from pmitogen.util import processes
from pmitogen.util.caller import CallerEnvironment

HUB_ENDED = "the hub of this run has ended"
HUB_GONE_MESSAGE = f"{HUB_ENDED}: its process was killed, or the system lacks memory; PMITOGEN_LOG_FILE shows more"
ANSWER_LIMIT = 5.0  # seconds for the answer of a hub to the request for its status
STOP_TIMEOUT = 8.0  # seconds for the end of a hub after the request to stop

if TYPE_CHECKING:
    from pmitogen.protocol.messages_from_client import Options
    from pmitogen.protocol.messages_to_client import Answer


class Client:
    """One connection to a hub. Not thread-safe. The hub answers every request, and its end closes the socket.

    Raises OSError if no process listens at *path*, HubError if another user's does.
    """

    is_paused = False  # where the hub takes no data, sending blocks

    def __init__(self, path: str) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with socket_paths.address(path) as address:
                self._sock.connect(address)
            if (uid := processes.peer_uid(self._sock)) not in (None, os.getuid(), 0):
                raise HubError(f"{path}: uid {uid} listens there, not a hub of this account")
        except (OSError, HubError):
            self._sock.close()
            raise
        self._reader = framing.FrameReader()
        self._ready: list[tuple[Answer, bytes]] = []
        self._unsent = [framing.encode_frame({"op": "hello", **hello.identity()})]
        self._last_id = 0
        self._caller: CallerEnvironment | None = None
        self.on_warnings: Callable[[list[tuple[str, str]]], None] = lambda warnings: None  # called by receive()

    def next_id(self) -> int:
        """Return a number for a request, unique on this connection."""
        self._last_id += 1
        return self._last_id

    def open(self, options: Options, caller: CallerEnvironment) -> None:
        """Send the option set and the caller with the next frame. If the hub asks for the caller, :meth:`receive` answers."""
        self._caller = caller
        self.queue({"op": "open", "options": options, "caller": caller.digest, "pid": os.getpid()})

    def introduce(self, caller: CallerEnvironment) -> None:
        """Send a caller's environment with the next frame, so that the hub does not need to request it."""
        self.queue({"op": "caller", **caller.message()})

    def queue(self, header: Mapping[str, object], body: bytes = b"") -> None:
        """Send with the next frame, in one write."""
        self._unsent.append(framing.encode_frame(dict(header), body))

    def send(self, header: Mapping[str, object], body: bytes = b"") -> None:
        """Send one frame now. Raises HubError."""
        self.queue(header, body)
        self.flush()

    def flush(self) -> None:
        """Send all queued frames. Raises HubError."""
        data, self._unsent = b"".join(self._unsent), []
        try:
            self._sock.settimeout(None)
            self._sock.sendall(data)
        except OSError:
            with contextlib.suppress(OSError):
                self._sock.settimeout(0)
                self._ready += self._parse(self._sock.recv(1 << 18))
            for frame, _ in self._ready:
                _raise_if_refused(frame)
            raise HubError(HUB_GONE_MESSAGE) from None

    def receive(self, timeout: float | None = None) -> tuple[Answer, bytes]:
        """Wait for one frame, at most *timeout* seconds between two pieces of it. Raises HubError, TimeoutError."""
        while not self._ready:
            try:
                self._sock.settimeout(timeout)
                data = self._sock.recv(1 << 18)
            except TimeoutError:
                raise
            except OSError:
                raise HubError(HUB_GONE_MESSAGE) from None
            if not data:
                raise HubError(HUB_GONE_MESSAGE)
            try:
                self._ready = self._parse(data)
            except framing.FrameError as exc:
                raise HubError(f"not a pmitogen hub: {exc}") from None
        frame = self._ready.pop(0)
        _raise_if_refused(frame[0])
        if frame[0].get("op") == Op.NEED and "caller" in frame[0] and self._caller is not None:
            self.introduce(self._caller)
            self.flush()
            return self.receive(timeout)
        if frame[0].get("op") == Op.WARNINGS:
            self.on_warnings(frame[0]["warnings"])
            return self.receive(timeout)
        return frame

    def _parse(self, data: bytes) -> list[tuple[Answer, bytes]]:
        return cast("list[tuple[Answer, bytes]]", self._reader.feed(data))

    def close(self) -> None:
        self._sock.close()


def _raise_if_refused(frame: Answer) -> None:
    """Raise HubError if *frame* is ``refused``: the hub could not start, or does not serve this client."""
    if frame.get("op") == Op.REFUSED:
        raise HubError(str(frame.get("msg")))


def has_socket(run_pid: int, hub_index: int = 0) -> bool:
    """Return True if a hub of this index runs, or another process starts it. Raises HubError."""
    with contextlib.suppress(OSError):
        return os.path.exists(socket_paths.run_socket(run_pid, hub_index))
    return False


def connect_if_running(run_pid: int, hub_index: int = 0) -> Client | None:
    """Return a connection to a hub of a run, or None if it has none of this index. Raises HubError."""
    try:
        return Client(socket_paths.run_socket(run_pid, hub_index))
    except OSError:
        return None


def list_hubs() -> tuple[list[Answer], list[str]]:
    """Ask every running hub of this account about itself.

    Each answer has ``pid``, ``run`` (a pid; None: the hub is on standby for a later run), ``hosts`` and ``age`` (seconds). The
    second list has a line for each socket at which no hub answers.
    """
    answers: list[Answer] = []
    problems: list[str] = []
    for path, client in _connect_all(problems):
        with contextlib.closing(client):
            try:
                answers.append(_status(client))
            except (HubError, TimeoutError) as exc:
                problems.append(f"{path}: {exc if isinstance(exc, HubError) else 'no answer'}")
    return answers, problems


def stop_hubs(pid: int | None = None, *, everything: bool = False) -> int:
    """End the hubs on standby; or the one with this *pid*; or, for *everything*, all of this account.

    Waits at most ``STOP_TIMEOUT`` for each. Returns how many have ended.
    """
    stopped = 0
    for _, client in _connect_all([]):
        with contextlib.closing(client), contextlib.suppress(HubError, TimeoutError):
            status = _status(client)
            is_standby = status.get("run") is None
            if status.get("pid") == pid if pid is not None else everything or is_standby:
                client.send({"op": "stop", "id": 2, "standby_only": pid is None and not everything})
                stopped += _wait_for_end(client)
    return stopped


def _status(client: Client) -> Answer:
    """Ask a hub for its status. Raises HubError, TimeoutError."""
    client.send({"op": "status", "id": 1})
    return client.receive(ANSWER_LIMIT)[0]


def _wait_for_end(client: Client) -> bool:
    """Wait until the hub has ended. Returns whether it has: not if it serves a run after all, or takes longer."""
    until = time.monotonic() + STOP_TIMEOUT
    while time.monotonic() < until:
        try:
            if client.receive(STOP_TIMEOUT)[0].get("op") == Op.ERROR:
                return False
        except HubError:
            return True
        except TimeoutError:
            break
    return False


def _connect_all(problems: list[str]) -> Iterator[tuple[str, Client]]:
    """Yield the socket of each hub and a connection to it. *problems* gets a line for each socket that is not trusted."""
    for directory in socket_paths.existing_dirs():
        for name in sorted(os.listdir(directory)):
            if name.endswith(".sock") and not socket_paths.is_ssh_socket(name):
                path = os.path.join(directory, name)
                try:
                    client = Client(path)
                except OSError:
                    continue  # of a killed hub
                except HubError as exc:
                    problems.append(str(exc))
                    continue
                yield path, client
