"""The states of a host: the possible events in each state, and that other events change nothing."""

from __future__ import annotations

import itertools
import logging

import pytest

from pmitogen.hub.host.host import Host
from pmitogen.hub.host.states import TRANSITIONS, Event, IllegalTransition, State, next_state
from pmitogen.hub.registry import HostRegistry


@pytest.fixture
def host() -> Host:
    registry = HostRegistry()
    try:
        return registry.host({"host": "web1"})
    finally:
        registry.close()


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_only_the_table_changes_a_state(host: Host, state: State, event: Event) -> None:
    host.state = state
    if event in TRANSITIONS[state]:
        host._on(event)
        assert host.state is TRANSITIONS[state][event]
    else:
        with pytest.raises(IllegalTransition, match=state.value):
            host._on(event)
        assert host.state is state


def test_every_state_can_be_entered_and_left() -> None:
    reached = {State.NEW}
    for _ in State:
        reached |= {after for state in reached for after in TRANSITIONS[state].values()}
    assert reached == set(State) == set(TRANSITIONS)
    assert all(next_state(state, Event.END) is State.DEAD for state in State if state is not State.DEAD)
    assert not TRANSITIONS[State.DEAD]


def test_a_change_is_logged_with_the_host(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    host.state = State.NEW
    with caplog.at_level(logging.DEBUG, logger="pmitogen.hub"):
        host._on(Event.CONNECT)
    (record,) = caplog.records
    assert record.getMessage() == "connect: new -> connecting" and getattr(record, "host", "") == "web1"
