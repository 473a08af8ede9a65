"""The messages that the hub's router accepts: pmitogen/hub/mitogen_router.py.

tests/hostile/test_frames_from_targets.py has the attempts of a hostile target.
"""

from __future__ import annotations

import threading
import types
from queue import SimpleQueue
from typing import Any

import mitogen.core
import pytest

from pmitogen.hub.mitogen_router import TO_HUB_UNPACKED, Broker, Router
from pmitogen.hub.scheduler import Scheduler


def test_messages_after_the_end_of_a_stream_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    """One read may contain more than the message that ends the host."""
    broker = Broker()
    try:
        seen: list[Any] = []
        router = Router(broker, lambda context_id, data, packed: seen.append(data))
        context_id = router.new_context_id()
        stream = types.SimpleNamespace(name="host", has_ended=False, protocol=mitogen.core.MitogenProtocol(router, context_id))
        router.register_stream(context_id, stream)

        def arrives(data: bytes) -> None:
            message = mitogen.core.Message(dst_id=0, src_id=context_id, auth_id=context_id, handle=TO_HUB_UNPACKED, data=data)
            router._async_route(message, stream)

        arrives(b"first")
        stream.has_ended = True
        mitogen.core.fire(stream, "disconnect")
        arrives(b"second")
        assert seen == [b"first"]
        assert not caplog.records, caplog.text
    finally:
        broker.shutdown()
        broker.join()


def test_deferred_work_is_refused_after_the_end_of_the_loop() -> None:
    broker, loops = Broker(), SimpleQueue[int]()
    scheduler, done = Scheduler(broker), SimpleQueue[int]()
    assert scheduler.defer(lambda: loops.put(threading.get_ident()))
    number = loops.get(timeout=10)
    broker.shutdown()
    broker.join()
    refused = []

    def work() -> None:
        if threading.get_ident() == number:
            refused.append(not scheduler.defer(done.put, 1))

    for _ in range(200):  # the system reuses the id of an ended thread
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert refused and all(refused) and done.empty()
