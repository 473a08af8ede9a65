"""The state of the shell that sshd has started, for programs that such a shell would start over ssh.

The interpreter of the login account has read its ``sitecustomize`` and ``.pth`` files. They may have changed its umask,
environment, limits and so on, and nothing of that is for programs of other accounts, or for commands. The shell waits for us to
end, so Linux shows what it would hand on.
"""

import os
import resource
import signal

from pmitogen.target import start_state

_cache = []


def read():
    """The :class:`LoginState`, in the login account's interpreter or a child of it; None elsewhere, or where nothing shows it.

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
    with open("/proc/%d/status" % pid) as stream:
        return dict(line.strip().split(":\t", 1) for line in stream if ":\t" in line)


def _limits(pid):
    """{resource: (soft, hard)} of a process."""
    limits, names = {}, dict((text, getattr(resource, name, None)) for text, name in RLIMIT_NAMES.items())
    with open("/proc/%d/limits" % pid) as stream:
        for line in stream:
            fields = line[26:].split()
            resource_id = names.get(line[:26].strip())
            if resource_id is not None:
                limits[resource_id] = tuple(resource.RLIM_INFINITY if word == "unlimited" else int(word) for word in fields[:2])
    return limits


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
    """What the process *pid*, a shell, hands to the programs that it starts. Raises OSError, KeyError, ValueError.

    ``environ`` is its environment ({bytes: bytes}).
    """

    def __init__(self, pid):
        status = _status(pid)
        self._lost = None
        self._umask = int(status["Umask"], 8) if "Umask" in status else None  # Linux 4.7
        self._ignored = int(status["SigIgn"], 16)
        self._limits = _limits(pid)
        self._cwd = os.readlink("/proc/%d/cwd" % pid)
        with open("/proc/%d/stat" % pid) as stream:
            self._nice = int(stream.read().rpartition(")")[2].split()[16])
        with open("/proc/%d/environ" % pid, "rb") as stream:
            self.environ = dict(item.split(b"=", 1) for item in stream.read().split(b"\0") if b"=" in item)
        self._cpus = os.sched_getaffinity(pid) if hasattr(os, "sched_getaffinity") else None

    def is_lost(self):
        """Whether this process has given up something of it for good."""
        if self._lost is None:
            self._lost = os.geteuid() != 0 and self._is_lost()
        return self._lost

    def _is_lost(self):
        lower = lambda own, wanted: own != resource.RLIM_INFINITY and (wanted == resource.RLIM_INFINITY or own < wanted)  # noqa: E731
        limits = _limits(os.getpid())
        return os.nice(0) > self._nice or any(lower(limits[name][1], self._limits[name][1]) for name in limits)

    def apply(self):
        """Take this state on. In a child that is going to execute a program; whatever cannot be had again is left."""
        if self._umask is not None:
            os.umask(self._umask)
        for signum in range(1, 65):
            _attempt(signal.signal, signum, signal.SIG_IGN if self._ignored >> (signum - 1) & 1 else signal.SIG_DFL)
        for name, wanted in self._limits.items():
            _attempt(resource.setrlimit, name, wanted)
        _attempt(os.nice, self._nice - os.nice(0))
        if self._cpus:
            _attempt(os.sched_setaffinity, 0, self._cpus)
        _attempt(os.chdir, self._cwd)


def _attempt(work, *args):
    try:
        work(*args)
    except (IOError, OSError, ValueError, RuntimeError):
        pass
