"""Requests of modules that are sent before earlier ones have ended: the target runs them one after another without a pause.

Ansible runs a module by one call that returns its result, so each module that is sent ahead takes two calls. In the first, the
connection sends the payload and returns a placeholder. In the second, it returns the module's real result. Ansible builds each
payload, and reads each result, exactly as it does for any task.

A payload is sent ahead only if one with the same archive has run before on this connection: the interpreter is up then, and the
module needs no other way to run. Any other request waits until everything that was sent ahead has ended.
"""

from __future__ import annotations

import collections
import contextlib
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleError

from pmitogen import toggles
from pmitogen.ansible.errors import ansible_error
from pmitogen.ansible.hub_session import SENT_AHEAD, HubSession
from pmitogen.errors import Error
from pmitogen.hub import client as hub
from pmitogen.protocol.exchange import Exchange
from pmitogen.protocol.exchange import Result as FinalFrame

if TYPE_CHECKING:
    from pmitogen.protocol.messages_to_client import Answer
    from pmitogen.protocol.requests import ClientRequest

MAX_OPEN = 256  # requests sent ahead that have no answer yet
MAX_OPEN_BYTES = 1 << 20  # of their parameters
MAX_BODY = 64 << 10  # bytes of parameters of one request
Streams = tuple[list[bytes], list[bytes]]
Result = dict[str, Any]


class SharedConnection:
    """The part of a worker's connection to the hub that one of several exchanges sees: the frames of its own request."""

    is_paused = False  # where the hub takes no data, sending blocks

    def __init__(self, client: hub.Client, request_id: int, connections: Connections) -> None:
        self._client, self._connections = client, connections
        self._frames: collections.deque[tuple[Answer, bytes]] = collections.deque()
        connections[request_id] = self

    def send(self, header: Mapping[str, object], body: bytes = b"") -> None:
        """Send one frame. Raises HubError."""
        self._client.send(header, body)

    def receive(self, timeout: float | None = None) -> tuple[Answer, bytes]:
        """Wait for a frame of this exchange; those of others stay until they are asked for. Raises HubError, TimeoutError."""
        while not self._frames:
            header, body = self._client.receive(timeout)
            connection = self._connections.get(header.get("id", 0))
            if connection is not None:
                connection._frames.append((header, body))
        return self._frames.popleft()


Connections = weakref.WeakValueDictionary[int, SharedConnection]  # by the number of the request; it ends with its exchange


class Sent:
    """A module request that was sent ahead."""

    def __init__(self, exchange: Exchange, size: int) -> None:
        self.size = size
        self._exchange: Exchange | None = exchange
        self._streamed: Streams = ([], [])
        self._answer: FinalFrame | Error | None = None

    def wait(self) -> None:
        """Wait until it has ended, and keep its answer."""
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            try:
                self._answer = exchange.result(lambda stream, data: self._streamed[stream - 1].append(data))
            except Error as exc:
                self._answer = exc

    def take(self, streamed: Streams) -> FinalFrame:
        """Return its final frame with its body, and add output that came before to *streamed*. Raises AnsibleError."""
        self.wait()
        assert self._answer is not None
        if isinstance(self._answer, Error):
            raise ansible_error(self._answer) from None
        for gathered, data in zip(streamed, self._streamed, strict=True):
            gathered.extend(data)
        return self._answer

    def cancel(self) -> None:
        """End it. Raises HubError."""
        if self._exchange is not None:
            self._exchange.cancel()


@contextlib.contextmanager
def requests_in_turn(session: HubSession) -> Iterator[RequestsInTurn]:
    """Let modules be sent ahead over *session*. Modules that have not ended when the context is left are cancelled."""
    session.in_turn = requests = RequestsInTurn(session)
    try:
        yield requests
    finally:
        session.in_turn = None
        requests.cancel()


class RequestsInTurn:
    """Replaces a connection's session for the requests of modules, while it is open. Not thread-safe."""

    def __init__(self, session: HubSession) -> None:
        self._session = session
        self._known: set[str] = set()  # archives of payloads that have run
        self._open: collections.deque[Sent] = collections.deque()
        self._connections: Connections = weakref.WeakValueDictionary()
        self._is_sending = False
        self._sent: Sent | None = None  # by the call under way
        self._answering: Sent | None = None  # gives the call under way its result

    def cancel(self) -> None:
        """Cancel all open requests."""
        for sent in self._open:
            try:
                sent.cancel()
            except Error:  # the hub is gone, and with it every request
                break
        self._open.clear()

    @property
    def is_full(self) -> bool:
        """True if an answer must be taken before anything further is sent."""
        return len(self._open) >= MAX_OPEN or sum(sent.size for sent in self._open) >= MAX_OPEN_BYTES

    def send(self, run: Callable[[], Result]) -> Sent | Result:
        """Call *run*, which runs one module. Return the request that was sent ahead, or the result if the module has run."""
        self._is_sending, self._sent = True, None
        try:
            result = run()
        finally:
            self._is_sending = False
        return result if self._sent is None else self._sent

    def answer(self, sent: Sent, run: Callable[[], Result]) -> Result:
        """Call *run* once more, for the result of the module that was sent ahead."""
        self._answering = sent
        try:
            return run()
        finally:
            self._answering = None
            if sent in self._open:
                self._open.remove(sent)

    def request(
        self, header: ClientRequest, body: bytes, archive: bytes | memoryview, *, become: bool, streamed: Streams
    ) -> FinalFrame:
        """Make a request of the connection that ends with a process's exit. Raises AnsibleError."""
        if header["op"] != "run":
            return self._session.request(header, body, archive, become=become, streamed=streamed)
        if self._answering is not None:
            sent, self._answering = self._answering, None
            return sent.take(streamed)
        is_ahead = self._is_sending and header["archive"] in self._known and len(body) <= MAX_BODY
        if is_ahead and toggles.request_pipelining_enabled():
            exchange = self._session.send({**header, "in_turn": True}, body, archive, become=become, connection=self._connection)
            self._sent = Sent(exchange, len(body))
            self._open.append(self._sent)
            return SENT_AHEAD
        answer = self._session.request(header, body, archive, become=become, streamed=streamed)
        self._known.add(header["archive"])
        return answer

    def _connection(self, client: hub.Client, request_id: int) -> SharedConnection:
        return SharedConnection(client, request_id, self._connections)

    def finish_open(self) -> None:
        """Wait for the end of all modules sent ahead, because a request follows that has no turn."""
        if self._answering is not None:
            raise AnsibleError("the module has run, but another request came in place of the one for its result")
        for sent in self._open:
            sent.wait()
