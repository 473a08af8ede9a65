"""Agent forwarding: programs on the target use the agent of the controller."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pmitogen.transport.sessions import exec_command
from tests.support.keys import KeyFile
from tests.support.links import linked
from tests.support.sshd import Sshd

from ._login import ssh_agent

pytestmark = [pytest.mark.needs_sshd, pytest.mark.needs_program("ssh-agent", "ssh-add")]


@pytest.fixture
def agent(short_path: Path, make_key: Callable[..., KeyFile]) -> Iterator[tuple[str, KeyFile]]:
    """Return the socket of a running agent, and its key."""
    key = make_key()
    with ssh_agent(short_path, key) as path:
        yield path, key


@pytest.mark.parametrize("named_by", ["identityagent", "forwardagent_socket"])
def test_the_key_is_listed_on_the_target(sshd: Sshd, agent: tuple[str, KeyFile], named_by: str) -> None:
    path, key = agent
    with linked(sshd, forwardagent=True, identitiesonly=True, **{named_by: path}) as link:
        assert exec_command.run(link, "ssh-add -L")[1].decode().startswith(key.public)


def test_the_agent_signs_for_several_programs_at_once(sshd: Sshd, agent: tuple[str, KeyFile], short_path: Path) -> None:
    path, key = agent
    public = f"{key.path}.pub"
    with linked(sshd, forwardagent=True, forwardagent_socket=path) as link, ThreadPoolExecutor(8) as pool:
        outs = list(pool.map(lambda n: exec_command.run(link, f"echo {n} | ssh-keygen -q -Y sign -n x -f {public}")[1], range(8)))
    assert all(b"BEGIN SSH SIGNATURE" in out for out in outs)


def test_no_agent_is_forwarded_by_default(sshd: Sshd, agent: tuple[str, KeyFile]) -> None:
    for settings in ({"identityagent": agent[0]}, {"forwardagent": True}):
        with linked(sshd, **settings) as link:
            assert exec_command.run(link, "echo [$SSH_AUTH_SOCK]")[1] == b"[]\n"


def test_a_missing_agent_is_an_error_on_the_target_not_a_hang(sshd: Sshd) -> None:
    with linked(sshd, forwardagent=True, forwardagent_socket="/nonexistent") as link:
        assert exec_command.run(link, "ssh-add -l", timeout=10)[0].code != 0
