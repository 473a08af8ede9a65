"""A child process on a terminal of its own, with its data on pipes beside it.

The password of sudo and doas is read from ``/dev/tty`` whatever stdin is, so the child gets a pseudo-terminal as its controlling
terminal and as stderr, while stdin and stdout are plain pipes that carry data unharmed. su asks on stdin, so there stdin is the
terminal itself.

The terminal is raw in all but one thing from its first moment: no line editing (a password may hold any control character), no
signals, no flow control, no CR/NL translation, so that megabytes of binary data pass it. ECHO alone stays on, on purpose.
Nothing is written while it is on, and a program that asks for a secret switches it off: that is how we know, in every
language, that it listens. su of Linux-PAM prints its prompt first and then throws away what was typed before; a password sent
on sight of the prompt would be lost.

NOTE: runs on the target, inside the agent's event loop. Nothing here blocks; every descriptor of ours is non-blocking.
"""

from __future__ import absolute_import

import errno
import fcntl
import os
import signal
import struct
import termios

from pmitogen.become.strings import as_bytes, native

# Where sudo, su and doas live when the PATH of a non-login session is too short to tell.
EXTRA_PATH = b"/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin:/opt/local/bin:/usr/pkg/bin"

LFLAG_INDEX = 3  # index of the local modes in what tcgetattr returns
PTY_SIZE = (24, 500)  # wide, so that nothing wraps a prompt in two


def find_program(name, path):
    """The file that *name* stands for on *path* (a PATH), all bytes, or None. A name with a slash stands for itself."""
    if b"/" in name:
        return name if os.access(name, os.X_OK) and not os.path.isdir(name) else None
    for directory in (path + b":" + EXTRA_PATH).split(b":"):
        full = os.path.join(directory, name)
        if directory and os.access(full, os.X_OK) and not os.path.isdir(full):
            return full
    return None


def login_shell(plan):
    """The shell that takes the command of *plan*, or None. Local accounts only: to ask a directory service may block."""
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
    """Make the terminal *fd* (either end) raw; *echo* says whether it echoes. Takes effect at once, drops nothing."""
    mode = termios.tcgetattr(fd)
    mode[0] = termios.IGNPAR  # no BRKINT, ICRNL, ISTRIP, IXON: bytes come as they are
    mode[1] &= ~termios.OPOST
    mode[2] = (mode[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
    mode[LFLAG_INDEX] = termios.ECHO if echo else 0
    mode[6][termios.VMIN] = 1
    mode[6][termios.VTIME] = 0
    termios.tcsetattr(fd, termios.TCSANOW, mode)


def echo_is_on(fd):
    """True if what is written to the terminal *fd* would be echoed; False too when the terminal is gone."""
    try:
        return bool(termios.tcgetattr(fd)[LFLAG_INDEX] & termios.ECHO)
    except termios.error:
        return False


def read_some(fd, size=65536):
    """What can be read from *fd* now: bytes, b"" at its end (EIO, for a terminal that nobody uses), None if nothing waits."""
    while True:
        try:
            return os.read(fd, size)
        except OSError as e:
            if e.errno == errno.EINTR:
                continue
            if e.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
                return None
            return b""


def close_quietly(fd):
    """Close *fd* (None: nothing to do). An error leaves nothing to be done, so none is raised."""
    if fd is not None:
        try:
            os.close(fd)
        except OSError:
            pass


def set_cloexec(fd):
    """Keep *fd* from the programs that other parts of this process start."""
    fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.fcntl(fd, fcntl.F_GETFD) | fcntl.FD_CLOEXEC)


def _set_nonblocking(fd):
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)


class Spawned(object):
    """A started child: *pid*, the terminal's master *tty*, and our ends *stdin* (None if that is the terminal) and *stdout*."""

    def __init__(self, pid, tty, stdin, stdout):
        self.pid = pid
        self.tty = tty
        self.stdin = stdin
        self.stdout = stdout


def spawn(program, argv, env, chdir, stdin_is_tty, error_marker, prepare=None):
    """Start *program* (a path) with *argv* and *env* (dict) in the folder *chdir* (None: ours), as leader of a new session.

    *prepare* is called in the child before that, if there is one.

    All words are bytes: what a locale makes of text would otherwise be found out in the child.
    If the folder or the program fails the child, it writes *complaint* (bytes), the step, the errno and a newline to the terminal
    and exits with 127: a pipe to learn of it would have to be waited for. Raises OSError if the machine is out of terminals,
    descriptors or processes; nothing is left open then.
    """
    parent_fds, child_fds = [], []
    try:
        master, slave = os.openpty()
        parent_fds.append(master)
        child_fds.append(slave)
        set_raw(slave, echo=True)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", PTY_SIZE[0], PTY_SIZE[1], 0, 0))
        out_read, out_write = os.pipe()
        parent_fds.append(out_read)
        child_fds.append(out_write)
        child_in, parent_in = slave, None
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
    """In the child: arrange descriptors, terminal and signals, and execute. Never returns."""
    step = b"exec"
    try:
        os.setsid()
        # Copies above 2 first: if the agent has lost its own 0, 1 or 2, ours may sit there, and dup2 would tread on them.
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 3) for fd in stdio]
        for number, fd in enumerate(high):
            os.dup2(fd, number)
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
    """Close every descriptor above 2. Only those that exist: a container may allow a thousand million of them."""
    try:
        numbers = [int(name) for name in os.listdir("/dev/fd")]
    except (OSError, ValueError):
        numbers = []
    # Reading the folder takes a descriptor, so a list without any above 2 is that of a system which shows only the first three.
    for fd in numbers if max(numbers or [0]) > 2 else range(3, 4096):
        if fd > 2:
            close_quietly(fd)


def _default_signals():
    """Undo what Python and the agent ignore or block: an ignored signal stays ignored across exec."""
    for name in ("SIGPIPE", "SIGXFSZ", "SIGXFZ", "SIGHUP", "SIGINT", "SIGTERM", "SIGQUIT", "SIGCHLD", "SIGALRM"):
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
