"""The hub process: started by a run's main process or first worker, gone when the run is gone, whatever ended it.

It watches the run's main process (by a pidfd where the system has them: no polling, no confusion with a later process of
the same number), and ends when that ends, or when it is told to. Ctrl-C at the terminal is the run's business: we are a
session of our own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time

from pmitogen.errors import Error
from pmitogen.hub import paths
from pmitogen.hub.life import Life
from pmitogen.hub.starting import release

CLOSE_LIMIT = 4.0  # seconds that closing may take before the process ends regardless


def main() -> None:
    """Serve one run: argv is [socket path, pid of the run, fd to write "ok" or an error to, fd of the lock if it is ours]."""
    path, run_pid, report_fd = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    life = Life(run_pid)
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        signal.signal(getattr(signal, name), lambda *_: life.stop())
    try:
        from pmitogen import log

        log.setup(stderr_of=run_pid)
        _raise_file_limit()
        for name in ("invoke", "cProfile"):  # optional imports of Paramiko's (50 ms) and Mitogen's, for what is not used here
            sys.modules[name] = None  # type: ignore[assignment]
        from pmitogen.hub.contexts import Contexts
        from pmitogen.hub.server import Listener

        contexts = Contexts()
        listener = Listener(contexts, path, life)
    except (Error, OSError) as exc:
        os.write(report_fd, str(exc).encode())
        sys.exit(1)
    with contextlib.suppress(BrokenPipeError):  # the worker that started us has ended; others will come
        os.write(report_fd, b"ok")
    os.close(report_fd)
    if len(sys.argv) > 4:
        release(int(sys.argv[4]), path)
    _warm_up()
    ended = life.until_end(contexts, listener)  # 0: told to stop, and the run may start another on this very path
    listener.close()
    threading.Thread(target=_end_regardless, args=(os.path.dirname(path), ended), daemon=True).start()
    contexts.close()
    paths.sweep(os.path.dirname(path), ended)
    os._exit(0)


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


def _end_regardless(folder: str, ended: int) -> None:
    time.sleep(CLOSE_LIMIT)
    paths.sweep(folder, ended)
    os._exit(0)
