"""Payloads that are built before their tasks, in Ansible's own cache: pmitogen/ansible/preload/prebuild.py."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import Account
from tests.support.ansible import Ansible, Run
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.optimised]

FAKE = """#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule
AnsibleModule(argument_spec={"path": {}}).exit_json(whose="the playbook's own")
"""
DETACH = """
import json, os
from pmitogen.ansible.preload import prebuild
told, tell = os.pipe()
if os.fork() == 0:
    prebuild._detach_fds()
    os._exit(os.write(tell, b"a message") != 9 or os.open(os.devnull, os.O_RDONLY) <= tell)
code = os.waitstatus_to_exitcode(os.wait()[1])
os.close(tell)
print(json.dumps([code, os.read(told, 10).decode()]))
"""
CACHED = "{{ lookup('ansible.builtin.pipe', 'ls ' ~ local ~ '/ansible-local-*/ansiballz_cache').split() }}"
SLOW = {"name": "slow", "ansible.builtin.command": "sleep 3"}


def _skip_older(ansible: Ansible) -> None:
    if tuple(map(int, ansible.core.split("."))) < (2, 19):
        pytest.skip("pmitogen builds no payloads of this ansible-core early")
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs a second processor")


def _play(
    ansible: Ansible,
    host: dict[str, Any],
    tasks: list[dict[str, Any]],
    local: Path,
    files: dict[str, str] | None = None,
    **env: str,
) -> Run:
    local.mkdir()
    look = {"name": "look", "ansible.builtin.debug": {"msg": CACHED}}
    run = ansible.tasks(
        [tasks[0], look, *tasks[1:]],
        {"h": {**host, "local": str(local)}},
        files=files or {},
        env={"ANSIBLE_LOCAL_TEMP": str(local), "ANSIBLE_HOME": f"{local}-home", **env},  # where no earlier run has left any
    )
    assert not list(local.iterdir()), "left behind"
    assert not run.warnings, run.warnings
    return run


def _built(run: Run) -> set[str]:
    return {str(name).split("-")[0].rpartition(".")[2] for name in run.task("look")["msg"] if not str(name).endswith(".lock")}


def test_payloads_are_built_while_the_first_task_runs(ansible: Ansible, sshd: Sshd, account: Account, tmp_path: Path) -> None:
    _skip_older(ansible)
    tasks = [
        SLOW,
        {"name": "stat", "ansible.builtin.stat": {"path": "/etc/passwd"}},
        {"name": "copy", "copy": {"content": "x", "dest": f"{account.home}/copied"}},
        {"name": "tidy", "file": {"path": f"{account.home}/copied", "state": "absent"}},
    ]
    run = _play(ansible, ansible.target(sshd, account), tasks, tmp_path / "local").check()
    assert _built(run) == {"command", "stat", "copy", "file"}
    assert run.task("stat")["stat"]["exists"] and run.task("copy").changed and run.task("tidy").changed


@pytest.mark.one_core
def test_pmitogen_preload_0_turns_prebuilding_off(ansible: Ansible, sshd: Sshd, account: Account, tmp_path: Path) -> None:
    tasks = [SLOW, {"name": "stat", "ansible.builtin.stat": {"path": "/etc/passwd"}}]
    run = _play(ansible, ansible.target(sshd, account), tasks, tmp_path / "local", PMITOGEN_PRELOAD="0").check()
    assert _built(run) == {"command"}


def test_a_module_of_the_playbook_replaces_that_of_ansible_core(
    ansible: Ansible, sshd: Sshd, account: Account, tmp_path: Path
) -> None:
    """The task runs the playbook's module; ansible-core's is available under its full name."""
    _skip_older(ansible)
    tasks = [
        SLOW,
        {"name": "own", "stat": {"path": "/etc/passwd"}},
        {"name": "core's", "ansible.builtin.stat": {"path": "/etc/passwd"}},
    ]
    run = _play(ansible, ansible.target(sshd, account), tasks, tmp_path / "local", {"library/stat.py": FAKE}).check()
    assert "stat" in _built(run)
    assert run.task("own")["whose"] == "the playbook's own" and run.task("core's")["stat"]["exists"]


@pytest.mark.one_core
def test_nothing_is_prebuilt_with_module_utils_of_the_playbook(
    ansible: Ansible, sshd: Sshd, account: Account, tmp_path: Path
) -> None:
    _skip_older(ansible)
    tasks = [SLOW, {"name": "stat", "ansible.builtin.stat": {"path": "/etc/passwd"}}]
    run = _play(ansible, ansible.target(sshd, account), tasks, tmp_path / "local", {"module_utils/x.py": ""}).check()
    assert _built(run) == {"command"}


def test_a_run_that_ends_during_prebuilding_leaves_nothing(
    ansible: Ansible, sshd: Sshd, account: Account, tmp_path: Path
) -> None:
    """No file and no message is left, whichever payload was being built."""
    _skip_older(ansible)
    names = ("apt", "cron", "get_url", "group", "iptables", "known_hosts", "lineinfile", "pip", "replace", "slurp", "uri", "user")
    for index, first in enumerate(("false", "sleep 0.2; false", "sleep 0.5; false")):
        tasks = [{"name": "first", "ansible.builtin.shell": first}, *({"name": name, name: {}} for name in names)]
        tasks[0]["failed_when"] = False
        tasks.insert(1, {"name": "end", "ansible.builtin.fail": {"msg": "enough"}})
        run = _play(ansible, ansible.target(sshd, account), tasks, tmp_path / f"local{index}")
        assert run.task("end").kind == "failed" and run.rc == 2


@pytest.mark.one_core
def test_the_prebuilding_process_has_no_output(ansible: Ansible) -> None:
    """Files that it opens do not get the descriptors of a worker's message pipes."""
    assert ansible.answer(DETACH) == [0, ""]
