"""State of the shell that sshd has started, for the programs that this shell would start over ssh.

The interpreter of the login account has read its ``sitecustomize`` and ``.pth`` files. They may have changed its umask,
environment, limits and so on. Programs of other accounts, and commands, must not inherit these changes. The shell waits for the
interpreter to end, so Linux shows the shell's own state.
"""

import os
import resource
import signal

from pmitogen.target import start_state

MYPY = False
if MYPY:
    from typing import Callable, Dict, List, Optional, Tuple  # noqa: F401

_cache = []  # type: List[LoginState]


def read():
    # type: () -> Optional[LoginState]
    """Return the :class:`LoginState`, in the login account's interpreter and its children. None elsewhere, or without /proc.

    It is read once.
    """
    shell = start_state.shell_pid
    try:
        if shell and not _cache and shell in (os.getppid(), int(_status(os.getppid())["PPid"])):
            _cache.append(LoginState(shell))
    except (IOError, OSError, KeyError, ValueError):  # no /proc
        pass
    return _cache[0] if shell and _cache else None


def _status(pid):
    # type: (int) -> Dict[str, str]
    with open("/proc/%d/status" % pid) as stream:
        return dict(line.rstrip("\n").split(":\t", 1) for line in stream if ":\t" in line)  # Groups may be empty


def _limits(pid):
    # type: (int) -> Dict[int, Tuple[int, int]]
    """Return {resource: (soft, hard)} of a process."""
    limits = {}  # type: Dict[int, Tuple[int, int]]
    names = dict((text, getattr(resource, name, None)) for text, name in RLIMIT_NAMES.items())
    with open("/proc/%d/limits" % pid) as stream:
        for line in stream:
            fields = line[26:].split()
            resource_id = names.get(line[:26].strip())
            if resource_id is not None:
                soft, hard = [resource.RLIM_INFINITY if value == "unlimited" else int(value) for value in fields[:2]]
                limits[resource_id] = soft, hard
    return limits


GLIBC_SIGNALS = (32, 33)  # no program can set them; what posix_spawn(3) starts, by way of make for one, ignores them
PYTHON_IGNORES = frozenset((signal.SIGPIPE, signal.SIGXFSZ))
RLIMIT_NAMES = {
    "Max cpu time": "RLIMIT_CPU",
    "Max file size": "RLIMIT_FSIZE",
    "Max data size": "RLIMIT_DATA",
    "Max stack size": "RLIMIT_STACK",
    "Max core file size": "RLIMIT_CORE",
    "Max resident set": "RLIMIT_RSS",
    "Max processes": "RLIMIT_NPROC",
    "Max open files": "RLIMIT_NOFILE",
    "Max locked memory": "RLIMIT_MEMLOCK",
    "Max address space": "RLIMIT_AS",
    "Max msgqueue size": "RLIMIT_MSGQUEUE",
    "Max nice priority": "RLIMIT_NICE",
    "Max realtime priority": "RLIMIT_RTPRIO",
}


class LoginState(object):
    """State that programs inherit from the process *pid*, a shell. Raises OSError, KeyError, ValueError.

    ``environ`` is its environment.
    """

    def __init__(self, pid):
        # type: (int) -> None
        status = _status(pid)
        self._lost = None  # type: Optional[bool]
        self._umask = int(status["Umask"], 8) if "Umask" in status else None  # Linux 4.7
        self._ignored = int(status["SigIgn"], 16)
        self._limits = _limits(pid)
        self._cwd = os.readlink("/proc/%d/cwd" % pid)
        with open("/proc/%d/stat" % pid) as stream:
            self._nice = int(stream.read().rpartition(")")[2].split()[16])
        with open("/proc/%d/environ" % pid, "rb") as stream:
            items = [item.partition(b"=") for item in stream.read().split(b"\0")]
            self.environ = dict((name, value) for name, equals, value in items if equals)
        self._cpus = os.sched_getaffinity(pid) if hasattr(os, "sched_getaffinity") else None

    def is_lost(self):
        # type: () -> bool
        """Return True if this process cannot return to this state: it has lowered a limit or its priority and is not root."""
        if self._lost is None:
            self._lost = os.geteuid() != 0 and self._is_lost()
        return self._lost

    def _is_lost(self):
        # type: () -> bool
        hard = [(own[1], self._limits[name][1]) for name, own in _limits(os.getpid()).items()]
        unlimited = resource.RLIM_INFINITY
        lower = any(own != unlimited and (wanted == unlimited or own < wanted) for own, wanted in hard)
        return lower or os.nice(0) > self._nice

    def is_current(self):
        # type: () -> bool
        """Return True if this process is in this state, except for its environment and the signals that Python itself ignores."""
        umask = os.umask(0o077)
        os.umask(umask)
        ignored = [signum for signum in range(1, 65) if signal.getsignal(signum) == signal.SIG_IGN]
        return (
            self._umask in (None, umask)
            and set(ignored) - PYTHON_IGNORES == set(self.ignored_signals())
            and all(resource.getrlimit(name) == wanted for name, wanted in self._limits.items())
            and os.nice(0) == self._nice
            and (not self._cpus or os.sched_getaffinity(0) == self._cpus)
            and os.readlink("/proc/self/cwd") == self._cwd
        )

    def ignored_signals(self):
        # type: () -> List[int]
        """Return the numbers of the signals that it ignores."""
        return [signum for signum in range(1, 65) if self._ignored >> (signum - 1) & 1 and signum not in GLIBC_SIGNALS]

    def apply(self):
        # type: () -> None
        """Restore this state in a child that will execute a program. A value that cannot be restored is left unchanged."""
        if self._umask is not None:
            os.umask(self._umask)
        ignored = self.ignored_signals()
        for signum in range(1, 65):
            _attempt(signal.signal, signum, signal.SIG_IGN if signum in ignored else signal.SIG_DFL)
        for name, wanted in self._limits.items():
            _attempt(resource.setrlimit, name, wanted)
        _attempt(os.nice, self._nice - os.nice(0))
        if self._cpus:
            _attempt(os.sched_setaffinity, 0, self._cpus)
        _attempt(os.chdir, self._cwd)


def _attempt(work, *args):
    # type: (Callable[..., object], *object) -> None
    try:
        work(*args)
    except (IOError, OSError, ValueError, RuntimeError):
        pass
