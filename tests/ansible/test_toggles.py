"""Each group of optimisations can be switched off without any other effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.accounts import Account
from tests.support.ansible import Ansible, Run
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.optimised]

SWITCHES = ("PMITOGEN_PRELOAD", "PMITOGEN_PIPELINE", "PMITOGEN_TARGET_PRELOAD")
SEEN = """\
import sys
ready = 'colorsys' in sys.modules  # imported by no other module
import colorsys
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({})
module.exit_json(ready=ready, user=module.run_command(['id', '-un'])[1].strip())
"""
TASKS: list[dict[str, Any]] = [
    {"name": "folder", "ansible.builtin.file": {"path": "{{ home }}/f", "state": "directory", "mode": "0751"}},
    {"name": "copy", "ansible.builtin.copy": {"content": "one\n", "dest": "{{ home }}/f/copied", "mode": "0640"}},
    {"name": "template", "ansible.builtin.template": {"src": "page.j2", "dest": "{{ home }}/f/page"}},
    {"name": "line", "ansible.builtin.lineinfile": {"path": "{{ home }}/f/copied", "line": "two"}, "become": True},
    {"name": "read", "ansible.builtin.command": "cat {{ home }}/f/copied {{ home }}/f/page"},
    {"name": "seen", "seen": {}},
    {"name": "again", "seen": {}},
    {"name": "root", "seen": {}, "become": True},
    {"name": "refused", "ansible.builtin.copy": {"content": "x", "dest": "/proc/none/x"}, "ignore_errors": True},
    {"name": "none", "ansible.builtin.stat": {"path": "{{ home }}/none"}},
    {"name": "tidy", "ansible.builtin.file": {"path": "{{ home }}/f", "state": "absent"}, "become": True},
]


def _play(ansible: Ansible, sshd: Sshd, account: Account, **env: str) -> Run:
    host = ansible.target(sshd, account, home=str(account.home))
    files = {"library/seen.py": SEEN, "page.j2": "{{ inventory_hostname }}\n"}
    return ansible.tasks(TASKS, {"h": host}, files=files, env=env).check()


def _results(run: Run) -> list[tuple[str, str, object, object, str]]:
    """Return the result of each task, without the fields that tell whether a module was preloaded."""
    names = "stdout", "user"
    return [(task.task, task.kind, task.changed, [task.result.get(name) for name in names], task.message) for task in run.tasks]


@pytest.mark.timeout(300)  # five plays
def test_results_are_equal_without_optimisations(ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]) -> None:
    account = make_account(sudo="nopasswd")
    on = _play(ansible, sshd, account)
    assert on.task("read")["stdout"] == "one\ntwo\nh" and on.task("root")["user"] == "root"
    assert not on.task("seen")["ready"] and on.task("again")["ready"]
    for off in SWITCHES:
        assert _results(_play(ansible, sshd, account, **{off: "0"})) == _results(on), off
    assert _results(_play(ansible, sshd, account, **dict.fromkeys(SWITCHES, "0"))) == _results(on)


def test_no_module_is_preloaded_with_pmitogen_target_preload_0(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    run = _play(ansible, sshd, account, PMITOGEN_TARGET_PRELOAD="0")
    assert not run.task("again")["ready"]
