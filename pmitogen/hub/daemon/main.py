"""The hub process: started by a run's main process or first worker, gone when the run is gone, whatever ended it.

It watches the run's main process (by a pidfd where the system has them: no polling, no confusion with a later process of
the same number), and ends when that ends, or when it is told to. Ctrl-C at the terminal is the run's business: we are a
session of our own.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
import sys

from pmitogen.errors import Error
from pmitogen.hub.client import HUB_ENDED
from pmitogen.hub.daemon import socket_paths
from pmitogen.hub.daemon.compatibility import fingerprint
from pmitogen.hub.daemon.lifecycle import HubLifecycle
from pmitogen.hub.daemon.run_settings import RunSettings
from pmitogen.hub.trace import make_trace
from pmitogen.protocol import framing
from pmitogen.util import processes

CLOSE_LIMIT = 4.0  # seconds that closing may take before the process ends regardless


def main() -> None:
    """Serve one run: argv is [socket path, pid of the run, fd that listens there, RunSettings as JSON]."""
    path, run_pid, listening = sys.argv[1], int(sys.argv[2]), socket.socket(fileno=int(sys.argv[3]))
    listening.set_inheritable(False)
    processes.forbid_dumps()
    os.umask(0o077)  # what is made for a caller is made with the caller's
    gc.disable()  # while libraries are loaded: each round would visit all that they have made so far
    settings = RunSettings.from_message(json.loads(sys.argv[4]))
    life = HubLifecycle(run_pid, settings)
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        signal.signal(getattr(signal, name), lambda number, _: life.stop(f"the signal {signal.Signals(number).name}"))
    try:
        settings.begin(run_pid)
        _raise_file_limit()
        from pmitogen.hub.daemon.server import Listener
        from pmitogen.hub.registry import HostRegistry

        contexts = HostRegistry(shares=True)
        contexts.trace = make_trace(settings.trace, socket_paths.number_in(path))
        contexts.when_ended = life.stop
    except (Error, OSError, ImportError) as exc:
        _refuse(listening, path, f"the hub cannot start: {exc}")
        sys.stderr.flush()
        os._exit(1)  # threads of what was imported so far may run
    gc.freeze()
    gc.enable()
    listener = Listener(contexts, listening, path, life)
    _warm_up(life)
    ended = life.until_end(contexts, listener)  # 0: told to stop, and the run may start another on this very path
    listener.close()
    signal.signal(signal.SIGALRM, lambda *_: _end(os.path.dirname(path), ended))
    signal.setitimer(signal.ITIMER_REAL, CLOSE_LIMIT)
    with contextlib.suppress(Exception):
        contexts.close(f"{HUB_ENDED}: {life.stopped_by} ended it" if life.stopped_by else "")
    _end(os.path.dirname(path), ended)


def _end(folder: str, ended: int) -> None:
    """Be gone."""
    socket_paths.sweep(folder, ended)
    os._exit(0)


def _warm_up(life: HubLifecycle) -> None:
    """Have ready what the first connection needs, while its worker is still writing, and then what a later run may ask."""

    from pmitogen.util import threads

    def work() -> None:
        from pmitogen.hub import bootstrap

        bootstrap.bundle()
        life.fingerprint = fingerprint(os.environ, life.settings.ansible)

    with contextlib.suppress(Error):  # no thread to spare: the first connection has it made
        threads.start(work, "pmitogen warm-up")


def _refuse(listening: socket.socket, path: str, why: str) -> None:
    """Tell those who have connected so far that nobody is going to serve them; nobody can come any more."""
    with contextlib.suppress(OSError):
        os.unlink(path)
    listening.setblocking(False)
    with contextlib.suppress(OSError):
        while True:
            sock, _ = listening.accept()
            with sock, contextlib.suppress(OSError):
                sock.send(framing.encode_frame({"op": "refused", "msg": why}, b""))
    with contextlib.suppress(OSError):  # not empty: others are there
        os.rmdir(os.path.dirname(path))


def _raise_file_limit() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
