"""A Mitogen router that answers nothing and forwards nothing.

Mitogen's own master serves modules, allocates contexts, and accepts routes and logs from its children. None of that is needed
here, and a target may be hostile. So this is the *core* router with its one handler removed and only two handles added, on which
a host's frames arrive. The stream has already checked every message's header (protocol/mitogen_messages.py); the core checks
source and authority once more. No message is forwarded from one host to another: the routing table is used for messages of the
hub only.

Messages are parsed as frames (bounded, JSON); nothing is unpickled.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import mitogen.core
import mitogen.parent

from pmitogen.errors import Error
from pmitogen.hub.fair_shares import Turns
from pmitogen.protocol.framing import MAX_BODY, MAX_HEADER, TO_AGENT_PACKED, TO_AGENT_UNPACKED, TO_HUB_PACKED, TO_HUB_UNPACKED
from pmitogen.util import threads
from pmitogen.util.overrides import require_methods
from pmitogen.util.worker_threads import WorkerThreads

if TYPE_CHECKING:
    from pmitogen.hub.mitogen_stream import MitogenChannelStream

LOG = logging.getLogger("pmitogen.hub")

OnMessage = Callable[[int, bytes, bool], None]
"""Called with (context ID, data, whether the data is packed), on the I/O thread."""


class Router(mitogen.core.Router):  # type: ignore[misc]
    """A router that delivers frames of agents and does nothing else."""

    unidirectional = True
    max_message_size = MAX_HEADER + MAX_BODY + 64

    def __init__(self, broker: Broker, on_message: OnMessage) -> None:
        super().__init__(broker)
        self.writers = WorkerThreads("pmitogen write")
        self.host_threads = WorkerThreads("pmitogen host")  # for logins, starting Python, and closing connections
        mitogen.core.listen(broker, "shutdown", self.writers.close)
        mitogen.core.listen(broker, "shutdown", self.host_threads.close)
        self.del_handler(mitogen.core.DEL_ROUTE)
        self._numbers = itertools.count(1)
        for handle, packed in ((TO_HUB_UNPACKED, False), (TO_HUB_PACKED, True)):
            self.add_handler(self._handler(on_message, packed), handle)

    @staticmethod
    def _handler(on_message: OnMessage, packed: bool) -> Callable[[mitogen.core.Message], None]:
        def handle(msg: mitogen.core.Message) -> None:
            if not msg.is_dead:
                on_message(msg.src_id, msg.data, packed)

        return handle

    def new_context_id(self) -> int:
        """Return a number for a host's context. Any thread."""
        return next(self._numbers)

    def register_stream(self, context_id: int, stream: MitogenChannelStream) -> None:
        """Route messages between the hub and the host behind *stream*. I/O thread."""
        with self._write_lock:
            self._stream_by_id[context_id] = stream
        mitogen.core.listen(stream, "disconnect", lambda: self._drop(context_id, stream))

    def _drop(self, context_id: int, stream: MitogenChannelStream) -> None:
        with self._write_lock:
            if self._stream_by_id.get(context_id) is stream:
                del self._stream_by_id[context_id]

    def _async_route(self, msg: mitogen.core.Message, in_stream: MitogenChannelStream | None = None) -> None:
        """Drop a message for another context, and log it. The peer gets no answer."""
        if in_stream is not None and in_stream.has_ended:
            return  # it was read together with the message that ended this host
        if in_stream is not None and msg.dst_id != mitogen.context_id:
            LOG.warning("refused a message for context %d", msg.dst_id, extra={"host": in_stream.name})
            return
        super()._async_route(msg, in_stream)

    def send(self, stream: MitogenChannelStream, context_id: int, data: bytes, packed: bool) -> None:
        """Send one message to a host's agent. I/O thread."""
        handle = TO_AGENT_PACKED if packed else TO_AGENT_UNPACKED
        stream.protocol._send(mitogen.core.Message(dst_id=context_id, handle=handle, data=data))


class Broker(mitogen.core.Broker):  # type: ignore[misc]
    """The I/O loop, in a thread of its own, with the poller and timers of Mitogen's master but without its imports.

    Raises ConnectError if no thread can be started.
    """

    shutdown_timeout = 5.0  # seconds
    poller_class = mitogen.parent.PREFERRED_POLLER

    def __init__(self) -> None:
        self.turns = Turns()
        try:
            with threads.starting():
                super().__init__()
        except Error:
            self._waker.receive_side.close()
            self._waker.transmit_side.close()
            raise
        self.timers = mitogen.parent.TimerList()
        mitogen.core.listen(self, "exit", self._forget_thread)

    def _forget_thread(self) -> None:
        """Refuse deferred work from now on. Mitogen would do it at once on a later thread that has the number of the loop's."""
        self._waker.protocol.broker_ident = None

    def _loop_once(self, timeout: float | None = None) -> None:
        """Run one turn. See hub/fair_shares.py."""
        super()._loop_once(0 if self.turns.begin() else timeout)


require_methods(mitogen.core.Router, "_async_route(self, msg, in_stream)")
require_methods(mitogen.core.Broker, "_loop_once(self, timeout)")
