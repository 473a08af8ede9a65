"""Requests that are sent ahead begin one after another in each chain."""

from __future__ import annotations

from typing import Any

from pmitogen.target.agent.chains import Chains


def _request(request_id: int, chain: int) -> dict[str, Any]:
    return {"op": "run", "id": request_id, "chain": chain}


def test_one_request_of_a_chain_runs_at_a_time() -> None:
    turns = Chains()
    assert not turns.hold(_request(1, 7), b"")
    assert turns.hold(_request(2, 7), b"two") and turns.hold(_request(3, 7), b"three")
    assert not turns.hold(_request(4, 8), b"")  # another chain
    assert turns.next_after(99) is None and turns.next_after(4) is None
    assert turns.next_after(1) == (_request(2, 7), b"two")
    assert turns.hold(_request(5, 7), b"")
    assert turns.next_after(1) is None
    following = turns.next_after(2)
    assert following and following[0]["id"] == 3
    following = turns.next_after(3)
    assert following and following[0]["id"] == 5
    assert turns.next_after(5) is None
    assert not turns.hold(_request(6, 7), b"")  # no earlier request is left


def test_a_waiting_request_can_be_cancelled() -> None:
    turns = Chains()
    for request_id in (1, 2, 3):
        turns.hold(_request(request_id, 7), b"")
    assert not turns.cancel(1) and turns.cancel(2) and not turns.cancel(2)
    following = turns.next_after(1)
    assert following and following[0]["id"] == 3


def test_requests_after_a_refused_one_are_refused() -> None:
    """Also later ones for the same account; the chain starts again with another account."""
    turns = Chains()
    for request_id in (1, 2, 3):
        turns.hold({**_request(request_id, 7), "account": 2}, b"")
    refused = {"op": "error", "kind": "stale", "reason": "account", "refused_count": 1, "account": 2, "msg": "x"}
    behind = turns.refuse_following({**refused, "id": 1})
    assert behind == [{**refused, "refused_count": 0, "id": 2}, {**refused, "refused_count": 0, "id": 3}]
    assert turns.next_after(1) is None and turns.refuse_following(behind[0]) == []
    assert turns.refusal({**_request(4, 7), "account": 2}) == {**refused, "refused_count": 0, "id": 4}
    assert turns.refusal({**_request(5, 7), "account": 3}) is None and turns.refusal({**_request(6, 8), "account": 2}) is None
    assert not turns.hold({**_request(5, 7), "account": 3}, b"")
