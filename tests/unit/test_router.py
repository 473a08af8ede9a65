"""What the hub's router lets through: pmitogen/hub/mitogen_router.py.

What a hostile target tries: hostile/test_frames_from_targets.py."""

from __future__ import annotations

import types
from typing import Any

import mitogen.core
import pytest

from pmitogen.hub.mitogen_router import TO_HUB_UNPACKED, Broker, Router


def test_what_is_read_after_the_end_is_nobodys(caplog: pytest.LogCaptureFixture) -> None:
    """One read may hold more than the message that makes us let go of a host."""
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
