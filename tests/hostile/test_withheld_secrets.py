"""If a host key has changed and checking is off, commands run, but no become password is sent to the host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import pmitogen
from tests.integration.test_api import connect
from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.becoming import ID_TASK, PLUGINS, becoming
from tests.support.keys import KeyFile
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]
SECRET = "become s3cret"


@pytest.fixture
def changed(sshd: Sshd, make_key: Callable[..., KeyFile], tmp_path: Path) -> Path:
    """A known_hosts file with another key for the server."""
    path = tmp_path / "known_hosts"
    path.write_text(f"[{sshd.host}]:{sshd.port} {make_key().public}\n")
    return path


def options(known_hosts: Path) -> list[str]:
    return ["-o", f"UserKnownHostsFile={known_hosts}", "-o", "StrictHostKeyChecking=no"]


@pytest.mark.parametrize("method", ["sudo", "su", "doas"])
def test_no_become_method_sends_a_password_to_a_changed_host(
    method: str, sshd: Sshd, changed: Path, make_account: Callable[..., Account]
) -> None:
    login = make_account(password=SECRET, sudo=["ALL=(root) ALL", "ALL=(nobody) NOPASSWD: ALL"], doas="password")
    user = login.name if method == "su" else "root"
    with connect(sshd, login, ssh_args=[*options(changed), *sshd.ssh_args()]) as host:  # ssh uses the first value of an option
        assert host.run("true").ok
        with pytest.raises(pmitogen.BecomeError, match="no password goes to a host whose key has changed") as caught:
            host.become(user, method=method, password=SECRET).run("true")
        assert caught.value.kind == "password-missing"
        assert host.become("nobody", password=SECRET).run("id -un").stdout == b"nobody\n"  # no password is required
    with connect(sshd, login) as host:
        assert host.become(user, method=method, password=SECRET).run("true").ok


@pytest.mark.newest_core
def test_plays_send_no_password_to_a_changed_host(
    ansible: Ansible, sshd: Sshd, changed: Path, make_account: Callable[..., Account]
) -> None:
    """By a native method, and by a become plugin with its own prompt."""
    login = make_account(password=SECRET, sudo="password")
    other = make_account(password=SECRET)
    ways = {"sudo": becoming("sudo", "root", SECRET), "asking": becoming("asking", other.name, SECRET)}
    hosts = {}
    for name, variables in ways.items():
        common = " ".join([*options(changed), "-o", "GlobalKnownHostsFile=/dev/null"])
        hosts[name] = {**ansible.target(sshd, login, **variables), "ansible_ssh_common_args": common}
    tasks = [{"name": "who", **ID_TASK, "become": True}, {"name": "login", **ID_TASK}]
    run = ansible.tasks(tasks, hosts, env={"ANSIBLE_BECOME_PLUGINS": str(PLUGINS)}, args=["-vvvv"])
    for name in ways:
        assert "no password goes to a host whose key has changed" in run.task("who", name).message
    assert SECRET not in run.output
