"""How often a connection changes its direction until Python answers, counted by a relay that is far from both ends."""

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

DELAY = 0.15  # seconds each way: more than a busy machine keeps either end from sending what it need not wait for


def _turns(relay: Relay, sshd: Sshd, account: Account, **become: Any) -> int:
    relay.counts()
    alias = f"[{sshd.host}]:{sshd.port}"
    args = ["-o", f"UserKnownHostsFile={sshd.known_hosts}", "-o", f"HostKeyAlias={alias}", "-i", str(sshd.key.path)]
    with pmitogen.Hub() as hub:
        # connect() would wait for the login alone; the request of a play is for Python, and made before the login.
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


def _settled(count: Callable[[], int], expected: int) -> int:
    """*count*, again if it is not as *expected*: a busy machine may keep an end from sending at once what need not wait."""
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


def test_nothing_is_waited_for_that_can_follow(
    relay: Relay, sshd: Sshd, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two turns less than one thing after the other: the login follows the request for its service.

    OpenSSH lets nothing follow a command before it has answered, for its window is closed until then; other servers do, so it is
    looked at whether the answer is waited for.
    """
    waited: set[bool] = set()
    original = Connection.start_command

    def start_command(link: Connection, *args: Any, wait: bool, **options: Any) -> None:
        waited.add(wait)
        original(link, *args, wait=wait, **options)

    monkeypatch.setattr(Connection, "start_command", start_command)
    monkeypatch.delenv("PMITOGEN_PIPELINE", raising=False)
    fewest = _settled(lambda: _turns(relay, sshd, account), 14)
    assert fewest <= 14 and waited == {False}
    waited.clear()
    monkeypatch.setenv("PMITOGEN_PIPELINE", "0")
    assert _settled(lambda: _turns(relay, sshd, account), fewest + 2) == fewest + 2 and waited == {True}


def test_a_password_costs_one_round_trip_where_it_is_asked_for(relay: Relay, sshd: Sshd, make_account: Any) -> None:
    """And only once: the second command of each account takes one as well."""
    asked, free = make_account(password="login s3cret", sudo="password"), make_account(sudo="nopasswd")
    without = min(_turns(relay, sshd, free, user="root", password="login s3cret") for _ in range(2))
    found = _settled(lambda: _turns(relay, sshd, asked, user="root", password="login s3cret"), without + 2)
    assert found == without + 2
