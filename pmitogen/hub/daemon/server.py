"""The hub's private socket: access control, and the frames of workers.

The socket is in a directory that only this account can enter, its own mode is 0600, and every peer's credentials are checked,
so a peer has this account's privileges. Still, nothing from it is evaluated or unpickled: frames only (see
protocol/framing.py).

A worker says ``hello`` first (see protocol/hello.py), then ``open`` with its option set, once, then makes requests; each is
answered by frames with its number. ``open`` contains a digest of the caller; if no client has sent that ``caller`` yet, the
hub answers with ``need``. When the connection ends, the hub cancels its requests. ``status`` and ``stop`` are for ``pmitogen
hubs``.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import itertools
import logging
import os
import socket
import time
from typing import TYPE_CHECKING, cast

import mitogen.core

from pmitogen.errors import ConnectionLost, Error, UsageError
from pmitogen.hub.daemon.lifecycle import HubLifecycle
from pmitogen.hub.daemon.run_settings import RunSettings
from pmitogen.hub.daemon.run_warnings import RunWarnings
from pmitogen.hub.daemon.socket_paths import warnings_file
from pmitogen.hub.host.host import Host
from pmitogen.hub.host.states import State
from pmitogen.hub.registry import HostRegistry
from pmitogen.hub.requests import FINAL, FOLLOWING, Request, error_frame
from pmitogen.hub.scheduler import Guard
from pmitogen.protocol import framing, hello, messages_from_client
from pmitogen.protocol.error_kinds import ProtocolError
from pmitogen.protocol.operations import Op
from pmitogen.util import limits, processes
from pmitogen.util.caller import CallerEnvironment

if TYPE_CHECKING:
    from pmitogen.hub.mitogen_router import Broker
    from pmitogen.protocol.messages_to_client import Answer
    from pmitogen.protocol.requests import ConnectionOptions, FollowUp, RequestHeader

LOG = logging.getLogger("pmitogen.hub")
ACCEPT_RETRY_DELAY = 0.2  # seconds until it is seen whether there is a file again for a worker's connection
MAX_TRANSFERS = 100  # that pmitogen hubs lists
MAX_CALLERS = 100  # of one run; one that is forgotten is asked for again
REQUESTS = frozenset(("run", "exec", "put", "get", "fs"))


class Listener(mitogen.core.Stream):  # type: ignore[misc]
    """The listening socket *sock*, which has the name *path*, on the I/O loop."""

    def __init__(self, registry: HostRegistry, sock: socket.socket, path: str, lifecycle: HubLifecycle) -> None:
        self.name = "listener"
        self.path = path
        self.lifecycle = lifecycle
        self.registry = registry
        self.created_at = time.time()
        self.connections = 0
        self.callers: dict[str, CallerEnvironment] = {}  # by digest
        self.warnings = RunWarnings(lambda: warnings_file(self.path))
        registry.on_warning = self.warnings.add
        self._chains = itertools.count(1)
        self._sock = sock
        self._sock.setblocking(False)
        self.set_protocol(mitogen.core.Protocol())
        self.accept(self._sock, self._sock)
        registry.broker.start_receive(self)

    def on_receive(self, broker: Broker) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError as exc:
                if limits.is_exhaustion(exc):  # the loop would report it again and again
                    broker.stop_receive(self)
                    self.registry.guard.call_later(ACCEPT_RETRY_DELAY, broker.start_receive, self)
                return
            if not _peer_is_allowed(sock):
                LOG.warning("refused a connection of another account")
                sock.close()
                continue
            WorkerSession(self, sock, next(self._chains))

    def on_shutdown(self, broker: Broker) -> None:
        self.on_disconnect(broker)

    def rename(self, path: str) -> None:
        """Rename the socket."""
        os.rename(self.path, path)
        self.path = path

    def add_caller(self, caller: CallerEnvironment) -> None:
        """Store a caller of the run. A run has one, or one for each change of its environment or directory."""
        self.callers[caller.digest] = caller
        if len(self.callers) > MAX_CALLERS:
            del self.callers[next(iter(self.callers))]

    def close(self) -> None:
        """Remove the socket's name, so that no client finds it without a listener."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


def _peer_is_allowed(sock: socket.socket) -> bool:
    """Return whether the peer runs as this account or as root."""
    return processes.peer_uid(sock) in (None, os.getuid(), 0)  # None: the directory's mode protects the socket


class WorkerSessionProtocol(mitogen.core.Protocol):  # type: ignore[misc]
    """Frames of one worker."""

    read_size = 1 << 18

    def __init__(self, worker: WorkerSession) -> None:
        self._worker = worker
        self._reader = framing.FrameReader()
        self._writer = mitogen.core.BufferedWriter(worker.listener.registry.broker, self)

    def on_receive(self, broker: Broker, buf: bytes) -> None:
        self._worker.guard.run(self._receive, buf)

    def _receive(self, buf: bytes) -> None:
        for header, body in self._reader.feed(buf):
            self._worker.on_frame(header, body)

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    def on_transmit(self, broker: Broker) -> None:
        self._writer.on_transmit(broker)

    def on_disconnect(self, broker: Broker) -> None:
        super().on_disconnect(broker)
        self._worker.on_disconnected()


class WorkerSession:
    """One connection from a worker."""

    def __init__(self, listener: Listener, sock: socket.socket, chain: int) -> None:
        self.listener = listener
        self.guard = Guard(listener.registry.scheduler, self._failed)
        self._registry = listener.registry
        self._chain = chain
        self._host: Host | None = None
        self._requests: dict[int, Request] = {}
        self._awaiting_archive: dict[str, list[Request]] = {}
        self._held: list[tuple[framing.Header, bytes]] = []  # frames since an ``open`` whose caller is not known yet
        self._is_disconnected = False
        self._preconnect: Request | None = None
        self._preconnect_error: Answer | None = None  # its error, if it failed
        self._refusal = hello.difference({})  # the reason not to serve it: no hello so far, or another version
        self.pid = 0  # the worker's process id, if it sends it
        listener.connections += 1
        self._stream = mitogen.core.Stream()
        self._stream.name = "worker"
        self._stream.set_protocol(WorkerSessionProtocol(self))
        sock.setblocking(False)
        self._stream.accept(sock, _WriteSide(sock))
        self._registry.broker.start_receive(self._stream)

    def answer(self, header: Answer, body: bytes) -> None:
        """Send the worker one frame, after the run's new warnings."""
        is_listening = bool(self._requests)  # it waits for answers to requests
        if header["op"] in FINAL:
            ended = self._requests.pop(header["id"], None)
            if ended is not None and ended is self._preconnect:
                self._preconnect_error = header if header["op"] == Op.ERROR else None
                return
        if self._is_disconnected:
            return
        if is_listening and (warnings := self.listener.warnings.take()):
            self._stream.protocol.write(framing.encode_frame({"op": Op.WARNINGS.value, "warnings": warnings}, b""))
        self._stream.protocol.write(framing.encode_frame(dict(header), body))

    def pause(self) -> None:
        """Stop reading: the host does not accept more data for now."""
        if not self._is_disconnected:
            self._registry.broker.stop_receive(self._stream)

    def resume(self) -> None:
        """Resume reading."""
        if not self._is_disconnected:
            self._registry.broker.start_receive(self._stream)

    def on_disconnected(self) -> None:
        """Cancel the requests of a worker that has ended."""
        if self._is_disconnected:
            return
        self._is_disconnected = True
        self.listener.connections -= 1
        for request in list(self._requests.values()):
            host = request.host or self._host
            if request.client is not None and host is not None:
                host.guard.run(host.abandon, request)
        if self._host is not None:
            self._host.guard.run(self._host.end_chain, self._chain)

    def on_frame(self, header: framing.Header, body: bytes) -> None:
        """Handle one frame of the worker. Raises ProtocolError if it is invalid, or not allowed now."""
        op = header.get("op")
        if self._is_disconnected:
            return
        if self._refusal is not None and (type(op) is not str or op not in hello.STABLE):
            self._refuse(self._refusal)
            return
        messages_from_client.TABLE.check(header, len(body))
        if self._held and op not in ("caller", *hello.STABLE):
            self._held.append((header, body))
        elif op in FOLLOWING:
            request = self._requests.get(header.get("id", -1))
            host = self._host if request is None else request.host or self._host
            if request is not None and host is not None:
                follow_up = cast("FollowUp", {key: value for key, value in header.items() if key != "id"})
                host.follow(request, follow_up, body)
        elif op in REQUESTS:
            self._request(cast("RequestHeader", header), body)
        else:
            getattr(self, f"_on_{op}")(header, body)

    def _fail(self, header: messages_from_client.Adopt | messages_from_client.Stop, error: Error) -> None:
        """Answer a frame that is not a request to a host with *error*."""
        self.answer({**error_frame(error), "id": header["id"]}, b"")

    def _failed(self, exc: Exception) -> None:
        """Refuse a client whose frames cannot be handled."""
        if isinstance(exc, (ProtocolError, framing.FrameError)):
            self._refuse(f"protocol error: the client sent {exc}")
        else:
            LOG.error("internal error", exc_info=exc)
            self._refuse(f"the hub has an internal error: {type(exc).__name__}; PMITOGEN_LOG=debug shows more")

    def _refuse(self, reason: str) -> None:
        """End the connection, and say why."""
        LOG.warning("refused a client: %s", reason)
        self.answer({"op": "refused", "msg": reason}, b"")
        self._stream.on_disconnect(self._registry.broker)

    def _on_hello(self, header: messages_from_client.Hello, body: bytes) -> None:
        self._refusal = hello.difference({name: value for name, value in header.items() if name != "op"})

    def _check_new(self, op: str, request_id: int) -> None:
        """Check that a request may be made now. Raises ProtocolError."""
        if self._host is None:
            raise ProtocolError(f"{op} before open")
        if request_id in self._requests:
            raise ProtocolError(f"{op} with id {request_id}, which is in use")

    def _request(self, header: RequestHeader, body: bytes) -> None:
        self._check_new(header["op"], header["id"])
        if header.get("in_turn") and header.get("more"):
            raise ProtocolError("in_turn with more")
        task = header.pop("task", "")
        request = Request(self, header.pop("id"), header, body, task=task)
        self._requests[request.client_id] = request
        header["chain"] = self._chain
        failed = self._preconnect is not None and self._preconnect_error is not None  # then no archive is needed
        if not failed and header["op"] == Op.RUN and self._registry.blobs.manifest_of(header["archive"]) is None:
            waiting = self._awaiting_archive.setdefault(header["archive"], [])
            waiting.append(request)
            if len(waiting) == 1:
                self.answer({"op": "need", "id": request.client_id, "archive": header["archive"]}, b"")
            return
        self._submit(request)

    def _submit(self, request: Request) -> None:
        """Submit a request that is complete. Until then the connection that was made ahead for it may fail."""
        if self._preconnect is None or not self._resolve_preconnect(self._preconnect, request):
            self._submit_to_host(request)

    def _submit_to_host(self, request: Request) -> None:
        assert self._host is not None
        if self._host.state is State.DEAD:
            ended, self._host = self._host, self._registry.replace_dead(self._host)
            if ended.may_have_lost(self._chain):  # an earlier step was acknowledged, and may have been lost
                request.fail(ConnectionLost(ended.end_reason))
                return
        self._host.guard.run(self._host.submit, request)

    def _on_open(self, header: messages_from_client.Open, body: bytes) -> None:
        """Select the option set for the next frames, and its caller by digest."""
        caller = self.listener.callers.get(header["caller"])
        if caller is None:  # further frames wait until it is known
            self._held = [(dict(header), body)]
            self.answer({"op": "need", "caller": header["caller"]}, b"")
            return
        self._host = self._registry.host(cast("ConnectionOptions", header["options"]), caller)
        self.pid = int(header.get("pid", 0))

    def _on_caller(self, header: messages_from_client.Caller, body: bytes) -> None:
        """Store a caller's environment (see util/caller.py), and handle the frames that were queued until then."""
        try:
            caller = CallerEnvironment.from_message(header)
        except UsageError as exc:
            self._refuse(exc.message)
            return
        self.listener.add_caller(caller)
        held, self._held = self._held, []
        if held and held[0][0]["caller"] != caller.digest:
            self._refuse("the answer names another caller")
            return
        for each in held:
            self.on_frame(*each)

    def _on_preconnect(self, header: messages_from_client.Preconnect, body: bytes) -> None:
        """Connect for a request that will follow; if that fails, the request is answered with the error."""
        self._check_new(header["op"], header["id"])
        fields = cast("RequestHeader", {name: value for name, value in header.items() if name != "id"})
        self._preconnect = preconnect = Request(self, header["id"], fields, b"")
        self._requests[preconnect.client_id] = preconnect
        self._submit_to_host(preconnect)

    def _resolve_preconnect(self, preconnect: Request, request: Request) -> bool:
        """Answer *request* with the error of the connection that was made ahead for it. Returns False if there is none."""
        self._preconnect = preconnect.client = None
        self._requests.pop(preconnect.client_id, None)
        if self._preconnect_error is not None:
            request.answer(self._preconnect_error)
        return self._preconnect_error is not None

    def _on_archive(self, header: messages_from_client.Archive, body: bytes) -> None:
        waiting = self._awaiting_archive.pop(header["archive"], [])
        try:
            self._registry.blobs.add_archive(header["archive"], base64.b64decode(body, validate=True))
        except (UsageError, binascii.Error) as exc:
            error = exc if isinstance(exc, UsageError) else UsageError(f"module archive: cannot be read: {exc}")
            for request in waiting:
                request.fail(error)
            return
        for request in waiting:
            self._submit(request)

    def _on_reset(self, header: messages_from_client.Reset, body: bytes) -> None:
        if self._host is not None and self._host.state is not State.NEW:
            self._host.guard.run(self._host.close)
        self.answer({"op": "ok", "id": header["id"]}, b"")

    def _on_status(self, header: messages_from_client.Status, body: bytes) -> None:
        hosts = self._registry.hosts()
        self.answer(
            {
                "op": "ok",
                "id": header["id"],
                "pid": os.getpid(),
                "run": (None if self.listener.lifecycle.is_standby else self.listener.lifecycle.run_pid),
                "age": time.time() - self.listener.created_at,
                "hosts": len(hosts),
                "busy": sum(host.busy for host in hosts),
                "workers": self.listener.connections - 1,
                "transfers": [transfer for host in hosts for transfer in host.transfers()][:MAX_TRANSFERS],
            },
            b"",
        )

    def _on_trace(self, header: messages_from_client.Trace, body: bytes) -> None:
        trace = self._registry.trace
        if trace is not None and self._host is not None:
            for name, start, end in header["spans"]:
                trace.span(self._host.name, self.pid, str(name), float(start), float(end))
            labels: dict[str, str] = {name: header[name] for name in ("host", "task", "task_id") if name in header}
            trace.worker(self._host.name, self.pid, labels)

    def _on_adopt(self, header: messages_from_client.Adopt, body: bytes) -> None:
        listener = self.listener
        try:
            settings = RunSettings.from_message(header["settings"])
            listener.lifecycle.adopt_run(self._registry, listener, int(header["run"]), str(header["path"]), settings)
        except UsageError as exc:
            self._fail(header, exc)
        else:
            self.answer({"op": "ok", "id": header["id"]}, b"")

    def _on_stop(self, header: messages_from_client.Stop, body: bytes) -> None:
        """End the hub; with ``standby_only`` only if no run is served."""
        if header.get("standby_only") and not self.listener.lifecycle.is_standby:
            self._fail(header, UsageError("this hub serves a run"))
        else:
            self.listener.lifecycle.stop("pmitogen hubs --stop")


class _WriteSide:
    """The write side of a socket whose read side owns it: closing this one closes nothing."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        """Do nothing: the read side closes the socket."""
