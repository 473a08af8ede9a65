"""The error of a failing jump host names it, its position in the chain and the target, for every failure and every caller."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pmitogen.errors import ConnectError
from pmitogen.flags.ssh.settings import Settings
from pmitogen.protocol.error_kinds import error_fields, exception_from
from pmitogen.transport.jump_host_pool import JumpHostPool
from tests.support.keys import KeyFile
from tests.support.links import link_to, settings_for, through
from tests.support.sshd import Sshd, free_port

pytestmark = pytest.mark.needs_sshd
LOCAL = "127.0.0.1"


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that accepts connections and sends nothing."""
    with socket.socket() as server:
        server.bind((LOCAL, 0))
        server.listen()
        yield server.getsockname()[1]


def _failing(case: str, good: Settings, silent: int, other_key: Path) -> Settings:
    changes: dict[str, dict[str, object]] = {
        "resolve": {"hostname": "no-such-host.invalid"},
        "tcp": {"port": free_port([LOCAL])},
        "version": {"port": silent, "connecttimeout": 1},
        "hostkey": {"userknownhostsfile": ("/dev/null",)},
        "auth": {"identityfile": (str(other_key),)},
        "tunnel": {},
    }
    return good._replace(**changes[case])  # type: ignore[arg-type]


# case -> stage and text of the error
CASES = {
    "resolve": ("resolve", "cannot resolve the name no-such-host.invalid"),
    "tcp": ("tcp", "Connection refused"),
    "version": ("kex", "no SSH version received within 1 s"),
    "hostkey": ("hostkey", "host key: ED25519 "),
    "auth": ("auth", "authentication failed: "),
    "tunnel": ("proxy", "the jump host cannot reach "),
}


@pytest.mark.parametrize("position", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_the_failing_jump_host_is_named(
    case: str, position: int, sshd: Sshd, silent: int, make_key: Callable[..., KeyFile], jump_hosts: JumpHostPool
) -> None:
    """In a chain of two; if the second one fails, the first one works. A name that the first cannot resolve is its own error."""
    good = settings_for(sshd)
    bad = _failing(case, good, silent, make_key().path)
    chain = [bad, good] if position == 1 else [good._replace(originalhost="gate"), bad]
    target = good._replace(port=free_port([LOCAL]))
    if case == "tunnel" and position == 1:
        chain[1] = target
    culprit, stage = chain[position - 1], CASES[case][0]
    text = CASES[case][1]
    if position == 2 and case in ("resolve", "tcp"):  # the first jump host resolves and connects
        position, culprit, stage, text = 1, chain[0], "proxy", f"the jump host cannot reach {bad.hostname} port {bad.port}: "
    settings, resolver = through(target, *chain)
    with pytest.raises(ConnectError) as caught:
        link_to(settings, jump_hosts=jump_hosts, resolver=resolver)
    message = caught.value.message
    assert message.startswith(f"{target.endpoint}: jump host {position} of 2: {culprit.endpoint}: ") and text in message
    assert "\n" not in message and (caught.value.stage, caught.value.jump_host) == (stage, culprit.endpoint)
    assert "ansible_host" not in message and "ansible_ssh_timeout" not in message
    arrived = exception_from(error_fields(caught.value))  # type: ignore[arg-type]
    # A class of transport/errors.py is the public one below it for users.
    public = next(each for each in type(caught.value).__mro__ if each.__module__ == ConnectError.__module__)
    assert type(arrived) is public and vars(arrived)["jump_host"] == culprit.endpoint


def test_each_target_behind_a_failing_jump_host_has_its_own_error(sshd: Sshd, jump_hosts: JumpHostPool) -> None:
    """The connection attempt is shared."""
    good = settings_for(sshd)
    bad = good._replace(userknownhostsfile=("/dev/null",))
    targets = [through(good._replace(user=f"user{index}"), bad) for index in range(3)]

    def failure(index: int) -> str:
        settings, resolver = targets[index]
        with pytest.raises(ConnectError) as caught:
            link_to(settings, jump_hosts=jump_hosts, resolver=resolver)
        return caught.value.message

    with ThreadPoolExecutor(3) as pool:
        for index, message in enumerate(pool.map(failure, range(3))):
            assert message.startswith(f"user{index}@{LOCAL} port {sshd.port}: jump host 1 of 1: {bad.endpoint}: host key: ")


def test_the_advised_trust_command_uses_the_same_jump_hosts(make_sshd: Callable[..., Sshd], jump_hosts: JumpHostPool) -> None:
    gate, server = make_sshd(), make_sshd()
    unknown = settings_for(server, userknownhostsfile=("/dev/null",))
    settings, resolver = through(settings_for(server), settings_for(gate), unknown)
    with pytest.raises(ConnectError) as caught:
        link_to(settings, jump_hosts=jump_hosts, resolver=resolver)
    assert "jump host 2 of 2: " in caught.value.message
    assert f"(pmitogen trust -J hop0 -p {server.port} -o UserKnownHostsFile=/dev/null target)" in caught.value.message
