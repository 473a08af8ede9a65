"""Every Python that a core supports on targets, for the connection and for modules; and a target without Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]

OLDEST = {"2.16": (2, 7), "2.17": (3, 7), "2.18": (3, 8), "2.19": (3, 8), "2.20": (3, 9), "2.21": (3, 9), "2.22": (3, 9)}


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def test_modules_run_under_every_target_python(
    ansible: Ansible, make_sshd: Callable[..., Sshd], pythons: dict[str, str], short_path: Path
) -> None:
    """As root, because an interpreter may be in root's home."""
    server = make_sshd()
    short_path.chmod(0o777)
    hosts: dict[str, dict[str, Any]] = {}
    for version, path in pythons.items():
        if _version(version) >= OLDEST[ansible.core]:
            more = {"ansible_python_interpreter": path, "ansible_remote_tmp": str(short_path / "tmp")}
            hosts[f"both-{version}"] = ansible.target(server, "root", **more, ansible_pmitogen_boot_python=[path])
            hosts[f"module-{version}"] = ansible.target(server, "root", **more, ansible_pmitogen_boot_python=["/usr/bin/python3"])
    assert hosts
    tasks: list[dict[str, Any]] = [
        {"name": "facts", "ansible.builtin.setup": {"gather_subset": ["!all", "!min", "python"]}},
        {"name": "command", "ansible.builtin.command": "echo gr\u00fcn"},
        {"name": "copy", "ansible.builtin.copy": {"content": "x\n", "dest": f"{short_path}/{{{{ inventory_hostname }}}}"}},
        {"name": "again", "ansible.builtin.command": "echo again"},
        {
            "name": "later",
            "ansible.builtin.command": "echo gr\u00fcn",
            "async": 60,
            "poll": 1,
            "vars": {"ansible_async_dir": f"{short_path}/jobs"},
            "when": "inventory_hostname.startswith('both')",
        },
        {
            "name": "other",
            "ansible.builtin.command": "id -un",
            "become": True,
            "become_user": "games",
            "vars": {"ansible_python_interpreter": "/usr/bin/python3", "ansible_remote_tmp": "/tmp"},
        },
    ]
    run = ansible.tasks(tasks, hosts, args=["-f", "6"], timeout=300)
    failed = {(task.host, task.task): task.message for task in run.tasks if task.kind not in ("ok", "skipped")}
    assert not failed
    for host in hosts:
        python = run.task("facts", host)["ansible_facts"]["ansible_python"]["version"]
        assert f"{python['major']}.{python['minor']}" == host.partition("-")[2]
        assert run.task("command", host)["stdout"] == "gr\u00fcn"
        assert run.task("other", host)["stdout"] == "games"
        assert host.startswith("module") or run.task("later", host)["stdout"] == "gr\u00fcn"


def test_a_target_without_python_runs_raw_and_transfers_files(
    ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]
) -> None:
    """All use one connection; a module fails with the remedy; once Python is installed, modules run."""
    account = make_account()
    python = f"{account.home}/python3"
    host = ansible.target(sshd, account, ansible_python_interpreter=python, ansible_pmitogen_boot_python=[python])
    tasks: list[dict[str, Any]] = [
        {"name": "raw", "ansible.builtin.raw": "echo out; echo err >&2; exit 3", "failed_when": False},
        {"name": "script", "ansible.builtin.script": "s.sh 'two words'"},
        {"name": "module", "ansible.builtin.ping": {}, "ignore_errors": True},
        {"name": "install", "ansible.builtin.raw": f"ln -s /usr/bin/python3 {python}"},
        {"name": "now", "ansible.builtin.command": "id -un"},
    ]
    mark = sshd.mark()
    run = ansible.tasks(tasks, {"h": host}, files={"s.sh": '#!/bin/sh\necho "script $1"\n'}).check()
    assert run.task("raw")["rc"] == 3 and run.task("raw")["stdout"].startswith("out")
    assert "script two words" in run.task("script")["stdout"]
    failure = run.task("module")
    assert failure.kind == "failed" and "no usable Python" in failure.message and "\n" not in failure.message
    assert f"{account.name}@{sshd.host} port {sshd.port}" in failure.message and "ansible_python_interpreter" in failure.message
    assert run.task("now")["stdout"] == account.name
    assert sshd.connections(mark) == 1
