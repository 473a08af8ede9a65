"""Forks a child: its session, its descriptors, and the program that it executes.

The runner is single-threaded, so the child may do anything between fork and exit. Nothing here returns to the runner's loop.
"""

import errno
import os
import signal
import sys
import traceback

from pmitogen.protocol.framing import from_wire
from pmitogen.target import login_state
from pmitogen.target.fds import set_cloexec
from pmitogen.target.start_state import environb

MYPY = False
if MYPY:
    from typing import Callable, Collection, Dict, List, Optional  # noqa: F401

MAX_FD = 4096


def enter_session(stdin_fd, stdout_fd, stderr_fd, tty_fd=None, keep=()):
    # type: (int, int, int, Optional[int], Collection[int]) -> None
    """Become a session leader with these standard descriptors; *tty_fd* becomes the controlling terminal.

    All other descriptors are closed, except those in *keep*. A program that is executed does not inherit these.
    """
    os.setsid()
    if tty_fd is not None:
        import fcntl
        import termios

        fcntl.ioctl(tty_fd, termios.TIOCSCTTY, 0)
    signal.set_wakeup_fd(-1)
    for name in ("SIGCHLD", "SIGTERM", "SIGINT", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    # Out of the way first: one of the three may itself be 0, 1 or 2.
    fds = [os.dup(fd) for fd in (stdin_fd, stdout_fd, stderr_fd)]
    while min(fds) < 3:
        fds = [os.dup(fd) for fd in fds]
    for target_fd, fd in enumerate(fds):
        os.dup2(fd, target_fd)
        if sys.version_info >= (3, 4):
            os.set_inheritable(target_fd, True)
    low = 3
    for fd in sorted(keep):
        os.closerange(low, fd)
        set_cloexec(fd)
        low = fd + 1
    os.closerange(low, MAX_FD)


def fork(action, stdin_fd, stdout_fd, stderr_fd, tty_fd=None, keep=()):
    # type: (Callable[[], object], int, int, int, Optional[int], Collection[int]) -> int
    """Fork a child that enters its own session (see enter_session), calls *action* and exits. Returns its pid. Raises OSError."""
    pid = os.fork()
    if pid == 0:
        error_fd = stderr_fd
        try:
            enter_session(stdin_fd, stdout_fd, stderr_fd, tty_fd, keep)
            error_fd = 2
            action()
        except BaseException:
            report_start_failure(error_fd)
        finally:
            os._exit(1)
    return pid


def report_start_failure(stderr_fd):
    # type: (int) -> None
    """Write the current exception to stderr: neither the payload nor the program can."""
    failure = sys.exc_info()[1]
    if isinstance(failure, OSError):  # no more memory or descriptors, for example
        message = "the process could not be started: %s\n" % failure.strerror
    else:
        message = traceback.format_exc()
    os.write(stderr_fd, message.encode("utf-8", "replace"))


def change_environment(env):
    # type: (Dict[str, str]) -> None
    """Set the variables in *env*, as they are in a frame, in this process's environment."""
    for name, value in env.items():
        environb[from_wire(name)] = from_wire(value)


def execute(argv, env, cwd=None):
    # type: (List[str], Dict[str, str], Optional[str]) -> None
    """Replace this process by a program. If it cannot be executed, exit with 127 or 126, as a shell does.

    An empty program name means the account's shell, which is called by its name without a directory, as sshd calls it.
    """
    for name in ("SIGPIPE", "SIGINT", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    arguments = [from_wire(arg) for arg in argv]
    program = arguments[0]
    state = login_state.read()
    if state is not None:
        state.apply()
        environb.clear()
        environb.update(state.environ)
    failing = program
    try:
        change_environment(env)
        if cwd:
            failing = from_wire(cwd)
            os.chdir(failing)
        if not program:
            program = environb.get(b"SHELL") or b"/bin/sh"
            arguments[0] = os.path.basename(program)
        failing = program
        execute_as_execvp(program, arguments)
    except OSError as exc:
        os.write(2, failing + (": %s\n" % exc.strerror).encode("utf-8", "replace"))
        os._exit(127 if exc.errno == 2 else 126)


def execute_as_execvp(program, arguments):
    # type: (bytes, List[bytes]) -> None
    """Replace this process by a program. As with execvp(3), and in shells, ``/bin/sh`` runs a script without ``#!``."""
    try:
        os.execvp(program, arguments)
    except OSError as exc:
        if exc.errno != errno.ENOEXEC:
            raise
        directories = [b""] if b"/" in program else environb.get(b"PATH", b"").split(b":")
        paths = [os.path.join(directory, program) for directory in directories]
        script = next((path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)), program)
        os.execv(b"/bin/sh", [b"/bin/sh", script] + arguments[1:])
