"""PMITOGEN_TRACE: the timeline contains every request with the names of its host and task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pmitogen.cli.trace.main import _events
from pmitogen.cli.trace.timeline import Timeline
from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.processes import wait_until
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.one_core]


def test_the_timeline_names_hosts_and_tasks(
    ansible: Ansible, make_sshd: Callable[..., Sshd], account: Account, tmp_path: Path
) -> None:
    sshd = make_sshd(addresses=["127.0.0.1", "127.0.0.2"])
    hosts = {}
    for name, address in (("web1", "127.0.0.1"), ("db1", "127.0.0.2")):
        hosts[name] = {**ansible.target(sshd, account), "ansible_host": address, "ansible_python_interpreter": "/usr/bin/python3"}
        hosts[name]["ansible_ssh_common_args"] += " -o StrictHostKeyChecking=no"
    tasks = [
        {"name": "Say <hello>", "ansible.builtin.command": "echo {{ item }}", "loop": [1, 2, 3]},
        {"name": "Say <hello>", "ansible.builtin.command": "echo again"},
        {"ansible.builtin.raw": "echo raw"},
    ]
    ansible.tasks(tasks, hosts, env={"PMITOGEN_TRACE": str(tmp_path / "run.json")}).check()
    wait_until((tmp_path / "run.json").exists)  # the hub writes it when ansible-playbook ends
    timeline = Timeline.read([_events(str(tmp_path / "run.json"))])
    assert set(timeline.by_host()) == {"web1", "db1"}
    assert {work.address for work in timeline.works} == {"127.0.0.1", "127.0.0.2"}
    first, second, third = (each for each in timeline.describe()["tasks"] if each["hosts"] == 2)
    assert (first["task"], first["round_trips"]) == ("Say <hello>", 6) and first["connect_seconds"] > 0
    assert (second["task"], second["round_trips"], second["connect_seconds"]) == ("Say <hello>", 2, 0)
    assert second["module_seconds"] > 0 and 0 < second["bytes_sent"] < first["bytes_sent"]
    assert third["task"].startswith("exec") and third["other_seconds"] > 0


@pytest.mark.parametrize(("name", "reason"), [("missing/run.json", "no such file or directory"), ("", "is a directory")])
def test_a_file_that_cannot_be_written_is_a_warning(
    name: str, reason: str, ansible: Ansible, sshd: Sshd, account: Account, tmp_path: Path
) -> None:
    path = f"{tmp_path}/{name}"
    run = ansible.tasks([{"ansible.builtin.raw": "true"}], {"web1": ansible.target(sshd, account)}, env={"PMITOGEN_TRACE": path})
    assert run.rc == 0, run.stdout
    assert run.stderr.count("PMITOGEN_TRACE") == 1 and f": {reason}; no timeline is written\n" in run.stderr, run.stderr
