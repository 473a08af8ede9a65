"""The warm process of one account and interpreter: one thread, a fork for every task.

It reads frames from the agent, answers with frames, and sleeps in poll(2) otherwise. Requests (``op``):

========  =======================================================================================================
blobs     contents to keep, by hash, and perhaps code that was compiled from them elsewhere
codes     say what is compiled here, for the runners of further accounts
entered   how this account was entered, and by which name the interpreter was called: what to watch
run       a Python payload in a forked child (see child.py): ``man``, ``fqn``, ``gen``, ``env``; the body is its parameters
          (the last ``keywords`` bytes of it are arguments for its start), ``more`` promises the rest of them
exec      a program in a forked child: ``argv``, ``env``, ``tty``; the body is its stdin, ``more`` promises further data
put, get  a file, in pieces
fs        a small operation on files, done at once (see files.py)
data, eof, credit, kill   to a job or transfer under way, by ``id``; to a job also ``signal`` and ``resize``
========  =======================================================================================================

Each request with an ``id`` is answered by exactly one of ``exit``, ``ok`` or ``error``, which carries it; one that is ``quiet``
(fs, a whole put) is answered only by what its failure does to its chain. Requests of one ``chain`` run in order as far as
they complete at once (fs, put): after a quiet failure the later ones of that chain are refused with the same words, until
one has told them to somebody who waits.

Once a fresh interpreter would differ from this one (see freshness.py), or the agent says so (``stale``), every request is refused
with an error of the kind ``stale``, which counts the quiet requests of its chain that were refused before it (``lost``). Removals
are still done: they undo what was done here. A request that is ``as_is`` is taken unless its chain has lost one.

When the agent goes away, every child's process group is ended and so is the runner. A child that was asked to end gets
SIGTERM, and SIGKILL after a while (see jobs.py).
"""

import errno
import gc
import os
import pwd
import select
import signal
import sys
import time

from pmitogen.protocol import framing
from pmitogen.target import child, fds, files, freshness, jobs, login_state
from pmitogen.target.payload import archive, fast_subprocess, importer, module_cache, prefork

IDLE_BEFORE_FORK_MS = 2  # without a frame; by then the last answer is on its way
MAX_FAILED_CHAINS = 256  # failed chains remembered
clock = jobs.now


class ParameterBuffer(object):
    """The parameters of a run that are too long for one frame, until they are complete: then *work* is called with them."""

    def __init__(self, request_id, send, first, work):
        self._request_id, self._send, self._work = request_id, send, work
        self._parts = [first]

    def on_data(self, data):
        self._parts.append(data)
        self._send({"op": "credit", "id": self._request_id, "n": len(data)})

    def on_eof(self):
        self._work(b"".join(self._parts))

    def close(self):
        self._parts = []


class Runner(object):
    """The loop. *in_fd* and *out_fd* lead to the agent."""

    def __init__(self, in_fd, out_fd, executable, bundle):
        self._preload_enabled = bundle.get("spares", True)  # modules, and the child of the next task: False is for diagnosis
        self._own_files = bundle.get("own")  # the files of our own modules
        self._in_fd, self._out_fd = in_fd, out_fd
        self._executable = executable
        self._reader = framing.FrameReader()
        self._out = bytearray()
        self._jobs = {}  # id -> Job
        self._transfers = {}  # id -> Put or Get
        self._failed_chains = {}
        self._freshness = freshness.FreshnessGuard()
        self._reaper = jobs.ProcessReaper()
        self._archive = archive.Archive()
        self._store = module_cache.ModuleStore(self._archive.path or importer.ROOT)
        self._files = importer.PayloadFiles(self._store)
        self._preloaded = module_cache.PreloadedModules(self._files)
        self._learned_manifests = set()  # manifests from whose children there is nothing more to learn
        self._prefork = None  # the child of the next task, if it is forked already
        self._prefork_expires = 0.0
        self._prefork_wanted = False
        self._exiting_pids = []  # pids of children that are about to end, or will not be needed
        self._child_exited = False
        self._alive = True
        self._wake_r, self._wake_w = os.pipe()
        for fd in (in_fd, out_fd, self._wake_r, self._wake_w):
            fds.set_nonblocking(fd)
            fds.set_cloexec(fd)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_w)

    def hello(self):
        """Say who and what we are: first frame of all."""
        try:
            user = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            user = str(os.geteuid())
        self._user = user
        home = os.path.expanduser("~")
        self.send(
            {
                "op": "hello",
                "pid": os.getpid(),
                "uid": os.geteuid(),
                "user": user,
                "exe": self._executable,
                "home": framing.to_wire(home),
                "home_writable": files.can_use_remote_tmp(home),
                "python": list(sys.version_info[:3]),
            }
        )

    def send(self, header, body=b""):
        self._out += framing.encode_frame(header, body)

    # The loop
    def run(self):
        self._flush()
        self._preload_stdlib()
        while self._alive:
            self._poll_once()
        self._kill_all()

    def _preload_stdlib(self):
        """Until there is something to do (the agent starts at the same time), import what every module will."""
        self._freshness.start(self._executable)
        waiting = select.poll()
        waiting.register(self._in_fd, select.POLLIN)
        for name in module_cache.STDLIB_PRELOADED if self._preload_enabled else ():
            if waiting.poll(0):
                break
            try:
                __import__(name)
            except Exception:  # this Python has none such
                pass
        self._freeze_heap()
        gc.enable()

    def _poll_once(self):
        poller = select.poll()
        owners = {}
        if len(self._out) < framing.CREDIT_WINDOW:
            poller.register(self._in_fd, select.POLLIN)
        poller.register(self._wake_r, select.POLLIN)
        if self._out:
            self._flush()
        if self._out:
            poller.register(self._out_fd, select.POLLOUT)
        busy = False
        if len(self._out) < framing.CREDIT_WINDOW:
            for job in self._jobs.values():
                to_read, to_write = job.fds()
                for fd in set(to_read + to_write):
                    owners[fd] = job
                    poller.register(fd, (select.POLLIN if fd in to_read else 0) | (select.POLLOUT if fd in to_write else 0))
            busy = any(isinstance(item, files.Download) and item.is_ready() for item in self._transfers.values())
        deadlines = [self._reaper.next_check_at(), self._prefork_expires if self._prefork is not None else None]
        deadlines = [when for when in deadlines if when is not None]
        to_fork = self._prefork_wanted and not self._jobs and not self._transfers
        if busy:
            timeout = 0
        elif to_fork:
            timeout = IDLE_BEFORE_FORK_MS
        else:
            timeout = max(0, min(deadlines) - clock()) * 1000 if deadlines else None
        try:
            events = poller.poll(timeout)
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
                self._job_event(owners[fd], fd, event)
        if to_fork and not events and not self._out:
            self._fork_ahead()
        self._send_chunks()
        self._reap()
        self._reaper.escalate_kills()
        if self._prefork is not None and self._prefork_expires <= clock():
            self._discard_prefork()

    def _flush(self):
        try:
            count = os.write(self._out_fd, bytes(self._out[: 1 << 18]))
            del self._out[:count]
        except OSError as exc:
            if exc.errno not in (errno.EAGAIN, errno.EINTR):
                self._alive = False
                del self._out[:]

    def _receive(self):
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
            self._dispatch(header, body)

    def _on_sigchld(self):
        try:
            os.read(self._wake_r, 4096)
        except OSError:
            pass
        self._child_exited = True

    def _job_event(self, job, fd, event):
        if event & (select.POLLOUT | select.POLLERR) and fd in job.fds()[1]:
            job.on_writable()
        if event & (select.POLLIN | select.POLLHUP | select.POLLERR):
            job.on_readable(fd)

    def _send_chunks(self):
        for request_id, item in list(self._transfers.items()):
            if isinstance(item, files.Download) and item.is_ready():
                self._reply_with_os_error(request_id, item.label, lambda item=item: self._send_chunk(item))

    def _send_chunk(self, download):
        if download.send_chunk():
            self._transfers.pop(download.request_id, None)

    def _reap(self):
        if self._child_exited:
            self._child_exited = False
            self._exiting_pids = [pid for pid in self._exiting_pids if self._reaper.collect(pid) is None]
        for request_id, job in list(self._jobs.items()):
            if job.output_closed() and not job.is_collected():
                job.on_status(self._reaper.collect(job.pid))
            if job.finished():
                del self._jobs[request_id]
                job.finish()
                if not job.is_collected():
                    self._exiting_pids.append(job.pid)
                self._preload_from(job)
                self._prefork_wanted = self._preload_enabled and self._prefork is None and hasattr(job, "manifest")

    # Requests
    def _dispatch(self, header, body):
        op, request_id = header.get("op"), header.get("id")
        if op in framing.FOLLOWING:
            self._route_followup(op, request_id, header, body)
        elif op == "blobs":
            self._discard_prefork()
            blobs = header["blobs"]
            pieces = framing.split_pieces(blobs + header.get("codes", []), body)
            self._store.blobs.update(pieces[: len(blobs)])
            self._store.load_bytecode(header.get("tag"), pieces[len(blobs) :])
        elif op == "codes":
            self._send_bytecode()
        elif op == "entered":
            self._freshness.on_entered(header, self._user)
        elif op in HANDLERS:
            chain, quiet = header.get("chain"), header.get("quiet")
            refusal = None if chain in self._failed_chains else self._freshness.refusal(header)
            if refusal is not None:
                if refusal:
                    self.send(refusal)
            elif chain not in self._failed_chains:
                operation = lambda: HANDLERS[op](self, request_id, header, body)  # noqa: E731
                label, answer_to = header.get("what") or op, None if quiet else request_id
                self._reply_with_os_error(request_id, label, operation, chain if quiet else None, answer_to)
            elif not quiet:
                self._send_error(request_id, self._failed_chains.pop(chain))  # reported, so it need not be kept
        else:
            self._send_error(request_id, "unknown request %r" % (op,))

    def _send_bytecode(self):
        listed, bodies = [], []
        for own, source in ((False, self._files), (True, self._own_files)):
            for digest, path, code in source.store.dump_bytecode() if source else ():
                listed.append([own, digest, path, len(code)])
                bodies.append(code)
        self.send({"op": "codes", "tag": module_cache.BYTECODE_TAG, "codes": listed}, b"".join(bodies))

    def _send_error(self, request_id, message, chain=None):
        if chain is not None:
            if len(self._failed_chains) >= MAX_FAILED_CHAINS:
                self._failed_chains.pop(next(iter(self._failed_chains)))
            self._failed_chains[chain] = message
        if request_id is None:
            self.send({"op": "late", "msg": message[: framing.MESSAGE_TEXT]})
            return
        self.send({"op": "error", "id": request_id, "msg": message[: framing.MESSAGE_TEXT]})

    def _reply_with_os_error(self, request_id, label, operation, chain=None, answer_to=-1):
        """Run *step*; what the operating system refuses becomes the answer to the request."""
        try:
            operation()
        except (IOError, OSError, KeyError, shutil_error()) as exc:
            item = self._transfers.pop(request_id, None)
            if item is not None:
                item.close()
            self._send_error(request_id if answer_to == -1 else answer_to, files.error_message(exc, label), chain)

    def _route_followup(self, op, request_id, header, body):
        item = self._jobs.get(request_id) or self._transfers.get(request_id)
        if item is None:
            return  # it is over already, and said so
        if op == "kill":
            self._kill(request_id, item)
        elif op == "credit":
            item.on_credit(header["n"])
        elif op == "signal":
            self._signal(item, header["n"])
        elif op == "resize":
            if hasattr(item, "resize"):
                item.resize(*header["size"])
        else:
            operation = (lambda: item.on_data(body)) if op == "data" else (lambda: self._finish_upload(request_id, item))
            self._reply_with_os_error(request_id, getattr(item, "label", "writing"), operation)

    def _finish_upload(self, request_id, item):
        item.on_eof()
        if request_id in self._transfers:
            del self._transfers[request_id]

    def _signal(self, item, number):
        if hasattr(item, "pid") and not item.is_collected():
            self._reaper.send_signal(item.pid, number)

    def _kill(self, request_id, item):
        if request_id in self._transfers:
            item.close()
            del self._transfers[request_id]
            self._send_error(request_id, "cancelled")
        else:
            self._reaper.add(item.pid)

    def _fs(self, request_id, header, body):
        answer = files.OPERATIONS[header["do"]](header)
        if not header.get("quiet"):
            self.send(dict(answer, op="ok", id=request_id))

    def _put(self, request_id, header, body):
        item = self._transfers[request_id] = files.Upload(request_id, self.send, header)
        if body:
            item.on_data(body)
        if not header.get("more"):
            self._finish_upload(request_id, item)

    def _get(self, request_id, header, body):
        self._transfers[request_id] = files.Download(request_id, self.send, header)

    def _exec(self, request_id, header, body):
        state = login_state.read()
        if state is not None and state.is_lost() and (header.get("eager") or not header.get("more")):
            # The hub then runs the command without this interpreter.
            self.send({"op": "error", "id": request_id, "msg": "not in the state of a login", "why": "state"})
            return
        if header.get("tty"):
            self._exec_tty(request_id, header, body)
            return
        with fds.FdGuard() as guard:
            stdin = guard.pipe() if body or header.get("more") else (guard.devnull(), None)
            stdout, stderr = guard.pipe(), guard.pipe()
            pid = child.fork(lambda: self._execute(header), stdin[0], stdout[1], stderr[1])
        for fd in (stdin[0], stdout[1], stderr[1]):
            os.close(fd)
        pipes = (stdin[1], stdout[0], stderr[0])
        self._start(jobs.Job(request_id, self.send, pid, *pipes, stream_output=header.get("eager")), header, body)

    def _exec_tty(self, request_id, header, body):
        with fds.FdGuard() as guard:
            master, slave = guard.pty()
            if "size" in header:
                fds.set_window_size(slave, *header["size"])
            pid = child.fork(lambda: self._execute(header), slave, slave, slave, slave)
        os.close(slave)
        job = jobs.Job(request_id, self.send, pid, master, master, None, tty=True, stream_output=header.get("eager"))
        self._start(job, dict(header, more=True), body)

    @staticmethod
    def _execute(header):
        child.execute(header["argv"], header.get("env") or {}, header.get("cwd"))

    def _start(self, job, header, body):
        self._jobs[job.request_id] = job
        for fd in list(job._out):
            fds.set_cloexec(fd)
        if body:
            job.on_data(body)
        if not header.get("more"):
            job.on_eof()

    def _run(self, request_id, header, parameters):
        asked = clock()
        if header.pop("more", False):
            run = lambda whole: self._run(request_id, header, whole)  # noqa: E731
            self._transfers[request_id] = ParameterBuffer(request_id, self.send, parameters, run)
            return
        manifest = self._store.manifest(header["man"])  # a KeyError here is the request's failure, not the child's
        if header["gen"] != "call" and self._preload_enabled and not self._preloaded.files:
            self._preload_core(manifest)
        conflicts = self._preloaded.conflicts(header["man"])
        record_imports = self._preload_enabled and header["man"] not in self._learned_manifests
        if record_imports:
            self._store.precompile_all(manifest)  # else the child would, and then this process for the children after it
        self._flush()
        running = [job.manifest for job in self._jobs.values() if hasattr(job, "manifest")]
        in_archive = self._archive.path is not None and self._archive.contain(self._store, running + [header["man"]])
        task = (header, parameters, conflicts, record_imports, in_archive)
        started = self._assign_prefork(task) or prefork.PayloadChild(self._files, task)
        fds_to_read = (started.stdout_fd, started.stderr_fd, started.report_fd)
        job = jobs.Job(request_id, self.send, started.pid, None, *fds_to_read)
        job.manifest = header["man"]
        if header.get("trace"):
            job.timings = (asked, clock())
        self._start(job, header, b"")

    # The child of the next task (see prefork.py)

    def _assign_prefork(self, task):
        """Have the spare child do it; None if there is none, or it cannot."""
        found, self._prefork = self._prefork, None
        if found is not None and not found.assign(task):
            self._discard_child(found)
            found = None
        return found

    def _fork_ahead(self):
        self._prefork_wanted = False
        if prefork.is_loaded():
            return
        try:
            self._prefork = prefork.PayloadChild(self._files, None)
            self._prefork_expires = clock() + prefork.MAX_IDLE
        except OSError:  # the next task may find the machine able to fork again, or be told that it is not
            pass

    def _discard_prefork(self):
        """What it was forked with is no longer all there is."""
        found, self._prefork = self._prefork, None
        if found is not None:
            self._discard_child(found)

    def _discard_child(self, found):
        found.discard()
        self._exiting_pids.append(found.pid)

    # Warmth
    def _preload_core(self, manifest):
        """Import what every module imports: once, here, not first in a child and then again."""
        gc.disable()
        if self._preloaded.add(manifest, module_cache.PRELOAD_FIRST):
            self._freeze_heap()
            fast_subprocess.preload_locale()
            if "subprocess" in sys.modules:
                fast_subprocess.patch(sys.modules["subprocess"], sys.modules.get("selectors"))
        gc.enable()

    def _preload_from(self, job):
        names = job.report or {}
        if "payload" not in names:
            return
        self._learned_manifests.add(job.manifest)
        self._flush()  # the answer first
        added = self._preloaded.add(self._store.manifest(job.manifest), names["payload"])
        if added + module_cache.import_stdlib(names["stdlib"]):
            self._freeze_heap()

    def _freeze_heap(self):
        """Leave as little as possible for a fork to copy: the collector lets alone what it has frozen.

        While it is switched off there are but imports, which make next to no garbage: they are spared its rounds, of which each
        visits all that they have made so far (a tenth of our start).
        """
        self._discard_prefork()
        self._freshness.watch_imports()
        if hasattr(gc, "freeze"):
            if gc.isenabled():
                gc.collect()
            gc.freeze()

    def _kill_all(self):
        self._discard_prefork()
        for item in self._transfers.values():
            item.close()
        left = [job.pid for job in self._jobs.values()]
        for pid in left:
            self._reaper.add(pid)
        while self._reaper.next_check_at() is not None:
            left = [pid for pid in left if self._reaper.collect(pid) is None]
            self._reaper.escalate_kills()
            time.sleep(0.02)


HANDLERS = {"run": Runner._run, "exec": Runner._exec, "put": Runner._put, "get": Runner._get, "fs": Runner._fs}


def shutil_error():
    import shutil

    return shutil.Error


def main(in_fd, out_fd, executable, bundle):
    """Serve until the agent goes away. *bundle*: what we were started with; ``spares``: whether to do anything ahead of tasks."""
    runner = Runner(in_fd, out_fd, executable, bundle)
    runner.hello()
    runner.run()
