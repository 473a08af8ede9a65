"""The hub's one correspondent on a host: a switch between its channel and the runners of the host's accounts.

It speaks Mitogen's protocol to the hub, as the context whose number it was given, and runs on one thread that never blocks
(loop.py): every runner is a line, every frame is forwarded as it comes. It keeps the host's blobs, so that each crosses the
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
from pmitogen.target import event_loop, freshness, login_state, start_state

MESSAGE = struct.Struct(">hLLLLLL")  # kind, destination, source, authority, handle, handle for a reply, size of the data
KIND = 0x4D49
MAX_MESSAGE = 80 << 20  # bytes: above the largest frame
HUB = 0  # its number as a context
GONE = "the interpreter of this account has ended"
MISBEHAVED = "the interpreter of this account broke the protocol and was ended"
NOT_STARTED = "the interpreter of this account did not start"
OWN_FILES = ("pmitogen/target/agent.py", "pmitogen/target/event_loop.py")  # of no use to a runner
START_LIMIT = 64 << 10  # bytes of noise before a runner's marker
WATCH_AFTER = 0.02  # seconds after our start
REQUESTS = ("run", "exec", "put", "get", "fs")


class Hub(object):
    """Mitogen's protocol on the line to the hub. *on_message* is called with each message's data, and whether that is packed.

    See ``mitogen.core.Message``. A message for another context, or on a handle that is not ours, has no reader here.
    """

    def __init__(self, on_message):
        self.number = int(sys.argv[4])
        self.line = None
        self._on_message = on_message
        self._buf = bytearray()

    def send(self, handle, data):
        self.line.write(MESSAGE.pack(KIND, HUB, self.number, self.number, handle, 0, len(data)) + data)

    def on_data(self, data):
        self._buf += data
        buf, pos = self._buf, 0
        while len(buf) - pos >= MESSAGE.size:
            kind, destination, _, _, handle, _, size = MESSAGE.unpack_from(buf, pos)
            if kind != KIND or size > MAX_MESSAGE:
                self.line.close()
                return
            end = pos + MESSAGE.size + size
            if end > len(buf):
                break
            if destination == self.number and handle in (TO_AGENT_PLAIN, TO_AGENT_PACKED):
                self._on_message(bytes(buf[pos + MESSAGE.size : end]), handle == TO_AGENT_PACKED)
            pos = end
        del buf[:pos]


class Runner(object):
    """One runner, from the moment it is wanted: frames wait until it is up."""

    def __init__(self, agent, acct):
        self._agent = agent
        self.acct = acct
        self.pid = None
        self._queue = []
        self._line = None
        self._reader = framing.FrameReader(framing.TARGET_HEADER, framing.TARGET_BODY) if acct else framing.FrameReader()
        self._have = set()  # hashes that the runner holds
        self._manifests = set()
        self.open_ids = set()  # requests not yet answered
        self.release = None  # called once the runner is over, to let go of what carried it
        self.left = None  # called once the program that carried it is gone
        self.said = None  # called then, too: what it said last on its terminal, if it has one
        self.settle = None  # called with what is to be done once that is there
        self.on_secret = None  # called with the hub's answer to "ask", while its account is entered
        self._greeted = False  # whether it has said hello
        self._end = NOT_STARTED
        self.place = {}  # how it was started, for it to watch: see sources.py
        self.stale = "account"  # what is made anew if it refuses a request

    def up(self, line, first=b""):
        """The runner answers on *line*: *first* (its bundle, if it has none yet) and then all that has waited."""
        line.on_data, line.on_end = self._receive, self._on_gone
        line.ahead = self._agent.hub_line
        self._line = line
        if first:
            line.write(first + framing.encode_frame(dict(self.place, op="entered")))
        queue, self._queue = self._queue, None
        for header, body in queue:
            self._pass_on(header, body)

    def request(self, header, body):
        """Forward a request, and ahead of it the blobs that it needs."""
        if header["op"] not in ("data", "eof", "credit", "kill", "codes") and not header.get("quiet"):
            self.open_ids.add(header.get("id"))
        if self._queue is not None:
            self._queue.append((header, body))
        elif self._line is not None:
            self._pass_on(header, body)

    def _pass_on(self, header, body):
        if "man" in header:
            self._supply(header["man"])
        self._line.write(framing.encode_frame(header, body))

    def _supply(self, digest):
        if digest in self._manifests:
            return
        blobs = self._agent.blobs
        wanted = set(json.loads(blobs[digest].decode("utf-8")).values())
        wanted.add(digest)
        missing = sorted(wanted - self._have)
        header = {"op": "blobs", "blobs": [[name, len(blobs[name])] for name in missing]}
        pieces = [blobs[name] for name in missing]
        codes = [self._agent.codes[name] for name in missing if self.acct and name in self._agent.codes]
        if codes:
            header.update(tag=self._agent.tag, codes=[[name, path, len(code)] for name, path, code in codes])
            pieces += [code for _, _, code in codes]
        self._line.write(framing.encode_frame(header, b"".join(pieces)))
        self._have.update(missing)
        self._manifests.add(digest)

    def _receive(self, data):
        try:
            for header, body in self._reader.feed(data):
                self._on_frame(header, body)
        except Exception:  # another account's process may say anything
            self._end = MISBEHAVED
            self._line.close()

    def _on_frame(self, header, body):
        """Pass on what a runner may say: about itself, or about what it was asked. The hub checks the fields."""
        op, rid = header["op"], header.get("id")
        if op == "codes" and self.acct == 0:
            self._agent.take_codes(header, body)
            return
        answers = op in ("exit", "ok", "error", "out", "credit")
        if not (rid in self.open_ids if answers else op in ("hello", "late")) or not framing.is_plain(header):
            raise framing.FrameError
        header.pop("acct", None)
        if self.acct or op == "hello":
            header["acct"] = self.acct
        if header.get("kind") == "stale":
            header["why"] = self.stale  # only the agent says what of the login is not as it was
        elif op == "exit" and self._agent.session.accounts_changed():
            self._agent.send({"op": "changed"}, b"")
        self._agent.send(header, body)
        if op == "hello":
            self._greeted, self._end = True, GONE
        elif op in ("exit", "ok", "error"):
            self.open_ids.discard(rid)

    def fail(self, kind, message, why=None):
        """Answer everything that waits on this runner, and forget it."""
        end = {"op": "error", "kind": kind, "msg": message[: framing.MESSAGE_TEXT], "why": why}
        self._agent.forget(self, end)
        for rid in sorted(self.open_ids):
            self._agent.send(dict(end, id=rid), b"")
        self.open_ids.clear()
        self._queue = []

    def _on_gone(self):
        self.reap()
        # First of all: whoever is told of the end may ask for the account again before the hub reads on.
        self._agent.send({"op": "gone", "acct": self.acct}, b"")
        self._queue = []
        if self.settle:
            self.settle(self._tell_end)
        else:
            self._tell_end()

    def _tell_end(self):
        words = self.said() if self.said else ""
        if self.release:
            self.release()
        if self._greeted:
            self.fail("gone", self._end + words)
        else:
            self.fail("become" if self.said else "python", self._end + words, "python")

    def reap(self):
        if self.pid is not None:
            try:
                os.waitpid(self.pid, os.WNOHANG)
            except OSError:
                pass

    def close(self):
        """End the runner, or its start; it ends its children."""
        if self._line is not None:
            self._line.close()
        elif self.release:
            self.fail("become", "the account was given up")
            self.release()


class Agent(object):
    """See the head of this file. *sock* leads to the login account's runner."""

    def __init__(self, bundle, in_fd, out_fd, sock):
        self.loop = event_loop.Loop()
        self._hub = Hub(self.on_message)
        self.hub_line = self._hub.line = event_loop.Line(self.loop, in_fd, out_fd, self._hub.on_data, self._on_shutdown)
        self.blobs = {}
        self.tag = None  # of the interpreter that has compiled what is in
        self.codes = {}  # hash -> (hash, path, marshalled code)
        self._own_codes = {}  # the same for our own files, by path
        self._complete = set()  # manifests whose contents are all here
        self._parked = []  # requests whose contents are still to come
        self._runners = {}
        self._ends = {}  # account -> the error that ended its runner
        self._unpack = zlib.decompressobj()
        self._pack = zlib.compressobj(6)
        self._files = bundle["files"]
        self._own = bundle["own"]
        self._spares = bundle.get("spares", True)
        self._stage0 = bundle["stage0"].encode("ascii")
        self._bundle = None
        self._boot_python = framing.to_wire(sys.argv[3])
        self._user = user_name()
        self.session = freshness.Session(self._user)
        self.loop.later(WATCH_AFTER, self.session.watch_connection)
        first = self._runners[0] = Runner(self, 0)
        first.up(event_loop.Line(self.loop, sock, sock, None, None))

    def run(self):
        """Until the hub has gone."""
        while not self._hub.line.ended:
            self.loop.turn()

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
            self._see_to(header, body)

    def _see_to(self, header, body):
        try:
            self._on_frame(header, body)
        except Exception as exc:  # a fault of ours is one request's failure
            sys.excepthook(*sys.exc_info())
            self._failed(header, "internal error: %s" % type(exc).__name__)

    def _failed(self, header, message):
        runner = self._runners.get(header.get("acct")) if header["op"] == "account" else None
        if runner is not None:
            runner.fail("python", message)
        elif "id" in header:
            self.send({"op": "error", "id": header["id"], "msg": message}, b"")

    def _on_frame(self, header, body):
        op = header["op"]
        if op == "blobs":
            self._take_blobs(header, body)
        elif op == "sources":
            self._take_sources(json.loads(zlib.decompress(body).decode("utf-8")))
        elif op == "account":
            if header["acct"] not in self._runners:
                self._start(header)
        elif op == "secret":
            runner = self._runners.get(header["acct"])
            if runner is not None and runner.on_secret:
                runner.on_secret(header, body)
        elif op in ("drop", "overdue"):
            runner = self._runners.get(header["acct"])
            if runner is not None and header.get("tell"):
                runner.left = lambda: self._tell_left(runner.acct)
            elif header.get("tell"):
                self._tell_left(header["acct"])
            if runner is not None:
                runner.close()
        else:
            acct = header.pop("acct", 0)
            runner = self._runners.get(acct)
            if op in REQUESTS and runner is not None:
                self.session.mark(header)
                runner.stale = header.get("stale", (runner.stale,))[0]
            if any(header.get("id") == parked["id"] for parked, _ in self._parked):
                self._parked.append((dict(header, acct=acct), body))  # what follows a request that waits, waits behind it
            elif runner is not None and header.pop("if_python", self._boot_python) != self._boot_python:
                self.send({"op": "error", "id": header["id"], "kind": "python-mismatch", "msg": ""}, b"")
            elif runner is not None and "man" in header and not self._has_all(header["man"]):
                self._parked.append((dict(header, acct=runner.acct), body))
            elif runner is not None:
                runner.request(header, body)
            elif op not in ("data", "eof", "credit", "kill"):
                end = self._ends.get(acct) or {"op": "error", "kind": "gone", "msg": GONE}
                self.send(dict(end, id=header.get("id")), b"")

    def _tell_left(self, acct):
        self.send({"op": "left", "acct": acct}, b"")

    def _take_sources(self, sources):
        """More of our own files, for what this host has not needed so far."""
        for path, text in sources.items():
            self._own.store.blobs[path] = text.encode("utf-8")
            self._own.manifest[path] = path

    def _take_blobs(self, header, body):
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
        parked, self._parked = self._parked, []
        for frame in parked:
            self._see_to(*frame)

    def _has_all(self, digest):
        if digest in self._complete:
            return True
        blobs = self.blobs
        if digest not in blobs or not all(name in blobs for name in json.loads(blobs[digest].decode("utf-8")).values()):
            return False
        self._complete.add(digest)
        return True

    def forget(self, runner, end):
        """A runner is over; requests that were on their way to it are told how it ended."""
        if self._runners.get(runner.acct) is runner:
            del self._runners[runner.acct]
            self._ends[runner.acct] = end

    # Starting further runners
    def take_codes(self, header, body):
        """What the login account's runner has compiled."""
        self.tag, self._bundle = header["tag"], None
        for own, name, path, code in framing.split_pieces(header["codes"], body):
            if own:
                self._own_codes[name] = base64.b64encode(code).decode("ascii")
            elif name in self.blobs:
                self.codes[name] = (name, path, code)

    def bundle(self):
        """The bytes that make a fresh interpreter a runner, behind their number."""
        if self._bundle is None:
            wanted = dict((path, text) for path, text in self._files.items() if path not in OWN_FILES)
            parts = {"role": "runner", "files": wanted, "spares": self._spares, "tag": self.tag, "codes": self._own_codes}
            data = zlib.compress(json.dumps(parts).encode("ascii"), 0)
            self._bundle = ("%010d" % len(data)).encode("ascii") + data
        return self._bundle

    def _start(self, header):
        runner = self._runners[header["acct"]] = Runner(self, header["acct"])
        own = sys.argv[3].encode("utf-8")
        argv = [framing.from_wire(arg) for arg in header["python"]] or [own]
        if header.get("plan") and not header["python"]:
            from pmitogen.become import interpreter

            argv = [interpreter.choose(own, framing.to_wire(own) in header.get("named", ()))]
        env = dict((framing.from_wire(name), framing.from_wire(value)) for name, value in header.get("env", {}).items())
        command = argv + [b"-c", self._stage0, header["token"].encode("ascii"), b"0"]
        runner.place = {"python": framing.to_wire(argv[0]), "users": [self._user]}
        if self._spares and argv == [own] and 0 in self._runners:
            self._runners[0].request({"op": "codes"}, b"")
        try:
            if header.get("plan"):
                from pmitogen.target import escalated_start

                escalated_start.start(self, runner, header, command, env)
            else:
                start_plain(self, runner, command, env, header["token"])
        except (IOError, OSError) as exc:
            name = framing.to_wire(argv[0])
            message = "%s: %s" % (name, "no such interpreter" if exc.errno == errno.ENOENT else exc.strerror)
            self.loop.defer(lambda: runner.fail("python", message))


def user_name():
    """Who we are."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # an account without an entry
        return str(os.geteuid())


class Starting(object):
    """Wait for a new interpreter's marker, and hand it its bundle."""

    def __init__(self, agent, runner, fd, marker):
        self._runner, self._marker, self._bundle = runner, marker, agent.bundle()
        self._buf = b""
        self._line = event_loop.Line(agent.loop, fd, fd, self._on_data, self._on_end)

    def _on_data(self, data):
        self._buf += data
        if self._marker + b"\n" in self._buf:
            self._runner.up(self._line, self._bundle)
        elif len(self._buf) > START_LIMIT:
            self._line.close()

    def _on_end(self):
        said = self._buf[-200:].decode("utf-8", "replace").strip()
        self._runner.reap()
        self._runner.fail("python", NOT_STARTED + (": " + said if said else ""))


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
    Starting(agent, runner, fd, ("PMITOGEN-%s ready" % token).encode("ascii"))


def main(bundle, in_fd, out_fd, sock):
    """Serve until the hub goes away. Does not return."""
    Agent(bundle, in_fd, out_fd, sock).run()
    os._exit(0)
