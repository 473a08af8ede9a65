"""Child process with a terminal of its own, and with pipes for its data.

sudo and doas read the password from ``/dev/tty``, whatever stdin is. So the child gets a pseudo-terminal as its controlling
terminal and as stderr, while stdin and stdout are pipes that carry data unchanged. su asks on stdin, so for su stdin is the
terminal itself.

The terminal is raw from the start, except for ECHO: no line editing (a password may contain any control character), no
signals, no flow control, no CR/NL translation, so that binary data of any size passes. ECHO stays on for a purpose: nothing is
written while it is on, and a program that asks for a secret switches it off. This shows, in every language, that the program
reads. su of Linux-PAM prints its prompt first and then discards earlier input, so a password that is sent as soon as the prompt
appears would be lost.

NOTE: runs on the target, inside the agent's event loop. Nothing here blocks; the parent's descriptors are non-blocking.
"""

from __future__ import absolute_import

import errno
import fcntl
import os
import signal
import struct
import termios

from pmitogen.become.strings import as_bytes, native

MYPY = False
if MYPY:
    from typing import Callable, Dict, List, Optional, Tuple  # noqa: F401
    from pmitogen.become.types import EscalationPlan, Prepare  # noqa: F401

# Directories to search for sudo, su and doas in addition to PATH, which may be too short in a non-login session.
EXTRA_PATH = b"/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin:/opt/local/bin:/usr/pkg/bin"

LFLAG_INDEX = 3  # index of the local modes in the result of tcgetattr
PTY_SIZE = (24, 500)  # lines, columns; wide, so that no prompt is wrapped


def find_program(name, path):
    # type: (bytes, bytes) -> Optional[bytes]
    """Search *path* (a PATH) for the program *name*; a name with a slash is a path already. None if it is not found."""
    if b"/" in name:
        return name if os.access(name, os.X_OK) and not os.path.isdir(name) else None
    for directory in (path + b":" + EXTRA_PATH).split(b":"):
        full = os.path.join(directory, name)
        if directory and os.access(full, os.X_OK) and not os.path.isdir(full):
            return full
    return None


def login_shell(plan):
    # type: (EscalationPlan) -> Optional[str]
    """Return the shell that runs the command of *plan*, or None. Local accounts only: a directory service may block."""
    if plan["shell"] != "login":
        return None if plan["shell"] is None else native(plan["shell"])
    try:
        with open("/etc/passwd", "rb") as f:
            for line in f:
                fields = line.rstrip(b"\n").split(b":")
                if fields[0] == as_bytes(plan["user"]) and len(fields) == 7:
                    return native(fields[6])
    except (IOError, OSError):
        pass
    return None


def set_raw(fd, echo):
    # type: (int, bool) -> None
    """Make the terminal *fd* (either end) raw, with or without *echo*. Takes effect at once and discards no data."""
    mode = termios.tcgetattr(fd)
    mode[0] = termios.IGNPAR  # no BRKINT, ICRNL, ISTRIP, IXON: bytes are not changed
    mode[1] &= ~termios.OPOST
    mode[2] = (mode[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
    mode[LFLAG_INDEX] = termios.ECHO if echo else 0
    mode[6][termios.VMIN] = 1
    mode[6][termios.VTIME] = 0
    termios.tcsetattr(fd, termios.TCSANOW, mode)


def echo_is_on(fd):
    # type: (int) -> bool
    """Return True if the terminal *fd* echoes its input; False also if the terminal is closed."""
    try:
        return bool(termios.tcgetattr(fd)[LFLAG_INDEX] & termios.ECHO)
    except termios.error:
        return False


def read_some(fd):
    # type: (int) -> Optional[bytes]
    """Read from *fd*. b"" at its end (for a terminal without users: EIO), None if no data is available now."""
    while True:
        try:
            return os.read(fd, 65536)
        except OSError as e:
            if e.errno == errno.EINTR:
                continue
            if e.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
                return None
            return b""


def read_available(fd, limit):
    # type: (int, int) -> Tuple[bytes, bool]
    """Read the available data of *fd*, up to about *limit* bytes. Returns it, and True if its end was reached."""
    data = b""
    while len(data) < limit:
        more = read_some(fd)
        if not more:
            return data, more is not None
        data += more
    return data, False


def close_quietly(fd):
    # type: (Optional[int]) -> None
    """Close *fd* (None: do nothing). Errors are ignored, because the caller can do nothing about them."""
    if fd is not None:
        try:
            os.close(fd)
        except OSError:
            pass


def set_cloexec(fd):
    # type: (int) -> None
    """Set close-on-exec, so that programs started elsewhere in this process do not inherit *fd*."""
    fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.fcntl(fd, fcntl.F_GETFD) | fcntl.FD_CLOEXEC)


def _set_nonblocking(fd):
    # type: (int) -> None
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)


class Spawned(object):
    """A started child with the parent's descriptors.

    *tty*: master of its terminal. *stdin*: write end of its pipe, None if its stdin is the terminal. *stdout*: read end.
    """

    def __init__(self, pid, tty, stdin, stdout):
        # type: (int, int, Optional[int], int) -> None
        self.pid = pid
        self.tty = tty
        self.stdin = stdin
        self.stdout = stdout


def spawn(program, argv, env, chdir, stdin_is_tty, error_marker, prepare=None):
    # type: (bytes, List[bytes], Dict[bytes, bytes], Optional[bytes], bool, bytes, Optional[Prepare]) -> Spawned
    """Start *program* (a path) with *argv* and *env* as leader of a new session.

    *chdir*: directory to change to first (None: stay).
    *stdin_is_tty*: True if stdin is the terminal, False if it is a pipe.
    *error_marker*: if the directory or the program cannot be used, the child writes this, the step ("chdir" or "exec"), the
    errno and a newline to the terminal and exits with 127. A pipe for this would cost a wait.
    *prepare*: called in the child before chdir (None: nothing).

    All strings are bytes, so that an encoding error occurs here and not in the child. Raises OSError if no terminal, descriptor
    or process is available; nothing is left open then.
    """
    parent_fds, child_fds = [], []  # type: Tuple[List[int], List[int]]
    try:
        master, slave = os.openpty()
        parent_fds.append(master)
        child_fds.append(slave)
        set_raw(slave, echo=True)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", PTY_SIZE[0], PTY_SIZE[1], 0, 0))
        out_read, out_write = os.pipe()
        parent_fds.append(out_read)
        child_fds.append(out_write)
        child_in, parent_in = slave, None  # type: Tuple[int, Optional[int]]
        if not stdin_is_tty:
            child_in, parent_in = os.pipe()
            parent_fds.append(parent_in)
            child_fds.append(child_in)
        for fd in parent_fds:
            set_cloexec(fd)
            _set_nonblocking(fd)
        pid = os.fork()
    except Exception:
        for fd in parent_fds + child_fds:
            close_quietly(fd)
        raise
    if pid == 0:
        _exec_child(program, argv, env, chdir, (child_in, out_write, slave), error_marker, prepare)
    for fd in child_fds:
        close_quietly(fd)
    return Spawned(pid, master, parent_in, out_read)


def _exec_child(program, argv, env, chdir, stdio, error_marker, prepare):
    # type: (bytes, List[bytes], Dict[bytes, bytes], Optional[bytes], Tuple[int, int, int], bytes, Optional[Prepare]) -> None
    """In the child: set up descriptors, terminal and signals, and execute the program. Never returns."""
    step = b"exec"
    try:
        os.setsid()
        # Copy them above 2 first: if the agent's 0, 1 or 2 was closed, they may have these numbers, and dup2 would close them.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 3) for fd in stdio]
        for standard_fd, fd in enumerate(high):
            os.dup2(fd, standard_fd)
        fcntl.ioctl(2, termios.TIOCSCTTY, 0)
        _close_other_fds()
        _default_signals()
        if prepare is not None:
            prepare()
        if chdir is not None:
            step = b"chdir"
            os.chdir(chdir)
            step = b"exec"
        os.execve(program, argv, env)
    except (OSError, IOError) as e:
        os.write(2, error_marker + b" " + step + b" " + str(e.errno).encode("ascii") + b"\n")
    finally:
        os._exit(127)


def _close_other_fds():
    # type: () -> None
    """Close every open descriptor above 2, without trying all numbers: a container may allow a thousand million of them."""
    try:
        numbers = [int(name) for name in os.listdir("/dev/fd")]
    except (OSError, ValueError):
        numbers = []
    # Reading the directory needs a descriptor above 2. If none is listed, the system shows only the first three.
    for fd in numbers if max(numbers or [0]) > 2 else list(range(3, 4096)):
        if fd > 2:
            close_quietly(fd)


def _default_signals():
    # type: () -> None
    """Restore signals that Python and the agent ignore or block, because ignored signals stay ignored after exec."""
    for name in ("SIGPIPE", "SIGXFSZ", "SIGXFZ", "SIGHUP", "SIGINT", "SIGTERM", "SIGQUIT", "SIGCHLD", "SIGALRM"):
        signum = getattr(signal, name, None)
        if signum is not None:
            signal.signal(signum, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
