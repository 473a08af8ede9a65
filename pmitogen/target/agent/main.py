"""The hub's one correspondent on a host: a switch between its channel and the runners of the host's accounts.

It speaks Mitogen's protocol to the hub, as the context whose number it was given, and runs on one thread that never blocks
(event_loop.py): every runner is a line, every frame is forwarded as it comes. It keeps the host's blobs, so that each crosses the
network once however many accounts need it, and hands a runner what a request needs just before the request. When it starts a
further runner it asks the login account's for what that has compiled, which is most of what the new one would spend its start
on. No other account's code goes anywhere.

Mitogen's own core is not needed for that, and would be half of what a host is sent and a fifth of its start. What passes the
channel is Mitogen's all the same: messages that its router checks, addresses and takes apart.

Frames travel inside the messages, packed (one zlib stream per direction and connection: repeated requests shrink to a few
dozen bytes) or plain (for what is compressed already, or large). The hub's requests carry ``acct``, the account's number;
requests to the agent itself are ``account`` (how to start one), ``drop`` (end one, and with ``tell`` say ``left`` once its
processes are gone) and ``blobs``.

Before it passes a request on, it sees whether a new session of the login would differ from its own (see freshness.py), and marks
the request if so. It also tells the hub when the file of accounts has changed (``changed``), before the answer to what did that.

It answers on no other handle, asks the hub for nothing, and imports nothing over the network. It has had passwords to give, so
it is a process of its own: what modules run in is forked from others.
"""

import base64
import errno
import json
import os
import pwd
import socket
import struct
import sys

import zlib

from pmitogen.protocol import framing
from pmitogen.protocol.framing import TO_AGENT_PACKED, TO_AGENT_PLAIN, TO_HUB_PACKED, TO_HUB_PLAIN
from pmitogen.target import freshness, login_state, start_state
from pmitogen.target.agent import event_loop

HEADER_STRUCT = struct.Struct(">hLLLLLL")  # kind, destination, source, authority, handle, handle for a reply, size of the data
MITOGEN_MAGIC = 0x4D49
MAX_MESSAGE = 80 << 20  # bytes: above the largest frame
HUB_CONTEXT_ID = 0  # its number as a context
ENDED_MESSAGE = "the interpreter of this account has ended"
PROTOCOL_ERROR_MESSAGE = "the interpreter of this account broke the protocol and was ended"
START_FAILED_MESSAGE = "the interpreter of this account did not start"
AGENT_FILES = "pmitogen/target/agent/"  # of no use to a runner
MAX_START_OUTPUT = 64 << 10  # bytes of noise before a runner's marker
CONNECTION_WATCH_DELAY = 0.02  # seconds after our start
REQUEST_OPS = ("run", "exec", "put", "get", "fs")


class HubConnection(object):
    """Mitogen's protocol on the line to the hub. *on_message* is called with each message's data, and whether that is packed.

    See ``mitogen.core.Message``. A message for another context, or on a handle that is not ours, has no reader here.
    """

    def __init__(self, on_message):
        self.context_id = int(sys.argv[4])
        self.peer = None
        self._on_message = on_message
        self._buf = bytearray()

    def send(self, handle, data):
        own = self.context_id
        self.peer.write(HEADER_STRUCT.pack(MITOGEN_MAGIC, HUB_CONTEXT_ID, own, own, handle, 0, len(data)) + data)

    def on_data(self, data):
        self._buf += data
        buf, pos = self._buf, 0
        while len(buf) - pos >= HEADER_STRUCT.size:
            kind, destination, _, _, handle, _, size = HEADER_STRUCT.unpack_from(buf, pos)
            if kind != MITOGEN_MAGIC or size > MAX_MESSAGE:
                self.peer.close()
                return
            end = pos + HEADER_STRUCT.size + size
            if end > len(buf):
                break
            if destination == self.context_id and handle in (TO_AGENT_PLAIN, TO_AGENT_PACKED):
                self._on_message(bytes(buf[pos + HEADER_STRUCT.size : end]), handle == TO_AGENT_PACKED)
            pos = end
        del buf[:pos]


class RunnerProxy(object):
    """One runner, from the moment it is wanted: frames wait until it is up."""

    def __init__(self, agent, account):
        self._agent = agent
        self.account = account
        self.pid = None
        self._queue = []
        self._peer = None
        self._reader = framing.FrameReader(framing.TARGET_HEADER, framing.TARGET_BODY) if account else framing.FrameReader()
        self._sent_blobs = set()  # hashes that the runner holds
        self._sent_manifests = set()
        self.open_requests = set()  # requests not yet answered
        self.on_released = None  # called once the runner is over, to let go of what carried it
        self.on_exited = None  # called once the program that carried it is gone
        self.last_output = None  # called then, too: what it said last on its terminal, if it has one
        self.wait_for_output = None  # called with what is to be done once that is there
        self.on_secret = None  # called with the hub's answer to "ask", while its account is entered
        self._hello_seen = False  # whether it has said hello
        self._end_message = START_FAILED_MESSAGE
        self.start_info = {}  # how it was started, for it to watch: see sources.py
        self.stale_scope = "account"  # what is made anew if it refuses a request

    def on_ready(self, peer, first=b""):
        """The runner answers on *line*: *first* (its bundle, if it has none yet) and then all that has waited."""
        peer.on_data, peer.on_end = self._receive, self._on_disconnect
        peer.forwards_to = self._agent.hub_peer
        self._peer = peer
        if first:
            peer.write(first + framing.encode_frame(dict(self.start_info, op="entered")))
        queue, self._queue = self._queue, None
        for header, body in queue:
            self._forward(header, body)

    def request(self, header, body):
        """Forward a request, and ahead of it the blobs that it needs."""
        if header["op"] not in framing.FOLLOWING + ("codes",) and not header.get("quiet"):
            self.open_requests.add(header.get("id"))
        if self._queue is not None:
            self._queue.append((header, body))
        elif self._peer is not None:
            self._forward(header, body)

    def _forward(self, header, body):
        if "man" in header:
            self._send_missing_blobs(header["man"])
        self._peer.write(framing.encode_frame(header, body))

    def _send_missing_blobs(self, digest):
        if digest in self._sent_manifests:
            return
        blobs = self._agent.blobs
        wanted = set(json.loads(blobs[digest].decode("utf-8")).values())
        wanted.add(digest)
        missing = sorted(wanted - self._sent_blobs)
        header = {"op": "blobs", "blobs": [[name, len(blobs[name])] for name in missing]}
        pieces = [blobs[name] for name in missing]
        bytecode = [self._agent.bytecode[name] for name in missing if self.account and name in self._agent.bytecode]
        if bytecode:
            header["tag"] = self._agent.bytecode_tag
            header["codes"] = [[name, path, len(code)] for name, path, code in bytecode]
            pieces += [code for _, _, code in bytecode]
        self._peer.write(framing.encode_frame(header, b"".join(pieces)))
        self._sent_blobs.update(missing)
        self._sent_manifests.add(digest)

    def _receive(self, data):
        try:
            for header, body in self._reader.feed(data):
                self._on_frame(header, body)
        except Exception:  # another account's process may say anything
            self._end_message = PROTOCOL_ERROR_MESSAGE
            self._peer.close()

    def _on_frame(self, header, body):
        """Pass on what a runner may say: about itself, or about what it was asked. The hub checks the fields."""
        op, request_id = header["op"], header.get("id")
        if op == "codes" and self.account == 0:
            self._agent.receive_bytecode(header, body)
            return
        answers = op in ("exit", "ok", "error", "out", "credit")
        if not (request_id in self.open_requests if answers else op in ("hello", "late")) or not framing.is_plain(header):
            raise framing.FrameError
        header.pop("acct", None)
        if self.account or op == "hello":
            header["acct"] = self.account
        if header.get("kind") == "stale":
            header["why"] = self.stale_scope  # only the agent says what of the login is not as it was
        elif op == "exit" and self._agent.session.accounts_changed():
            self._agent.send({"op": "changed"}, b"")
        self._agent.send(header, body)
        if op == "hello":
            self._hello_seen, self._end_message = True, ENDED_MESSAGE
        elif op in ("exit", "ok", "error"):
            self.open_requests.discard(request_id)

    def fail(self, kind, message, why=None):
        """Answer everything that waits on this runner, and forget it."""
        end = {"op": "error", "kind": kind, "msg": message[: framing.MESSAGE_TEXT], "why": why}
        self._agent.remove_runner(self, end)
        for request_id in sorted(self.open_requests):
            self._agent.send(dict(end, id=request_id), b"")
        self.open_requests.clear()
        self._queue = []

    def _on_disconnect(self):
        self.reap()
        # First of all: whoever is told of the end may ask for the account again before the hub reads on.
        self._agent.send({"op": "gone", "acct": self.account}, b"")
        self._queue = []
        if self.wait_for_output:
            self.wait_for_output(self._report_end)
        else:
            self._report_end()

    def _report_end(self):
        words = self.last_output() if self.last_output else ""
        if self.on_released:
            self.on_released()
        if self._hello_seen:
            self.fail("gone", self._end_message + words)
        else:
            self.fail("become" if self.last_output else "python", self._end_message + words, "python")

    def reap(self):
        if self.pid is not None:
            try:
                os.waitpid(self.pid, os.WNOHANG)
            except OSError:
                pass

    def close(self):
        """End the runner, or its start; it ends its children."""
        if self._peer is not None:
            self._peer.close()
        elif self.on_released:
            self.fail("become", "the account was given up")
            self.on_released()


class Agent(object):
    """See the head of this file. *sock* leads to the login account's runner."""

    def __init__(self, bundle, in_fd, out_fd, sock):
        self.loop = event_loop.Loop()
        self._hub = HubConnection(self.on_message)
        self.hub_peer = self._hub.peer = event_loop.Peer(self.loop, in_fd, out_fd, self._hub.on_data, self._on_shutdown)
        self.blobs = {}
        self.bytecode_tag = None  # of the interpreter that has compiled what is in
        self.bytecode = {}  # hash -> (hash, path, marshalled code)
        self._own_bytecode = {}  # the same for our own files, by path
        self._complete_manifests = set()  # manifests whose contents are all here
        self._waiting_for_blobs = []  # requests whose contents are still to come
        self._runners = {}
        self._end_errors = {}  # account -> the error that ended its runner
        self._unpack = zlib.decompressobj()
        self._pack = zlib.compressobj(6)
        self._files = bundle["files"]
        self._own_files = bundle["own"]
        self._prefork = bundle.get("spares", True)
        self._stage0 = bundle["stage0"].encode("ascii")
        self._bundle = None
        self._boot_python = framing.to_wire(sys.argv[3])
        self._user = account_name()
        self.session = freshness.LoginSession(self._user)
        self.loop.call_later(CONNECTION_WATCH_DELAY, self.session.watch_connection)
        first = self._runners[0] = RunnerProxy(self, 0)
        first.on_ready(event_loop.Peer(self.loop, sock, sock, None, None))

    def run(self):
        """Until the hub has gone."""
        while not self._hub.peer.ended:
            self.loop.run_once()

    def _on_shutdown(self):
        for runner in list(self._runners.values()):
            runner.close()

    def send(self, header, body):
        """One frame to the hub. Raises FrameError if its header is larger than the hub takes."""
        data, handle = framing.encode_frame(header, body), TO_HUB_PLAIN
        if len(data) - len(body) > framing.TARGET_HEADER:
            raise framing.FrameError
        if len(body) < framing.PACK_BELOW:
            data = self._pack.compress(data) + self._pack.flush(zlib.Z_SYNC_FLUSH)
            handle = TO_HUB_PACKED
        self._hub.send(handle, data)

    def on_message(self, data, packed):
        """Frames from the hub."""
        if packed:
            data = self._unpack.decompress(data)
        for header, body in framing.FrameReader().feed(data):
            self._handle_safely(header, body)

    def _handle_safely(self, header, body):
        try:
            self._on_frame(header, body)
        except Exception as exc:  # a fault of ours is one request's failure
            sys.excepthook(*sys.exc_info())
            self._report_failure(header, "internal error: %s" % type(exc).__name__)

    def _report_failure(self, header, message):
        runner = self._runners.get(header.get("acct")) if header["op"] == "account" else None
        if runner is not None:
            runner.fail("python", message)
        elif "id" in header:
            self.send({"op": "error", "id": header["id"], "msg": message}, b"")

    def _on_frame(self, header, body):
        op = header["op"]
        if op == "blobs":
            self._receive_blobs(header, body)
        elif op == "sources":
            self._receive_sources(json.loads(zlib.decompress(body).decode("utf-8")))
        elif op == "account":
            if header["acct"] not in self._runners:
                self._start_account(header)
        elif op == "secret":
            runner = self._runners.get(header["acct"])
            if runner is not None and runner.on_secret:
                runner.on_secret(header, body)
        elif op in ("drop", "overdue"):
            runner = self._runners.get(header["acct"])
            if runner is not None and header.get("tell"):
                runner.on_exited = lambda: self._report_exited(runner.account)
            elif header.get("tell"):
                self._report_exited(header["acct"])
            if runner is not None:
                runner.close()
        else:
            account = header.pop("acct", 0)
            runner = self._runners.get(account)
            if op in REQUEST_OPS and runner is not None:
                self.session.mark_stale(header)
                runner.stale_scope = header.get("stale", (runner.stale_scope,))[0]
            if any(header.get("id") == waiting["id"] for waiting, _ in self._waiting_for_blobs):
                # Follows a request that waits, so it waits behind it.
                self._waiting_for_blobs.append((dict(header, acct=account), body))
            elif runner is not None and header.pop("if_python", self._boot_python) != self._boot_python:
                self.send({"op": "error", "id": header["id"], "kind": "python-mismatch", "msg": ""}, b"")
            elif runner is not None and "man" in header and not self._has_all(header["man"]):
                self._waiting_for_blobs.append((dict(header, acct=runner.account), body))
            elif runner is not None:
                runner.request(header, body)
            elif op not in framing.FOLLOWING:
                end = self._end_errors.get(account) or {"op": "error", "kind": "gone", "msg": ENDED_MESSAGE}
                self.send(dict(end, id=header.get("id")), b"")

    def _report_exited(self, account):
        self.send({"op": "left", "acct": account}, b"")

    def _receive_sources(self, sources):
        """More of our own files, for what this host has not needed so far."""
        for path, text in sources.items():
            self._own_files.store.blobs[path] = text.encode("utf-8")
            self._own_files.manifest[path] = path

    def _receive_blobs(self, header, body):
        if header.get("codec") == "xz":
            try:
                import lzma
            except ImportError:  # Python 2, or built without: ask for the other kind
                self.send({"op": "lack"}, b"")
                return
            data = lzma.decompress(body)
        else:
            data = zlib.decompress(body)
        listed, _, contents = data.partition(b"\n")
        self.blobs.update(framing.split_pieces(json.loads(listed.decode("ascii")), contents))
        waiting, self._waiting_for_blobs = self._waiting_for_blobs, []
        for frame in waiting:
            self._handle_safely(*frame)

    def _has_all(self, digest):
        if digest in self._complete_manifests:
            return True
        blobs = self.blobs
        if digest not in blobs or not all(name in blobs for name in json.loads(blobs[digest].decode("utf-8")).values()):
            return False
        self._complete_manifests.add(digest)
        return True

    def remove_runner(self, runner, end):
        """A runner is over; requests that were on their way to it are told how it ended."""
        if self._runners.get(runner.account) is runner:
            del self._runners[runner.account]
            self._end_errors[runner.account] = end

    # Starting further runners
    def receive_bytecode(self, header, body):
        """What the login account's runner has compiled."""
        self.bytecode_tag, self._bundle = header["tag"], None
        for own, name, path, code in framing.split_pieces(header["codes"], body):
            if own:
                self._own_bytecode[name] = base64.b64encode(code).decode("ascii")
            elif name in self.blobs:
                self.bytecode[name] = (name, path, code)

    def bundle(self):
        """The bytes that make a fresh interpreter a runner, behind their number."""
        if self._bundle is None:
            wanted = dict((path, text) for path, text in self._files.items() if not path.startswith(AGENT_FILES))
            parts = {"role": "runner", "files": wanted, "spares": self._prefork}
            parts.update(tag=self.bytecode_tag, codes=self._own_bytecode)
            data = zlib.compress(json.dumps(parts).encode("ascii"), 0)
            self._bundle = ("%010d" % len(data)).encode("ascii") + data
        return self._bundle

    def _start_account(self, header):
        runner = self._runners[header["acct"]] = RunnerProxy(self, header["acct"])
        own = sys.argv[3].encode("utf-8")
        argv = [framing.from_wire(arg) for arg in header["python"]] or [own]
        if header.get("plan") and not header["python"]:
            from pmitogen.become import interpreter

            argv = [interpreter.choose(own, framing.to_wire(own) in header.get("named", ()))]
        env = dict((framing.from_wire(name), framing.from_wire(value)) for name, value in header.get("env", {}).items())
        command = argv + [b"-c", self._stage0, header["token"].encode("ascii"), b"0"]
        runner.start_info = {"python": framing.to_wire(argv[0]), "users": [self._user]}
        if self._prefork and argv == [own] and 0 in self._runners:
            self._runners[0].request({"op": "codes"}, b"")
        try:
            if header.get("plan"):
                from pmitogen.target.agent import escalated_start

                escalated_start.start(self, runner, header, command, env)
            else:
                start_plain(self, runner, command, env, header["token"])
        except (IOError, OSError) as exc:
            name = framing.to_wire(argv[0])
            message = "%s: %s" % (name, "no such interpreter" if exc.errno == errno.ENOENT else exc.strerror)
            self.loop.defer(lambda: runner.fail("python", message))


def account_name():
    """Who we are."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # an account without an entry
        return str(os.geteuid())


class PlainStart(object):
    """Wait for a new interpreter's marker, and hand it its bundle."""

    def __init__(self, agent, runner, fd, marker):
        self._runner, self._marker, self._bundle = runner, marker, agent.bundle()
        self._buf = b""
        self._peer = event_loop.Peer(agent.loop, fd, fd, self._on_data, self._on_end)

    def _on_data(self, data):
        self._buf += data
        if self._marker + b"\n" in self._buf:
            self._runner.on_ready(self._peer, self._bundle)
        elif len(self._buf) > MAX_START_OUTPUT:
            self._peer.close()

    def _on_end(self):
        last_output = self._buf[-200:].decode("utf-8", "replace").strip()
        self._runner.reap()
        self._runner.fail("python", START_FAILED_MESSAGE + (": " + last_output if last_output else ""))


def start_plain(agent, runner, command, env, token):
    """Start another interpreter of the login account, over a socket pair. Raises OSError."""
    import subprocess  # not at the top: that is two milliseconds, and most hosts have one interpreter

    ours, theirs = socket.socketpair()
    state = login_state.read()
    environ = dict(state.environ if state else os.environ if str is bytes else os.environb)
    environ.update(env)
    start_state.set_safe_path(environ)
    try:
        process = subprocess.Popen(
            command,
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            env=environ,
            close_fds=True,
            preexec_fn=state and state.apply,
        )
        fd = os.dup(ours.fileno())
    finally:
        ours.close()
        theirs.close()
    runner.pid = process.pid
    runner.process = process  # or its finalizer complains of a child still running
    PlainStart(agent, runner, fd, ("PMITOGEN-%s ready" % token).encode("ascii"))


def main(bundle, in_fd, out_fd, sock):
    """Serve until the hub goes away. Does not return."""
    Agent(bundle, in_fd, out_fd, sock).run()
    os._exit(0)
