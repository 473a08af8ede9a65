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
data, eof, credit, kill   to a job or transfer under way, by ``id``
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
from pmitogen.target import (
    archive,
    child,
    fast_subprocess,
    fds,
    files,
    freshness,
    importer,
    jobs,
    login_state,
    module_cache,
    prefork,
)

QUIET = 2  # milliseconds in which nothing comes, before it is seen whether the machine is idle: our answer is on its way
CHAINS = 256  # failed chains remembered
clock = jobs.now


class Parameters(object):
    """The parameters of a run that are too long for one frame, until they are complete: then *work* is called with them."""

    def __init__(self, rid, send, first, work):
        self._rid, self._send, self._work = rid, send, work
        self._parts = [first]

    def on_data(self, data):
        self._parts.append(data)
        self._send({"op": "credit", "id": self._rid, "n": len(data)})

    def on_eof(self):
        self._work(b"".join(self._parts))

    def close(self):
        self._parts = []


class Runner(object):
    """The loop. *in_fd* and *out_fd* lead to the agent."""

    def __init__(self, in_fd, out_fd, executable, bundle):
        self._keeps_ready = bundle.get("spares", True)  # modules, and the child of the next task: False is for diagnosis
        self._own = bundle.get("own")  # the files of our own modules
        self._in_fd, self._out_fd = in_fd, out_fd
        self._executable = executable
        self._reader = framing.FrameReader()
        self._out = bytearray()
        self._jobs = {}  # id -> Job
        self._transfers = {}  # id -> Put or Get
        self._chains = {}
        self._freshness = freshness.Guard()
        self._doomed = jobs.Doomed()
        self._archive = archive.Archive()
        self._store = module_cache.Store(self._archive.path or importer.ROOT)
        self._files = importer.Files(self._store)
        self._warm = module_cache.Warm(self._files)
        self._learnt = set()  # manifests from whose children there is nothing more to learn
        self._spare = None  # the child of the next task, if it is forked already
        self._spare_ends = 0.0
        self._want_spare = False
        self._leaving = []  # pids of children that are about to end, or will not be needed
        self._dead_children = False
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
                "home_writable": files.can_keep_temp(home),
                "python": list(sys.version_info[:3]),
            }
        )

    def send(self, header, body=b""):
        self._out += framing.encode_frame(header, body)

    # The loop
    def run(self):
        self._flush()
        self._make_ready()
        while self._alive:
            self._once()
        self._end_all()

    def _make_ready(self):
        """Until there is something to do (the agent starts at the same time), import what every module will."""
        self._freshness.start(self._executable)
        waiting = select.poll()
        waiting.register(self._in_fd, select.POLLIN)
        for name in module_cache.STDLIB_WANTED if self._keeps_ready else ():
            if waiting.poll(0):
                break
            try:
                __import__(name)
            except Exception:  # this Python has none such
                pass
        self._settle()
        gc.enable()

    def _once(self):
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
            busy = any(isinstance(item, files.Get) and item.wants_turn() for item in self._transfers.values())
        deadlines = [self._doomed.next_look(), self._spare_ends if self._spare is not None else None]
        deadlines = [when for when in deadlines if when is not None]
        to_fork = self._want_spare and not self._jobs and not self._transfers
        timeout = 0 if busy else QUIET if to_fork else max(0, min(deadlines) - clock()) * 1000 if deadlines else None
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
                self._woken()
            elif fd in owners and fd != self._out_fd:
                self._job_event(owners[fd], fd, event)
        if to_fork and not events and not self._out:
            self._make_spare()
        self._take_turns()
        self._reap()
        self._doomed.hurry()
        if self._spare is not None and self._spare_ends <= clock():
            self._drop_spare()

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

    def _woken(self):
        try:
            os.read(self._wake_r, 4096)
        except OSError:
            pass
        self._dead_children = True

    def _job_event(self, job, fd, event):
        if event & (select.POLLOUT | select.POLLERR) and fd in job.fds()[1]:
            job.on_writable()
        if event & (select.POLLIN | select.POLLHUP | select.POLLERR):
            job.on_readable(fd)

    def _take_turns(self):
        for rid, item in list(self._transfers.items()):
            if isinstance(item, files.Get) and item.wants_turn():
                self._guard(rid, item.what, lambda item=item, rid=rid: item.turn() and self._transfers.pop(rid, None))

    def _reap(self):
        if self._dead_children:
            self._dead_children = False
            self._leaving = [pid for pid in self._leaving if self._doomed.collect(pid) is None]
        for rid, job in list(self._jobs.items()):
            if job.silent() and not job.ended():
                job.on_status(self._doomed.collect(job.pid))
            if job.over():
                del self._jobs[rid]
                job.finish()
                if not job.ended():
                    self._leaving.append(job.pid)
                self._learn(job)
                self._want_spare = self._keeps_ready and self._spare is None and hasattr(job, "manifest")

    # Requests
    def _dispatch(self, header, body):
        op, rid = header.get("op"), header.get("id")
        if op in ("data", "eof", "credit", "kill"):
            self._to_item(op, rid, header, body)
        elif op == "blobs":
            self._drop_spare()
            blobs = header["blobs"]
            pieces = framing.split_pieces(blobs + header.get("codes", []), body)
            self._store.blobs.update(pieces[: len(blobs)])
            self._store.accept(header.get("tag"), pieces[len(blobs) :])
        elif op == "codes":
            self._tell_codes()
        elif op == "entered":
            self._freshness.enter(header, self._user)
        elif op in REQUESTS:
            chain, quiet = header.get("chain"), header.get("quiet")
            refusal = None if chain in self._chains else self._freshness.refusal(header)
            if refusal is not None:
                if refusal:
                    self.send(refusal)
            elif chain not in self._chains:
                step = lambda: REQUESTS[op](self, rid, header, body)  # noqa: E731
                self._guard(rid, header.get("what") or op, step, chain if quiet else None, None if quiet else rid)
            elif not quiet:
                self._fail(rid, self._chains.pop(chain))  # now somebody knows
        else:
            self._fail(rid, "unknown request %r" % (op,))

    def _tell_codes(self):
        listed, bodies = [], []
        for own, source in ((False, self._files), (True, self._own)):
            for digest, path, code in source.store.export() if source else ():
                listed.append([own, digest, path, len(code)])
                bodies.append(code)
        self.send({"op": "codes", "tag": module_cache.TAG, "codes": listed}, b"".join(bodies))

    def _fail(self, rid, message, chain=None):
        if chain is not None:
            if len(self._chains) >= CHAINS:
                self._chains.pop(next(iter(self._chains)))
            self._chains[chain] = message
        if rid is None:
            self.send({"op": "late", "msg": message[: framing.MESSAGE_TEXT]})
            return
        self.send({"op": "error", "id": rid, "msg": message[: framing.MESSAGE_TEXT]})

    def _guard(self, rid, what, step, chain=None, answer_to=-1):
        """Run *step*; what the operating system refuses becomes the answer to the request."""
        try:
            step()
        except (IOError, OSError, KeyError, shutil_error()) as exc:
            item = self._transfers.pop(rid, None)
            if item is not None:
                item.close()
            self._fail(rid if answer_to == -1 else answer_to, files.describe(exc, what), chain)

    def _to_item(self, op, rid, header, body):
        item = self._jobs.get(rid) or self._transfers.get(rid)
        if item is None:
            return  # it is over already, and said so
        if op == "kill":
            self._kill(rid, item)
        elif op == "credit":
            item.on_credit(header["n"])
        else:
            step = (lambda: item.on_data(body)) if op == "data" else (lambda: self._end_of(rid, item))
            self._guard(rid, getattr(item, "what", "writing"), step)

    def _end_of(self, rid, item):
        item.on_eof()
        if rid in self._transfers:
            del self._transfers[rid]

    def _kill(self, rid, item):
        if rid in self._transfers:
            item.close()
            del self._transfers[rid]
            self._fail(rid, "cancelled")
        else:
            self._doomed.add(item.pid)

    def _fs(self, rid, header, body):
        answer = files.SMALL[header["do"]](header)
        if not header.get("quiet"):
            self.send(dict(answer, op="ok", id=rid))

    def _put(self, rid, header, body):
        item = self._transfers[rid] = files.Put(rid, self.send, header)
        if body:
            item.on_data(body)
        if not header.get("more"):
            self._end_of(rid, item)

    def _get(self, rid, header, body):
        self._transfers[rid] = files.Get(rid, self.send, header)

    def _exec(self, rid, header, body):
        state = login_state.read()
        if state is not None and state.is_lost() and (header.get("eager") or not header.get("more")):
            self.send({"op": "error", "id": rid, "msg": "not in the state of a login", "why": "state"})  # the hub does without us
            return
        if header.get("tty"):
            self._exec_tty(rid, header, body)
            return
        with fds.Opened() as opened:
            stdin = opened.pipe() if body or header.get("more") else (opened.null(), None)
            stdout, stderr = opened.pipe(), opened.pipe()
            pid = child.fork(lambda: self._execute(header), stdin[0], stdout[1], stderr[1])
        for fd in (stdin[0], stdout[1], stderr[1]):
            os.close(fd)
        self._start(jobs.Job(rid, self.send, pid, stdin[1], stdout[0], stderr[0], eager=header.get("eager")), header, body)

    def _exec_tty(self, rid, header, body):
        with fds.Opened() as opened:
            master, slave = opened.terminal()
            pid = child.fork(lambda: self._execute(header), slave, slave, slave, slave)
        os.close(slave)
        job = jobs.Job(rid, self.send, pid, master, master, None, tty=True, eager=header.get("eager"))
        self._start(job, dict(header, more=True), body)

    @staticmethod
    def _execute(header):
        child.execute(header["argv"], header.get("env") or {}, header.get("cwd"))

    def _start(self, job, header, body):
        self._jobs[job.rid] = job
        for fd in list(job._out):
            fds.set_cloexec(fd)
        if body:
            job.on_data(body)
        if not header.get("more"):
            job.on_eof()

    def _run(self, rid, header, params):
        asked = clock()
        if header.pop("more", False):
            self._transfers[rid] = Parameters(rid, self.send, params, lambda whole: self._run(rid, header, whole))
            return
        manifest = self._store.manifest(header["man"])  # a KeyError here is the request's failure, not the child's
        if header["gen"] != "call" and self._keeps_ready and not self._warm.files:
            self._warm_up(manifest)
        misfits = self._warm.misfits(header["man"])
        learn = self._keeps_ready and header["man"] not in self._learnt
        if learn:
            self._store.compile_all(manifest)  # else the child would, and then this process for the children after it
        self._flush()
        others = [job.manifest for job in self._jobs.values() if hasattr(job, "manifest")]
        held = self._archive.path is not None and self._archive.hold(self._store, others + [header["man"]])
        order = (header, params, misfits, learn, held)
        offspring = self._take_spare(order) or prefork.Offspring(self._files, order)
        job = jobs.Job(rid, self.send, offspring.pid, None, offspring.stdout_fd, offspring.stderr_fd, offspring.report_fd)
        job.manifest = header["man"]
        if header.get("trace"):
            job.times = (asked, clock())
        self._start(job, header, b"")

    # The child of the next task (see prefork.py)

    def _take_spare(self, order):
        """Have the spare child do it; None if there is none, or it cannot."""
        found, self._spare = self._spare, None
        if found is not None and not found.give(order):
            self._dismiss(found)
            found = None
        return found

    def _make_spare(self):
        self._want_spare = False
        if prefork.is_busy():
            return
        try:
            self._spare = prefork.Offspring(self._files, None)
            self._spare_ends = clock() + prefork.LIFE
        except OSError:  # the next task may find the machine able to fork again, or be told that it is not
            pass

    def _drop_spare(self):
        """What it was forked with is no longer all there is."""
        found, self._spare = self._spare, None
        if found is not None:
            self._dismiss(found)

    def _dismiss(self, found):
        found.dismiss()
        self._leaving.append(found.pid)

    # Warmth
    def _warm_up(self, manifest):
        """Import what every module imports: once, here, not first in a child and then again."""
        gc.disable()
        if self._warm.add(manifest, module_cache.FIRST_WARM):
            self._settle()
            fast_subprocess.hold_locale()
            if "subprocess" in sys.modules:
                fast_subprocess.install(sys.modules["subprocess"], sys.modules.get("selectors"))
        gc.enable()

    def _learn(self, job):
        names = job.said or {}
        if "payload" not in names:
            return
        self._learnt.add(job.manifest)
        self._flush()  # the answer first
        if self._warm.add(self._store.manifest(job.manifest), names["payload"]) + module_cache.import_stdlib(names["stdlib"]):
            self._settle()

    def _settle(self):
        """Leave as little as possible for a fork to copy: the collector lets alone what it has frozen.

        While it is switched off there are but imports, which make next to no garbage: they are spared its rounds, of which each
        visits all that they have made so far (a tenth of our start).
        """
        self._drop_spare()
        self._freshness.learn()
        if hasattr(gc, "freeze"):
            if gc.isenabled():
                gc.collect()
            gc.freeze()

    def _end_all(self):
        self._drop_spare()
        for item in self._transfers.values():
            item.close()
        left = [job.pid for job in self._jobs.values()]
        for pid in left:
            self._doomed.add(pid)
        while self._doomed.next_look() is not None:
            left = [pid for pid in left if self._doomed.collect(pid) is None]
            self._doomed.hurry()
            time.sleep(0.02)


REQUESTS = {"run": Runner._run, "exec": Runner._exec, "put": Runner._put, "get": Runner._get, "fs": Runner._fs}


def shutil_error():
    import shutil

    return shutil.Error


def main(in_fd, out_fd, executable, bundle):
    """Serve until the agent goes away. *bundle*: what we were started with; ``spares``: whether to do anything ahead of tasks."""
    runner = Runner(in_fd, out_fd, executable, bundle)
    runner.hello()
    runner.run()
