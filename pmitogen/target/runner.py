"""The warm process of one account and interpreter: one thread, and a fork for every task.

It reads frames from the agent, answers with frames (see dispatch.py), and otherwise waits in poll(2). When the agent is gone, the
runner ends the process group of every child, and then itself. A child gets SIGTERM, and SIGKILL after a while (see jobs.py).
"""

import errno
import gc
import os
import select
import signal
import sys
import time

from pmitogen.protocol import framing
from pmitogen.target import dispatch, fds, files, freshness, jobs, sources
from pmitogen.target.payload import launcher, module_cache

MYPY = False
if MYPY:
    from typing import Dict, Optional  # noqa: F401
    from pmitogen.target.types import Bundle, Header  # noqa: F401


class Runner(object):
    """The loop. *in_fd* and *out_fd* lead to the agent; *executable* is the path by which this interpreter was found.

    *bundle*: what it was started with. ``preload`` in it: False if nothing is to be done ahead of tasks.
    """

    def __init__(self, in_fd, out_fd, executable, bundle):
        # type: (int, int, str, Bundle) -> None
        self._in_fd, self._out_fd = in_fd, out_fd
        self._executable = executable
        self._user = sources.account_name()
        self._preload_enabled = bundle.get("preload", True)
        self._reader = framing.FrameReader()
        self._out = bytearray()
        self._freshness = freshness.FreshnessGuard(self._user)
        self._reaper = jobs.ProcessReaper()
        own_files = bundle.get("own")
        self._launcher = launcher.Launcher(self._preload_enabled, own_files, self._freshness, self._reaper, self._flush)
        self._dispatcher = dispatch.Dispatcher(self.send, self._launcher, self._freshness, self._reaper)
        self._child_exited = False
        self._alive = True
        self._wake_r, wake_w = os.pipe()
        for fd in (in_fd, out_fd, self._wake_r, wake_w):
            fds.set_nonblocking(fd)
            fds.set_cloexec(fd)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_w)

    def send_hello(self):
        # type: () -> None
        """Describe the account and the interpreter: the first frame."""
        home = os.path.expanduser("~")
        self.send(
            {
                "op": "hello",
                "pid": os.getpid(),
                "uid": os.geteuid(),
                "user": self._user,
                "executable": self._executable,
                "home": framing.to_wire(home),
                "home_writable": files.can_use_remote_tmp(home),
                "python_version": list(sys.version_info[:3]),
            }
        )

    def send(self, header, body=b""):
        # type: (Header, bytes) -> None
        self._out += framing.encode_frame(header, body)

    def run(self):
        # type: () -> None
        """Serve until the agent is gone."""
        self._flush()
        self._preload_stdlib()
        while self._alive:
            self._poll_once()
        self._kill_all()

    def _preload_stdlib(self):
        # type: () -> None
        """Import what every module imports, until the first request arrives: the agent starts at the same time."""
        self._freshness.start(self._executable)
        poller = select.poll()
        poller.register(self._in_fd, select.POLLIN)
        for name in module_cache.STDLIB_PRELOADED if self._preload_enabled else ():
            if poller.poll(0):
                break
            try:
                __import__(name)
            except Exception:  # this version does not have it
                pass
        self._launcher.freeze_heap()
        gc.enable()

    def _poll_once(self):
        # type: () -> None
        poller = select.poll()
        owners = {}  # type: Dict[int, jobs.Job]
        if len(self._out) < framing.CREDIT_WINDOW:
            poller.register(self._in_fd, select.POLLIN)
        poller.register(self._wake_r, select.POLLIN)
        if self._out:
            self._flush()
        if self._out:
            poller.register(self._out_fd, select.POLLOUT)
        dispatcher, busy = self._dispatcher, False
        if len(self._out) < framing.CREDIT_WINDOW:
            for job in dispatcher.jobs.values():
                to_read, to_write = job.fds()
                for fd in set(to_read + to_write):
                    owners[fd] = job
                    poller.register(fd, (select.POLLIN if fd in to_read else 0) | (select.POLLOUT if fd in to_write else 0))
            busy = dispatcher.has_chunks()
        try:
            events = poller.poll(0 if busy else self._poll_timeout())
        except (OSError, select.error) as exc:
            if exc.args[0] != errno.EINTR:
                raise
            events = []
        for fd, event in events:
            if fd == self._in_fd:
                self._receive()
            elif fd == self._wake_r:
                self._on_sigchld()
            elif fd in owners and fd != self._out_fd:
                on_job_event(owners[fd], fd, event)
        dispatcher.send_chunks()
        self._reap()
        self._reaper.escalate_kills()

    def _poll_timeout(self):
        # type: () -> Optional[float]
        """Return the milliseconds until the next deadline, None if there is none."""
        deadline = self._reaper.next_check_at()
        return max(0, deadline - jobs.now()) * 1000 if deadline is not None else None

    def _flush(self):
        # type: () -> None
        try:
            count = os.write(self._out_fd, bytes(self._out[: 1 << 18]))
            del self._out[:count]
        except OSError as exc:
            if exc.errno not in (errno.EAGAIN, errno.EINTR):
                self._alive = False
                del self._out[:]

    def _receive(self):
        # type: () -> None
        try:
            data = os.read(self._in_fd, 1 << 18)
        except OSError as exc:
            if exc.errno in (errno.EAGAIN, errno.EINTR):
                return
            data = b""
        if not data:
            self._alive = False
            return
        for header, body in self._reader.feed(data):
            self._dispatcher.on_frame(header, body)

    def _on_sigchld(self):
        # type: () -> None
        try:
            os.read(self._wake_r, 4096)
        except OSError:
            pass
        self._child_exited = True

    def _reap(self):
        # type: () -> None
        if self._child_exited:
            self._child_exited = False
            self._launcher.reap()
        for job in self._dispatcher.finish_jobs():
            self._launcher.on_finished(job)

    def _kill_all(self):
        # type: () -> None
        left = self._dispatcher.kill_all()
        while self._reaper.next_check_at() is not None:
            left = [pid for pid in left if self._reaper.collect(pid) is None]
            self._reaper.escalate_kills()
            time.sleep(0.02)


def on_job_event(job, fd, event):
    # type: (jobs.Job, int, int) -> None
    if event & (select.POLLOUT | select.POLLERR) and fd in job.fds()[1]:
        job.on_writable()
    if event & (select.POLLIN | select.POLLHUP | select.POLLERR):
        job.on_readable(fd)


def main(in_fd, out_fd, executable, bundle):
    # type: (int, int, str, Bundle) -> None
    """Serve until the agent is gone."""
    runner = Runner(in_fd, out_fd, executable, bundle)
    runner.send_hello()
    runner.run()
