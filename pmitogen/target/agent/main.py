"""The agent: forwards frames between the hub and the runners of one host's accounts.

It is a Mitogen context with the number that it was given, and runs on one thread that never blocks (event_loop.py): each runner
is a peer, and each frame is forwarded as it arrives. It stores the host's blobs, so that each crosses the network once for all
accounts, and sends a runner the blobs that a request needs immediately before the request.

Frames are sent inside Mitogen's messages. Small ones are packed in one zlib stream per direction and connection, which reduces
repeated requests to a few dozen bytes; large ones, and those compressed already, are sent as they are. In the hub's frames,
``account`` is the number of an account. Frames for the agent itself are ``start-account``, ``end-account`` and
``account-timeout`` (which end it; with ``notify``, the agent sends ``account-ended`` when its processes are gone), ``secret``,
``sources`` and ``blobs``.

Before it forwards a request, it checks whether a new session of the login would differ from its own (see freshness.py), and
marks the request if so. If the file of accounts has changed, it sends ``accounts-changed`` before the answer to the
task that changed it.

It sends no requests and imports nothing over the network. It has handled passwords, so it is a process of its own: modules run
in forks of other processes.
"""

import json
import os
import sys
import zlib

from pmitogen.protocol import framing
from pmitogen.protocol.framing import TO_HUB_PACKED, TO_HUB_UNPACKED
from pmitogen.target import freshness, sources
from pmitogen.target.agent.account_start import AccountStarter
from pmitogen.target.agent.event_loop import Loop, Peer
from pmitogen.target.agent.hub_connection import HubConnection
from pmitogen.target.agent.runner_proxy import ENDED_MESSAGE, RunnerProxy
from pmitogen.target.agent.chains import Chains

MYPY = False
if MYPY:
    from typing import Dict, List, Optional, Set  # noqa: F401
    from pmitogen.target.types import Bundle, Bytecode, Frame, Header  # noqa: F401

CONNECTION_WATCH_DELAY = 0.02  # seconds after the start
REQUEST_OPS = ("run", "exec", "put", "get", "fs")
FINAL_OPS = ("exit", "ok", "error")


class Agent(object):
    """See the module's docstring. *sock* is connected to the login account's runner."""

    def __init__(self, bundle, in_fd, out_fd, sock):
        # type: (Bundle, int, int, int) -> None
        self.loop = Loop()
        self._hub = HubConnection(self.loop, in_fd, out_fd, self._on_message, self._on_shutdown)
        self.hub_peer = self._hub.peer
        self.blobs = {}  # type: Dict[str, bytes]
        self.bytecode_tag = None  # type: Optional[str] # of the interpreter that has compiled the bytecode
        self.bytecode = {}  # type: Dict[str, Bytecode] # by hash
        self._complete_manifests = set()  # type: Set[str] # all their blobs are here
        self._waiting_for_blobs = []  # type: List[Frame] # requests whose blobs have not arrived
        self._chains = Chains()
        self._runners = {}  # type: Dict[int, RunnerProxy]
        self._end_errors = {}  # type: Dict[int, Header] # account -> the error that ended its runner
        self._unpack = framing.new_decompressor()
        self._pack = framing.new_compressor()
        self._own_files = bundle["own"]
        self._boot_python = framing.to_wire(sys.argv[3])
        user = sources.account_name()
        self.starter = AccountStarter(self, bundle, user)
        self.session = freshness.LoginSession(user)
        self.loop.call_later(CONNECTION_WATCH_DELAY, self.session.watch_connection)
        first = self._runners[0] = RunnerProxy(self, 0)
        first.on_ready(Peer(self.loop, sock, sock, lambda data: None, lambda: None))

    def run(self):
        # type: () -> None
        """Serve until the hub is gone."""
        while not self.hub_peer.ended:
            self.loop.run_once()

    def _on_shutdown(self):
        # type: () -> None
        for runner in list(self._runners.values()):
            runner.close()

    def send(self, header, body=b""):
        # type: (Header, bytes) -> None
        """Send one frame to the hub. Raises FrameError if its header is larger than the hub accepts."""
        data, handle = framing.encode_frame(header, body), TO_HUB_UNPACKED
        if len(data) - len(body) > framing.TARGET_HEADER:
            raise framing.FrameError
        if len(body) < framing.COMPRESS_BELOW:
            data = self._pack.compress(data) + self._pack.flush(zlib.Z_SYNC_FLUSH)
            handle = TO_HUB_PACKED
        self._hub.send(handle, data)
        if header["op"] in FINAL_OPS:
            self._after_answer(header)

    def _after_answer(self, header):
        # type: (Header) -> None
        """Begin the request whose turn it is after an answer, or refuse all of its chain if the answer is that refusal."""
        for refusal in self._chains.refuse_following(header) if header.get("kind") == "stale" else ():
            self.send(refusal)
        following = self._chains.next_after(header["id"])
        if following is not None:
            frame = following
            self.loop.defer(lambda: self._handle_safely(*frame))

    # Frames from the hub
    def _on_message(self, data, packed):
        # type: (bytes, bool) -> None
        if packed:
            data = self._unpack.decompress(data)
        for header, body in framing.FrameReader().feed(data):
            self._handle_safely(header, body)

    def _handle_safely(self, header, body):
        # type: (Header, bytes) -> None
        try:
            self._on_frame(header, body)
        except Exception as exc:  # an error in this code fails one request only
            sys.excepthook(*sys.exc_info())
            self._report_failure(header, "internal error: %s" % type(exc).__name__)

    def _report_failure(self, header, message):
        # type: (Header, str) -> None
        runner = self._runners.get(header["account"]) if header["op"] == "start-account" else None
        if runner is not None:
            runner.fail("python", message)
        elif "id" in header:
            self.send({"op": "error", "id": header["id"], "msg": message})

    def _on_frame(self, header, body):
        # type: (Header, bytes) -> None
        op = header["op"]
        if op == "blobs":
            self._receive_blobs(header, body)
        elif op == "sources":
            self._receive_sources(json.loads(zlib.decompress(body).decode("utf-8")))
        elif op == "start-account":
            if header["account"] not in self._runners:
                runner = self._runners[header["account"]] = RunnerProxy(self, header["account"])
                self.starter.start(runner, header)
        elif op == "secret":
            proxy = self._runners.get(header["account"])
            if proxy is not None and proxy.on_secret:
                proxy.on_secret(header, body)
        elif op in ("end-account", "account-timeout"):
            self._end_account(header["account"], header.get("notify", False))
        elif op == "kill" and self._chains.cancel(header["id"]):
            self.send({"op": "error", "id": header["id"], "msg": "cancelled"})
        elif header.pop("in_turn", False):
            self._on_request_in_turn(header, body)
        else:
            self._on_request(header, body)

    def _on_request_in_turn(self, header, body):
        # type: (Header, bytes) -> None
        refusal = self._chains.refusal(header)
        if refusal is not None:
            self.send(refusal)
        elif not self._chains.hold(header, body):
            self._on_request(header, body)

    def _end_account(self, account, notify):
        # type: (int, bool) -> None
        """End a runner; with *notify*, send ``account-ended`` when its processes are gone."""
        runner = self._runners.get(account)
        if runner is None:
            if notify:
                self._report_exited(account)
            return
        if notify:
            runner.on_exited = lambda: self._report_exited(account)
        runner.close()

    def _report_exited(self, account):
        # type: (int) -> None
        self.send({"op": "account-ended", "account": account})

    def _on_request(self, header, body):
        # type: (Header, bytes) -> None
        """Forward a request, or a frame that follows one, to the runner of its account."""
        op, account = header["op"], header.pop("account", 0)
        runner = self._runners.get(account)
        if op in REQUEST_OPS and runner is not None:
            self.session.mark_stale(header)
            runner.stale_scope = header.get("stale", (runner.stale_scope,))[0]
        if any(header.get("id") == waiting["id"] for waiting, _ in self._waiting_for_blobs):
            # It follows a request that waits, so it waits too.
            self._waiting_for_blobs.append((dict(header, account=account), body))
        elif runner is not None and header.pop("if_python", self._boot_python) != self._boot_python:
            self.send({"op": "error", "id": header["id"], "kind": "python-mismatch", "msg": ""})
        elif runner is not None and "manifest" in header and not self._has_all_blobs(header["manifest"]):
            self._waiting_for_blobs.append((dict(header, account=account), body))
        elif runner is not None:
            runner.request(header, body)
        elif op not in framing.FOLLOWING:
            end = self._end_errors.get(account) or {"op": "error", "kind": "interpreter-ended", "msg": ENDED_MESSAGE}
            self.send(dict(end, id=header.get("id")))

    def _receive_sources(self, sources):
        # type: (Dict[str, str]) -> None
        """Add files of pmitogen that this host has not needed so far."""
        for path, text in sources.items():
            self._own_files.store.blobs[path] = text.encode("utf-8")
            self._own_files.manifest[path] = path

    def _receive_blobs(self, header, body):
        # type: (Header, bytes) -> None
        if header.get("codec") == "xz":
            try:
                import lzma
            except ImportError:  # Python 2, or built without it: the hub resends them with the other codec
                self.send({"op": "codec-unsupported"})
                return
            data = lzma.decompress(body)
        else:
            data = zlib.decompress(body)
        listed, _, contents = data.partition(b"\n")
        self.blobs.update(framing.split_pieces(json.loads(listed.decode("ascii")), contents))
        waiting, self._waiting_for_blobs = self._waiting_for_blobs, []
        for frame in waiting:
            self._handle_safely(*frame)

    def _has_all_blobs(self, digest):
        # type: (str) -> bool
        """Return True if a manifest and all its blobs have arrived."""
        if digest in self._complete_manifests:
            return True
        blobs = self.blobs
        if digest not in blobs or not all(name in blobs for name in json.loads(blobs[digest].decode("utf-8")).values()):
            return False
        self._complete_manifests.add(digest)
        return True

    # For the runners
    def request_bytecode(self):
        # type: () -> None
        """Ask the login account's runner for the bytecode that it has compiled."""
        if 0 in self._runners:
            self._runners[0].request({"op": "bytecode"}, b"")

    def receive_bytecode(self, header, body):
        # type: (Header, bytes) -> None
        """Store the bytecode of the login account's runner."""
        self.bytecode_tag = header["bytecode_tag"]
        for own, name, path, code in framing.split_pieces(header["bytecode"], body):
            if own:
                self.starter.add_bytecode(header["bytecode_tag"], name, code)
            elif name in self.blobs:
                self.bytecode[name] = (name, path, code)

    def remove_runner(self, runner, end):
        # type: (RunnerProxy, Header) -> None
        """Remove a runner that has ended. *end* is the answer to requests that are on their way to it."""
        if self._runners.get(runner.account) is runner:
            del self._runners[runner.account]
            self._end_errors[runner.account] = end


def main(bundle, in_fd, out_fd, sock):
    # type: (Bundle, int, int, int) -> None
    """Serve until the hub is gone. Does not return."""
    Agent(bundle, in_fd, out_fd, sock).run()
    os._exit(0)
