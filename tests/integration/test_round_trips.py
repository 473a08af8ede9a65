"""The number of direction changes until Python answers, counted by a relay with a long delay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import pmitogen
from bench.environment import Relay
from pmitogen.api.connecting import accounts
from pmitogen.transport.connection import Connection
from tests.support.accounts import Account
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.optimised]

DELAY = 0.15  # seconds in each direction: longer than a busy machine delays data that need not wait


def _turns(relay: Relay, sshd: Sshd, account: Account, **become: Any) -> int:
    relay.counts()
    alias = f"[{sshd.host}]:{sshd.port}"
    args = ["-o", f"UserKnownHostsFile={sshd.known_hosts}", "-o", f"HostKeyAlias={alias}", "-i", str(sshd.key.path)]
    with pmitogen.Hub() as hub:
        # connect() would wait only for the login; the request of a play is for Python, and made before the login.
        (login,) = accounts(
            hub, hub._core, [f"{account.name}@{sshd.host}"], {"ssh_args": ["-F", "none", "-p", str(relay.port), *args]}
        )
        host = pmitogen.Host(login, hub)
        host.ping()
        assert host.run("echo in").stdout == b"in\n"
        if become:
            relay.counts()
            entered = host.become(**become)
            assert entered.run("echo in").stdout == entered.run("echo in").stdout == b"in\n"
        return relay.counts()["direction_changes"]


def _repeated(count: Callable[[], int], expected: int) -> int:
    """Return *count*, repeated if it is not *expected*: a busy machine may delay data that need not wait."""
    found = 0
    for _ in range(3):
        found = count()
        if found == expected:
            break
    return found


@pytest.fixture
def relay(sshd: Sshd) -> Iterator[Relay]:
    made = Relay([sshd.host], sshd.port, DELAY)
    yield made
    made.close()


def test_requests_follow_without_waiting_for_answers(
    relay: Relay, sshd: Sshd, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two turns fewer than one request after the other: the login follows the request for its service.

    OpenSSH's window is closed until it has answered a command, so nothing can follow there; other servers allow it, so the test
    checks whether the answer is waited for.
    """
    waited: set[bool] = set()
    original = Connection.start_command

    def start_command(link: Connection, *args: Any, wait: bool, **options: Any) -> None:
        waited.add(wait)
        original(link, *args, wait=wait, **options)

    monkeypatch.setattr(Connection, "start_command", start_command)
    monkeypatch.delenv("PMITOGEN_PIPELINE", raising=False)
    fewest = _repeated(lambda: _turns(relay, sshd, account), 14)
    assert fewest <= 14 and waited == {False}
    waited.clear()
    monkeypatch.setenv("PMITOGEN_PIPELINE", "0")
    assert _repeated(lambda: _turns(relay, sshd, account), fewest + 2) == fewest + 2 and waited == {True}


def test_a_requested_password_costs_one_round_trip(relay: Relay, sshd: Sshd, make_account: Any) -> None:
    """It does so once: the second command of each account takes one round trip as well."""
    asked, free = make_account(password="login s3cret", sudo="password"), make_account(sudo="nopasswd")
    without = min(_turns(relay, sshd, free, user="root", password="login s3cret") for _ in range(2))
    found = _repeated(lambda: _turns(relay, sshd, asked, user="root", password="login s3cret"), without + 2)
    assert found == without + 2
