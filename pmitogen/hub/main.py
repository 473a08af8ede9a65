"""The hub process: started by a run's first worker, gone when the run is gone, whatever ended it.

It watches the run's main process (by a pidfd where the system has them: no polling, no confusion with a later process of
the same number), and ends when that ends, or when it is told to. Ctrl-C at the terminal is the run's business: we are a
session of our own.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time

from pmitogen.errors import Error
from pmitogen.hub import paths

POLL = 0.5  # seconds between looks at the run, where there are no pidfds
CLOSE_LIMIT = 4.0  # seconds that closing may take before the process ends regardless


def main() -> None:
    """Serve one run: argv is [socket path, pid of the run, fd to write "ok" or an error to]."""
    path, run_pid, report_fd = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    stop_read, stop_write = os.pipe()
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        signal.signal(getattr(signal, name), lambda *_: os.write(stop_write, b"x"))
    try:
        from pmitogen import log

        log.setup(stderr_of=run_pid)
        _raise_file_limit()
        from pmitogen.hub.contexts import Contexts
        from pmitogen.hub.server import Listener

        contexts = Contexts()
        listener = Listener(contexts, path, run_pid, on_stop=lambda: _poke(stop_write))
    except (Error, OSError) as exc:
        os.write(report_fd, str(exc).encode())
        sys.exit(1)
    os.write(report_fd, b"ok")
    os.close(report_fd)
    _warm_up()
    ended = run_pid if _wait_for_end(run_pid, stop_read) else 0  # told to stop: the run may start another on this very path
    listener.close()
    threading.Thread(target=_end_regardless, args=(os.path.dirname(path), ended), daemon=True).start()
    contexts.close()
    paths.sweep(os.path.dirname(path), ended)
    os._exit(0)


def _poke(fd: int) -> None:
    os.write(fd, b"x")


def _warm_up() -> None:
    """Have ready what the first connection needs, while its worker is still writing."""

    def work() -> None:
        from pmitogen.transport import bootstrap

        bootstrap.bundle()

    threading.Thread(target=work, name="pmitogen warm-up", daemon=True).start()


def _raise_file_limit() -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _wait_for_end(run_pid: int, stop_fd: int) -> bool:
    """Return when the run has ended (True) or we were told to stop (False)."""
    try:
        run_fd = os.pidfd_open(run_pid)
    except (AttributeError, OSError):
        while not select.select([stop_fd], [], [], POLL)[0]:
            if not _exists(run_pid):
                return True
        return False
    return run_fd in select.select([run_fd, stop_fd], [], [])[0]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _end_regardless(folder: str, ended: int) -> None:
    time.sleep(CLOSE_LIMIT)
    paths.sweep(folder, ended)
    os._exit(0)
