"""The runner's requests: one function for each operation, and the jobs and transfers that are under way.

==========  =======================================================================================================
``op``      request
==========  =======================================================================================================
run         a Python payload in a forked child (see payload/run.py): ``manifest``, ``module``, ``generation``, ``env``; the
            body is its parameters (the last ``keywords_size`` bytes of it are arguments for its start), ``more``: data frames
            bring the rest
exec        a program: ``argv``, ``env``, ``tty``; the body is its stdin, ``more``: data frames follow
put, get    a file, in pieces
fs          a small operation on files that is done at once (see files.py)
blobs       contents to store, by hash, and optionally bytecode that was compiled from them elsewhere
bytecode    send the bytecode that is compiled here, for the runners of further accounts
start-info  how this account was entered, and by which name the interpreter was called: the files to watch
data, eof, credit, kill, signal, resize   belong to the job or transfer with the same ``id``
==========  =======================================================================================================

Each request with an ``id`` gets exactly one answer with the same ``id``: ``exit``, ``ok`` or ``error``. A request with
``no_reply`` (fs, or a put in one frame) gets none. Requests of one ``chain`` run in order as far as they are done at once (fs,
put). If one with ``no_reply`` fails, the next ones of its chain are refused with its message, until one without has reported it.

Once a new interpreter would differ from this one (see freshness.py), or the agent says so (``stale``), every request is refused
with an error of the kind ``stale``. Its ``refused_count`` is the number of earlier requests of the chain with ``no_reply`` that
were refused. Removals are still done, because they undo what was done here. A request with ``even_if_stale`` is done unless a
request of its chain was refused.
"""

import errno
import functools
import os
import shutil

from pmitogen.protocol import framing
from pmitogen.target import fds, files, fork, jobs, login_state, vfork

MYPY = False
if MYPY:
    import subprocess  # noqa: F401
    from typing import Callable, Dict, List, Optional, Union  # noqa: F401
    from pmitogen.target.freshness import FreshnessGuard  # noqa: F401
    from pmitogen.target.payload.launcher import Launcher  # noqa: F401
    from pmitogen.target.types import Header, Json, Send  # noqa: F401

MAX_FAILED_CHAINS = 256


class ParameterBuffer(files.Transfer):
    """Collects the parameters of a payload that are too long for one frame, then calls *run* with them."""

    def __init__(self, request_id, send, first, run):
        # type: (int, Send, bytes, Callable[[bytes], object]) -> None
        self._request_id, self._send, self._run = request_id, send, run
        self._parts = [first]

    def on_data(self, body):
        # type: (bytes) -> None
        self._parts.append(body)
        self._send({"op": "credit", "id": self._request_id, "count": len(body)}, b"")

    def on_eof(self):
        # type: () -> None
        self._run(b"".join(self._parts))


class Dispatcher(object):
    """Does what frames request. *send*: called with the header and body of each frame for the agent."""

    def __init__(self, send, launcher, freshness, reaper):
        # type: (Send, Launcher, FreshnessGuard, jobs.ProcessReaper) -> None
        self._send, self._launcher, self._freshness, self._reaper = send, launcher, freshness, reaper
        self.jobs = {}  # type: Dict[int, jobs.Job]
        self.transfers = {}  # type: Dict[int, files.Transfer]
        self._failed_chains = {}  # type: Dict[Optional[int], str] # chain -> message of its first failure

    def on_frame(self, header, body):
        # type: (Header, bytes) -> None
        op, request_id = header.get("op"), header.get("id")
        if op in framing.FOLLOWING:
            self._on_followup(op, header["id"], header, body)
        elif op in HANDLERS:
            self._on_request(op, request_id, header, body)
        elif op == "blobs":
            self._launcher.receive_blobs(header, body)
        elif op == "bytecode":
            self._send(*self._launcher.dump_bytecode())
        elif op == "start-info":
            self._freshness.on_entered(header)
        else:
            self._send_error(request_id, "unknown request %r" % (op,))

    def _on_request(self, op, request_id, header, body):
        # type: (str, Json, Header, bytes) -> None
        chain, no_reply = header.get("chain"), header.get("no_reply")
        if chain in self._failed_chains:
            if not no_reply:
                self._send_error(request_id, self._failed_chains.pop(chain))
            return
        refusal = self._freshness.refusal(header)
        if refusal is None:
            handle = lambda: HANDLERS[op](self, request_id, header, body)  # noqa: E731
            label, answer_to = header.get("label") or op, None if no_reply else request_id
            self._reply_with_os_error(request_id, label, handle, chain if no_reply else None, answer_to)
        elif refusal:
            self._send(refusal, b"")

    def _send_error(self, request_id, message, chain=None, code=None):
        # type: (Optional[int], str, Optional[int], Optional[str]) -> None
        if chain is not None:
            if len(self._failed_chains) >= MAX_FAILED_CHAINS:
                self._failed_chains.pop(next(iter(self._failed_chains)))
            self._failed_chains[chain] = message
        answer = {"msg": message[: framing.MESSAGE_TEXT]}  # type: Header
        if request_id is None:
            answer["op"] = "deferred-error"
        else:
            answer.update(op="error", id=request_id)
            if code:
                answer["errno"] = code
        self._send(answer, b"")

    def _reply_with_os_error(self, request_id, label, handle, chain=None, answer_to=-1):
        # type: (int, str, Callable[[], object], Optional[int], Optional[int]) -> None
        """Call *handle*. If the operating system reports an error, that is the answer.

        *answer_to*: the request to answer; None for one with ``no_reply``, -1 for *request_id*.
        """
        try:
            handle()
        except (IOError, OSError, KeyError, shutil.Error) as exc:
            self._close_transfer(request_id)
            code = errno.errorcode.get(getattr(exc, "errno", None))  # type: ignore[arg-type]
            self._send_error(request_id if answer_to == -1 else answer_to, files.error_message(exc, label), chain, code)

    def _close_transfer(self, request_id):
        # type: (int) -> None
        transfer = self.transfers.pop(request_id, None)
        if transfer is not None:
            transfer.close()

    def _on_followup(self, op, request_id, header, body):
        # type: (str, int, Header, bytes) -> None
        """Pass a frame to its job or transfer. If that has ended, drop the frame."""
        job = self.jobs.get(request_id)
        job_or_transfer = job or self.transfers.get(request_id)  # type: Union[jobs.Job, files.Transfer, None]
        if job_or_transfer is None:
            return
        if op == "credit":
            job_or_transfer.on_credit(header["count"])
        elif op == "data":
            self._reply_with_os_error(request_id, job_or_transfer.label, lambda: job_or_transfer.on_data(body))
        elif op == "eof" and not isinstance(job_or_transfer, files.Download):
            self._reply_with_os_error(request_id, job_or_transfer.label, lambda: self._on_eof(request_id, job_or_transfer))
        elif op == "kill" and job is None:
            self._close_transfer(request_id)
            self._send_error(request_id, "cancelled")
        elif op == "kill" and job is not None:
            self._reaper.add(job.pid)
        elif op == "signal" and job is not None and not job.is_collected():
            self._reaper.send_signal(job.pid, header["signal"])
        elif op == "resize" and job is not None:
            job.resize(*header["terminal_size"])

    def _on_eof(self, request_id, job_or_transfer):
        # type: (int, Union[jobs.Job, files.Transfer]) -> None
        job_or_transfer.on_eof()
        self.transfers.pop(request_id, None)

    # Operations
    def _fs(self, request_id, header, body):
        # type: (int, Header, bytes) -> None
        answer = files.OPERATIONS[header["action"]](header)
        if not header.get("no_reply"):
            self._send(dict(answer, op="ok", id=request_id), b"")

    def _put(self, request_id, header, body):
        # type: (int, Header, bytes) -> None
        upload = self.transfers[request_id] = files.Upload(request_id, self._send, header)
        if body:
            upload.on_data(body)
        if not header.get("more"):
            self._on_eof(request_id, upload)

    def _get(self, request_id, header, body):
        # type: (int, Header, bytes) -> None
        self.transfers[request_id] = files.Download(request_id, self._send, header)

    def _exec(self, request_id, header, body):
        # type: (int, Header, bytes) -> None
        state = login_state.read()
        if state is not None and state.is_lost() and (header.get("stream_output") or not header.get("more")):
            # The hub then runs the command without this interpreter.
            self._send({"op": "error", "id": request_id, "msg": "not in the state of a login", "reason": "state"}, b"")
            return
        work = lambda: fork.execute(header["argv"], header.get("env") or {}, header.get("cwd"))  # noqa: E731
        tty, has_input = header.get("tty", False), bool(body or header.get("more"))
        stdin, stderr, process = None, None, None  # type: Optional[int], Optional[int], Optional[subprocess.Popen[bytes]]
        with fds.FdGuard() as guard:
            if tty:
                stdin, slave = guard.pty()
                stdout, to_close = stdin, [slave]
                if "terminal_size" in header:
                    fds.set_window_size(slave, *header["terminal_size"])
                pid = fork.fork(work, slave, slave, slave, slave)
            else:
                child_stdin, stdin = guard.pipe() if has_input else (guard.devnull(), None)
                (stdout, child_stdout), (stderr, child_stderr) = guard.pipe(), guard.pipe()
                to_close = [child_stdin, child_stdout, child_stderr]
                process = vfork.start(
                    header["argv"], header.get("env") or {}, header.get("cwd"), child_stdin, child_stdout, child_stderr
                )
                pid = fork.fork(work, child_stdin, child_stdout, child_stderr) if process is None else process.pid
        for fd in to_close:
            os.close(fd)
        job = jobs.Job(
            request_id, self._send, pid, stdin, stdout, stderr, tty=tty, stream_output=header.get("stream_output", False)
        )
        job.process = process
        self._start(job, body, tty or header.get("more", False))

    def _run(self, request_id, header, body):
        # type: (int, Header, bytes) -> None
        requested_at = jobs.now()
        if header.pop("more", False):
            run = lambda parameters: self._run(request_id, header, parameters)  # noqa: E731
            self.transfers[request_id] = ParameterBuffer(request_id, self._send, body, run)
            return
        running = [job.manifest for job in self.jobs.values() if job.manifest is not None]
        started = self._launcher.start(header, body, running)
        job = jobs.Job(request_id, self._send, started.pid, None, started.stdout_fd, started.stderr_fd, started.report_fd)
        job.manifest = header["manifest"]
        if header.get("trace"):
            job.timings = (requested_at, jobs.now())
        self._start(job, b"", False)

    def _start(self, job, body, more):
        # type: (jobs.Job, bytes, bool) -> None
        self.jobs[job.request_id] = job
        if body:
            job.on_data(body)
        if not more:
            job.on_eof()

    # For the loop
    def has_chunks(self):
        # type: () -> bool
        """Return True if a chunk of a file can be sent now."""
        return any(transfer.is_ready() for transfer in self.transfers.values())

    def send_chunks(self):
        # type: () -> None
        """Send a chunk of each file that has credit."""
        for request_id, transfer in list(self.transfers.items()):
            if transfer.is_ready():
                self._reply_with_os_error(request_id, transfer.label, functools.partial(self._send_chunk, request_id, transfer))

    def _send_chunk(self, request_id, transfer):
        # type: (int, files.Transfer) -> None
        if transfer.send_chunk():
            self.transfers.pop(request_id, None)

    def finish_jobs(self):
        # type: () -> List[jobs.Job]
        """Answer the requests whose jobs have ended, and return these jobs."""
        finished = []
        for request_id, job in list(self.jobs.items()):
            if job.output_closed() and not job.is_collected():
                job.on_status(self._reaper.collect(job.pid))
            if job.finished():
                del self.jobs[request_id]
                job.finish()
                finished.append(job)
        return finished

    def kill_all(self):
        # type: () -> List[int]
        """Close all transfers and ask all children to end. Return the pids of those that are not collected."""
        for transfer in self.transfers.values():
            transfer.close()
        pids = [job.pid for job in self.jobs.values()]
        for pid in pids:
            self._reaper.add(pid)
        return pids


HANDLERS = {
    "run": Dispatcher._run,
    "exec": Dispatcher._exec,
    "put": Dispatcher._put,
    "get": Dispatcher._get,
    "fs": Dispatcher._fs,
}
