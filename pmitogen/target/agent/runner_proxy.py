"""The agent's side of one runner: queues and forwards requests, checks and forwards answers, reports the end."""

import json
import os

from pmitogen.protocol import framing

MYPY = False
if MYPY:
    from typing import Callable, List, Optional, Set  # noqa: F401
    from pmitogen.target.agent.event_loop import Peer  # noqa: F401
    from pmitogen.target.agent.main import Agent  # noqa: F401
    from pmitogen.target.types import Frame, Header, StartInfo  # noqa: F401

ENDED_MESSAGE = "the interpreter of this account has ended"
PROTOCOL_ERROR_MESSAGE = "the interpreter of this account broke the protocol and was ended"
START_FAILED_MESSAGE = "the interpreter of this account did not start"


class RunnerProxy(object):
    """One runner, from the first request for its account to its end. Frames are queued until it is up.

    The code that starts the runner sets these attributes:

    ``pid``: of the process to collect; None if it is collected elsewhere.
    ``start_info``: how it was started, for the files that it watches (see sources.py).
    ``on_released``: called when the runner has ended, to close its descriptors.
    ``on_exited``: called when the program that carried it has exited.
    ``last_output``: returns the last output of its terminal, for a message.
    ``wait_for_output``: called with a function to call when that output is complete.
    ``on_secret``: called with the hub's answer to ``secret-request``, while its account is entered.
    """

    def __init__(self, agent, account):
        # type: (Agent, int) -> None
        self._agent = agent
        self.account = account
        self.pid = None  # type: Optional[int]
        self.process = None  # type: object
        self.start_info = {}  # type: StartInfo
        self.on_released = None  # type: Optional[Callable[[], object]]
        self.on_exited = None  # type: Optional[Callable[[], object]]
        self.last_output = None  # type: Optional[Callable[[], str]]
        self.wait_for_output = None  # type: Optional[Callable[[Callable[[], object]], object]]
        self.on_secret = None  # type: Optional[Callable[[Header, bytes], object]]
        self.open_requests = set()  # type: Set[int] # not yet answered
        self.stale_scope = "account"  # scope of the replacement if the runner refuses a request
        self._queue = []  # type: Optional[List[Frame]] # None once the runner is up
        self._peer = None  # type: Optional[Peer]
        self._reader = framing.FrameReader(framing.TARGET_HEADER, framing.TARGET_BODY) if account else framing.FrameReader()
        self._sent_blobs = set()  # type: Set[str] # hashes of the blobs that the runner has
        self._sent_manifests = set()  # type: Set[str]
        self._hello_seen = False
        self._end_message = START_FAILED_MESSAGE

    def on_ready(self, peer, first=b""):
        # type: (Peer, bytes) -> None
        """Send *first* (the bundle, if it has none yet) and the queued frames to the runner, which listens at *peer*."""
        peer.on_data, peer.on_end = self._receive, self._on_disconnect
        peer.forwards_to = self._agent.hub_peer
        self._peer = peer
        if first:
            peer.write(first + framing.encode_frame(dict(self.start_info, op="start-info")))
        queue, self._queue = self._queue or [], None
        for header, body in queue:
            self._forward(peer, header, body)

    def request(self, header, body):
        # type: (Header, bytes) -> None
        """Forward a frame, after the blobs that it needs."""
        if header["op"] not in framing.FOLLOWING + ("bytecode",) and not header.get("no_reply"):
            self.open_requests.add(header["id"])
        if self._queue is not None:
            self._queue.append((header, body))
        elif self._peer is not None:
            self._forward(self._peer, header, body)

    def _forward(self, peer, header, body):
        # type: (Peer, Header, bytes) -> None
        if "manifest" in header:
            self._send_missing_blobs(peer, header["manifest"])
        peer.write(framing.encode_frame(header, body))

    def _send_missing_blobs(self, peer, digest):
        # type: (Peer, str) -> None
        if digest in self._sent_manifests:
            return
        agent, blobs = self._agent, self._agent.blobs
        wanted = set(json.loads(blobs[digest].decode("utf-8")).values())
        wanted.add(digest)
        missing = sorted(wanted - self._sent_blobs)
        header = {"op": "blobs", "blobs": [[name, len(blobs[name])] for name in missing]}  # type: Header
        pieces = [blobs[name] for name in missing]
        bytecode = [agent.bytecode[name] for name in missing if self.account and name in agent.bytecode]
        if bytecode:
            header["bytecode_tag"] = agent.bytecode_tag
            header["bytecode"] = [[name, path, len(code)] for name, path, code in bytecode]
            pieces += [code for _, _, code in bytecode]
        peer.write(framing.encode_frame(header, b"".join(pieces)))
        self._sent_blobs.update(missing)
        self._sent_manifests.add(digest)

    def _receive(self, data):
        # type: (bytes) -> None
        try:
            for header, body in self._reader.feed(data):
                self._on_frame(header, body)
        except Exception:  # the process of another account may send anything
            self._end_message = PROTOCOL_ERROR_MESSAGE
            self.close()

    def _on_frame(self, header, body):
        # type: (Header, bytes) -> None
        """Forward a frame if it answers an open request or is about the runner itself. The hub checks the fields."""
        op, request_id = header["op"], header.get("id")
        if op == "bytecode" and self.account == 0:
            self._agent.receive_bytecode(header, body)
            return
        answers = op in ("exit", "ok", "error", "out", "credit")
        is_expected = request_id in self.open_requests if answers else op in ("hello", "deferred-error")
        if not is_expected or not framing.has_basic_values(header):
            raise framing.FrameError
        header.pop("account", None)
        if self.account or op == "hello":
            header["account"] = self.account
        if header.get("kind") == "stale":
            header["reason"] = self.stale_scope  # only the agent knows what of the login has changed
        elif op == "exit" and self._agent.session.accounts_changed():
            self._agent.send({"op": "accounts-changed"})
        self._agent.send(header, body)
        if op == "hello":
            self._hello_seen, self._end_message = True, ENDED_MESSAGE
        elif request_id is not None and op in ("exit", "ok", "error"):
            self.open_requests.discard(request_id)

    def fail(self, kind, message, reason=None):
        # type: (str, str, Optional[str]) -> None
        """Answer every open request with an error, and remove the runner."""
        end = {"op": "error", "kind": kind, "msg": message[: framing.MESSAGE_TEXT], "reason": reason}  # type: Header
        self._agent.remove_runner(self, end)
        for request_id in sorted(self.open_requests):
            self._agent.send(dict(end, id=request_id))
        self.open_requests.clear()
        self._queue = []

    def _on_disconnect(self):
        # type: () -> None
        self.reap()
        # Before the errors: a client that gets one may ask for the account again before the hub reads on.
        self._agent.send({"op": "interpreter-ended", "account": self.account})
        self._queue = []
        if self.wait_for_output:
            self.wait_for_output(self._report_end)
        else:
            self._report_end()

    def _report_end(self):
        # type: () -> None
        message = self._end_message + (self.last_output() if self.last_output else "")
        if self.on_released:
            self.on_released()
        if self._hello_seen:
            self.fail("interpreter-ended", message)
        else:
            self.fail("become" if self.last_output else "python", message, "python")

    def reap(self):
        # type: () -> None
        if self.pid is not None:
            try:
                os.waitpid(self.pid, os.WNOHANG)
            except OSError:
                pass

    def close(self):
        # type: () -> None
        """End the runner, or its start. A runner ends its children."""
        if self._peer is not None:
            self._peer.close()
        elif self.on_released:
            self.fail("become", "the account was given up")
            self.on_released()
