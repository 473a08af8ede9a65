"""A login or a start-up file that takes longer than ansible_ssh_timeout is waited for, as over ssh."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.needs_ansible]
PING = [{"name": "ping", "ansible.builtin.ping": {}}]
SLOW = 2.5  # seconds


@pytest.mark.newest_core
def test_a_slow_login_and_a_slow_start_up_file_are_waited_for(
    ansible: Ansible, make_sshd: Callable[..., Sshd], make_account: Callable[..., Account]
) -> None:
    # sshd looks for keys in its files last where this command is set.
    slow_login = make_sshd(config=[f"AuthorizedKeysCommand /bin/sleep {SLOW}", "AuthorizedKeysCommandUser root"])
    slow_shell = make_account()
    slow_shell.write(".bashrc", f"sleep {SLOW}\n")
    plain = make_account()
    hosts = {
        "login": ansible.target(slow_login, plain, ansible_ssh_timeout=1),
        "shell": ansible.target(make_sshd(), slow_shell, ansible_ssh_timeout=1),
    }
    run = ansible.tasks(PING, hosts).check()
    assert run.task("ping", "login")["ping"] == run.task("ping", "shell")["ping"] == "pong"


@pytest.mark.newest_core
def test_the_banner_of_a_server_is_shown(
    ansible: Ansible, make_sshd: Callable[..., Sshd], account: Account, short_path: Path
) -> None:
    banner = short_path / "banner"
    banner.write_text("Authorized use only.\nCall 555-0100.\n")
    server = make_sshd(config=[f"Banner {banner}"])
    target = ansible.target(server, account, ansible_ssh_private_key_file="", ansible_password="wrong")
    result = ansible.tasks(PING, {"h": target}).task("ping")
    assert result.kind == "unreachable"
    assert result.message.endswith("check the user name and the password; the server says: Authorized use only. Call 555-0100.")
