"""Rules in sudoers that let an account run, without a password, only the commands that Ansible starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.becoming import ID_TASK, becoming
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.newest_core]


def test_a_sudoers_rule_written_for_ansible_suffices(ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]) -> None:
    other = make_account()
    login = make_account(sudo=[f"ALL=(root, {other.name}) NOPASSWD: /bin/sh -c echo BECOME-SUCCESS-*"])
    narrow = make_account(sudo=["ALL=(root) NOPASSWD: /usr/bin/true"])
    hosts = {
        "root": ansible.target(sshd, login, **becoming("sudo", "root")),
        "other": ansible.target(sshd, login, **becoming("sudo", other.name)),
        "narrow": ansible.target(sshd, narrow, **becoming("sudo", "root")),
    }
    tasks: list[dict[str, Any]] = [
        {"name": "module", **ID_TASK},
        {"name": "raw", "ansible.builtin.raw": "id -un"},
        {"name": "copy", "ansible.builtin.copy": {"content": "x", "dest": "~/for-ansible"}},
        {"name": "script", "ansible.builtin.script": "who.sh"},
        {"name": "gone", "ansible.builtin.file": {"path": "~/for-ansible", "state": "absent"}},
    ]
    run = ansible.tasks(tasks, hosts, play={"become": True}, files={"who.sh": "#!/bin/sh\nid -un\n"})
    for name, user in (("root", "root"), ("other", other.name)):
        assert [run.task(task, name)["stdout"].strip() for task in ("module", "raw", "script")] == [user] * 3
        assert run.task("gone", name).changed
    message = run.task("module", "narrow").message
    assert "a rule in sudoers that allows it must cover /bin/sh -c echo BECOME-SUCCESS-*" in message and "\n" not in message
