"""Starts a program without a copy of this process: fork(2) copies the page tables of a warm interpreter, vfork(2) nothing.

``subprocess`` uses vfork(2) from Python 3.10 on; in older versions of Python 3, its child runs no Python, which is half of the
cost. The program gets the same session, descriptors, directory, environment and signals as from ``fork.execute`` in a fork. The
caller forks where that is not possible: on Python 2, for a terminal, if this process is not in the state of its login, and if the
program or its directory cannot be used, which ``fork.execute`` reports.
"""

import os
import signal

from pmitogen.protocol.framing import PY2, from_wire
from pmitogen.target import login_state
from pmitogen.target.start_state import environb

MYPY = False
if MYPY:
    import subprocess  # noqa: F401
    from typing import Dict, List, Optional  # noqa: F401

RESTORED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # fork.py sets their default action in other accounts


def start(argv, env, cwd, stdin_fd, stdout_fd, stderr_fd):
    # type: (List[str], Dict[str, str], Optional[str], int, int, int) -> Optional[subprocess.Popen[bytes]]
    """Start a program in a session of its own, with *env* added to its environment. Returns None if it must be forked.

    When the caller has collected the process, it must set ``returncode``: else ``subprocess`` collects the pid once more.
    """
    state = login_state.read()
    is_inherited = not any(map(is_ignored, RESTORED)) if state is None else state.is_current()
    if PY2 or not is_inherited:
        return None
    import subprocess  # not at the top: that is two milliseconds, and hosts of playbooks import it later

    environ = dict(environb if state is None else state.environ)
    environ.update((from_wire(name), from_wire(value)) for name, value in env.items())
    arguments = [from_wire(arg) for arg in argv]
    program = arguments[0] or environ.get(b"SHELL") or b"/bin/sh"
    arguments[0] = arguments[0] or os.path.basename(program)
    try:
        return subprocess.Popen(
            arguments,
            executable=program,
            stdin=stdin_fd,
            stdout=stdout_fd,
            stderr=stderr_fd,
            env=environ,
            cwd=from_wire(cwd) if cwd else None,
            start_new_session=True,
        )
    except (OSError, ValueError):
        return None


def is_ignored(signum):
    # type: (int) -> bool
    return signal.getsignal(signum) == signal.SIG_IGN
