"""The dict types of requests and answers in the hub have the same fields and types as the tables."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest

from pmitogen.hub.daemon import server
from pmitogen.protocol import messages_from_agent, messages_from_client, messages_to_client, requests
from pmitogen.protocol.answers import REQUESTS
from pmitogen.protocol.operations import FOLLOWING


def fields(message: Any, module: Any) -> dict[str, Any]:
    """Return name -> type of each field of a TypedDict, without the operation."""
    hints = get_type_hints(message, vars(module))
    return {name: hint for name, hint in hints.items() if name != "op"}


def messages_of(table: Any, operations: Any) -> list[Any]:
    return [row.message for row in table.rows.values() if row.op in operations]


def test_requests_have_the_fields_of_the_table() -> None:
    ours = fields(requests.ClientRequest, requests)
    theirs: dict[str, Any] = {}
    for message in messages_of(messages_from_client.TABLE, {*REQUESTS, "preconnect"}):
        theirs.update(fields(message, messages_from_client))
    theirs["action"] = str
    theirs["become"], theirs["profile"] = requests.BecomeRequest | None, object
    assert ours == theirs


def test_follow_ups_have_the_fields_of_the_table() -> None:
    ours = fields(requests.FollowUp, requests)
    for message in messages_of(messages_from_client.TABLE, FOLLOWING):
        for name, hint in fields(message, messages_from_client).items():
            assert ours[name] == hint, (message, name)


@pytest.mark.parametrize(
    "message",
    [
        messages_from_agent.Out,
        messages_from_agent.Credit,
        messages_from_agent.Exit,
        messages_from_agent.Ok,
        messages_from_agent.Error,
    ],
    ids=lambda each: each.__name__,
)
def test_answers_of_agents_have_the_fields_of_the_table(message: Any) -> None:
    ours, theirs = fields(messages_to_client.Answer, messages_to_client), fields(message, messages_from_agent)
    assert theirs.keys() <= ours.keys()
    plain = {name: hint for name, hint in theirs.items() if name not in ("stream", "kind")}
    assert {name: ours[name] for name in plain} == plain


def test_each_row_is_in_a_union() -> None:
    """mypy distinguishes the messages of an agent by their operations, so none may be missing."""
    assert set(messages_from_agent.FromAgent.__args__) == {row.message for row in messages_from_agent.TABLE.rows.values()}


def test_each_message_of_a_client_has_a_handler() -> None:
    others = {row.op for row in messages_from_client.TABLE.rows.values()} - {*REQUESTS, *FOLLOWING, "hello"}
    assert "preconnect" in others
    assert not [op for op in sorted(others) if not hasattr(server.WorkerSession, f"_on_{op}")]
