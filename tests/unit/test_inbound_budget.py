"""Limits for one server: processor time and useless messages, with given times."""

from __future__ import annotations

import pytest
from paramiko import SSHException

from pmitogen.transport.paramiko_ext.inbound_budget import (
    DATA_PER_SECOND,
    MAX_BURST,
    MAX_SLEEP,
    MAX_USELESS,
    PROCESSOR_SHARE,
    USELESS_PER_SECOND,
    USELESS_SIZE,
    ProcessorBudget,
    UselessMessages,
)


def test_a_busy_thread_is_limited_to_its_share() -> None:
    budget = ProcessorBudget(0.0, 0.0)
    now = used = 0.0
    while now < 60:
        now, used = now + 0.01, used + 0.01  # it runs all the time ...
        now += budget.throttle(now, used)  # ... except when it sleeps
    assert used / 60 == pytest.approx(PROCESSOR_SHARE, abs=MAX_BURST / 60 + 0.02)


def test_received_data_allows_processor_time() -> None:
    budget = ProcessorBudget(0.0, 0.0)
    for second in range(1, 60):
        budget.deliver(DATA_PER_SECOND)
        assert budget.throttle(float(second), float(second)) == 0
    assert budget.throttle(60.0, 60.0 + MAX_BURST + 1) > 0  # unused time is not saved


def test_a_login_may_use_more_time_at_once() -> None:
    budget = ProcessorBudget(0.0, 0.0)
    assert budget.throttle(MAX_BURST, MAX_BURST) == 0
    assert 0 < budget.throttle(MAX_BURST + 2, MAX_BURST + 2) <= MAX_SLEEP


def test_useless_messages_are_limited() -> None:
    useless = UselessMessages(0.0)
    for _ in range(MAX_USELESS):
        useless.count("ignore", 0.0)
    with pytest.raises(SSHException, match=r"sends too many useless messages \(ignore\)"):
        useless.count("ignore", 0.0)
    useless = UselessMessages(0.0)
    for index in range(10 * MAX_USELESS):
        useless.count("keepalive", index / USELESS_PER_SECOND)
    useless = UselessMessages(0.0)
    with pytest.raises(SSHException):
        for _ in range(1 + MAX_USELESS // 10):
            useless.count("banner", 0.0, 9 * USELESS_SIZE)
