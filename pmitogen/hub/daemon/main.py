"""The hub process: a run's main process or first worker starts it, and it ends when the run has ended for any reason.

It watches the run's main process (by a pidfd where the system has them: no polling, no confusion with a later process that has
the same pid). It ends when that process ends, on ``pmitogen hubs --stop``, and after an internal error. Ctrl-C at the terminal
reaches the run only, because the hub has its own session.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

from pmitogen.errors import Error
from pmitogen.hub.client import HUB_ENDED
from pmitogen.hub.daemon import socket_paths
from pmitogen.hub.daemon.compatibility import fingerprint
from pmitogen.hub.daemon.lifecycle import HubLifecycle
from pmitogen.hub.daemon.run_settings import RunSettings
from pmitogen.hub.trace import make_trace
from pmitogen.protocol import framing
from pmitogen.util import processes

if TYPE_CHECKING:
    from pmitogen.hub.registry import HostRegistry
    from pmitogen.hub.sharing.ssh_clients import SSHClients

LOG = logging.getLogger("pmitogen.hub")
CLOSE_LIMIT = 4.0  # seconds that closing may take before the process ends regardless


def main() -> None:
    """Serve one run: argv is [socket path, pid of the run, fd that listens there, RunSettings as JSON]."""
    path, run_pid, listening = sys.argv[1], int(sys.argv[2]), socket.socket(fileno=int(sys.argv[3]))
    listening.set_inheritable(False)
    processes.forbid_dumps()
    os.umask(0o077)  # files of a caller are created with the caller's umask
    gc.disable()  # while libraries are loaded: each collection would visit all their objects
    settings = RunSettings.from_message(json.loads(sys.argv[4]))
    lifecycle = HubLifecycle(run_pid, settings)
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        signal.signal(getattr(signal, name), lambda signum, _: lifecycle.stop(f"the signal {signal.Signals(signum).name}"))
    try:
        settings.begin(run_pid)
        _raise_file_limit()
        from pmitogen.hub.daemon import server  # noqa: F401 - for _serve
        from pmitogen.hub.registry import HostRegistry
        from pmitogen.transport import connect  # noqa: F401 - so that an incomplete installation is reported here

        registry = HostRegistry(shares=True)
        registry.trace = make_trace(settings.trace, socket_paths.hub_index_in(path), run_pid)
        registry.on_stopped = lifecycle.stop
    except Exception as exc:  # also an internal error: without this the threads that run already would keep the process
        reason = str(exc) if isinstance(exc, (Error, OSError, ImportError)) else _internal_error(exc)
        _reject_clients(listening, path, f"the hub cannot start: {reason}")
        sys.stderr.flush()
        os._exit(1)
    gc.freeze()
    gc.enable()
    ended_run, cause = _serve(registry, listening, path, lifecycle)
    signal.signal(signal.SIGALRM, lambda *_: _exit(os.path.dirname(path), ended_run))
    signal.setitimer(signal.ITIMER_REAL, CLOSE_LIMIT)
    with contextlib.suppress(Exception):
        registry.close(f"{HUB_ENDED}: {cause} ended it" if cause else "")
    _exit(os.path.dirname(path), ended_run)


def _serve(registry: HostRegistry, listening: socket.socket, path: str, lifecycle: HubLifecycle) -> tuple[int, str]:
    """Serve until the hub is to end, and close its sockets.

    Returns the pid of the run that has ended (0: none has, and it may start another hub on this path), and the cause if the hub
    ends before its run. An internal error is such a cause: connections must not outlive the thread that watches the run.
    """
    from pmitogen.hub.daemon.server import Listener

    with contextlib.ExitStack() as sockets:
        try:
            listener = Listener(registry, listening, path, lifecycle)
            sockets.callback(listener.close)
            ssh_clients = _serve_ssh_clients(registry, path)
            if ssh_clients is not None:
                sockets.callback(ssh_clients.close)
            _warm_up(lifecycle)
            return lifecycle.wait(registry, listener), lifecycle.stopped_by
        except Exception as exc:
            return 0, _internal_error(exc)


def _internal_error(exc: Exception) -> str:
    """Log a defect of the hub, and return a text for the message to its clients."""
    LOG.error("internal error", exc_info=exc)
    return f"internal error ({type(exc).__name__}; PMITOGEN_LOG=debug shows more)"


def _serve_ssh_clients(registry: HostRegistry, path: str) -> SSHClients | None:
    """Share the connections with ``pmitogen ssh``. None: the socket cannot be made, so each client logs in."""
    from pmitogen.hub.sharing.ssh_clients import SSHClients
    from pmitogen.util import threads

    try:
        clients = SSHClients(registry, socket_paths.ssh_socket(path))
    except (OSError, Error):
        return None

    def on_resize(_signum: int, _frame: object) -> None:
        with contextlib.suppress(Error):
            threads.start(clients.on_resize, "ssh mux resize")  # it takes locks, which a signal handler must not

    signal.signal(signal.SIGWINCH, on_resize)
    return clients


def _exit(directory: str, ended: int) -> None:
    """Remove stale sockets and exit."""
    socket_paths.remove_stale(directory, ended)
    os._exit(0)


def _warm_up(lifecycle: HubLifecycle) -> None:
    """Prepare the bundle for the first connection on a thread, and then the fingerprint for standby."""

    from pmitogen.util import threads

    def work() -> None:
        from pmitogen.hub import bootstrap

        bootstrap.bundle()
        lifecycle.fingerprint = fingerprint(os.environ, lifecycle.settings.ansible)

    with contextlib.suppress(Error):  # no thread to spare: the first connection has it made
        threads.start(work, "pmitogen warm-up")


def _reject_clients(listening: socket.socket, path: str, reason: str) -> None:
    """Remove the socket, and send the reason to every client that has connected so far."""
    with contextlib.suppress(OSError):
        os.unlink(path)
    listening.setblocking(False)
    with contextlib.suppress(OSError):
        while True:
            sock, _ = listening.accept()
            with sock, contextlib.suppress(OSError):
                sock.send(framing.encode_frame({"op": "refused", "msg": reason}, b""))
    with contextlib.suppress(OSError):  # not empty: of other hubs
        os.rmdir(os.path.dirname(path))


def _raise_file_limit() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
