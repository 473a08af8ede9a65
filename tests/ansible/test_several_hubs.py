"""A run whose hosts are distributed among several hubs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pmitogen.hub.daemon import socket_paths
from tests.support import processes, session
from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.sshd import Sshd

from .test_hubs_command import hubs

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]

ADDRESSES = [f"127.0.0.{index}" for index in range(2, 10)]
ID = {"ansible.builtin.command": "id -un"}


@pytest.fixture
def servers(make_sshd: Callable[..., Sshd]) -> Sshd:
    """A server that listens on all the addresses."""
    return make_sshd(addresses=ADDRESSES)


def _hosts(ansible: Ansible, sshd: Sshd, account: Account, **more: Any) -> dict[str, dict[str, Any]]:
    """One host for each address, and a second name for the first address."""
    names = {**{address: address for address in ADDRESSES}, "again": ADDRESSES[0]}
    return {name: {**ansible.target(sshd, account, **more), "ansible_host": address} for name, address in names.items()}


def _shares(count: int) -> list[int]:
    """Return how many of the addresses each of *count* hubs has."""
    numbers = [socket_paths.hub_index_for(address, count) for address in ADDRESSES]
    return [numbers.count(index) for index in range(count)]


def _named(timeline: Path) -> set[str]:
    """Return the hosts in a timeline; the hub writes it at its end, here two seconds (ControlPersist) after the run."""
    processes.wait_until(timeline.exists, 15)
    events = json.loads(timeline.read_text())["traceEvents"]
    return {event["args"]["name"] for event in events if event["name"] == "process_name"}


@pytest.mark.one_core
def test_each_host_is_served_by_one_hub(
    ansible: Ansible, servers: Sshd, make_account: Callable[..., Account], tmp_path: Path
) -> None:
    """One login to each host, under each of its names; two hubs during the run, none after it."""
    assert min(_shares(2)) > 0  # otherwise the test would show nothing
    account = make_account(sudo="nopasswd")
    (tmp_path / "large").write_bytes(b"0123456789abcdef" * 100_000)
    tasks = [
        {"name": "who", **ID},
        {"name": "root", **ID, "become": True},
        {"name": "copy", "ansible.builtin.copy": {"src": str(tmp_path / "large"), "dest": "~/{{ inventory_hostname }}"}},
        {"name": "other", **ID, "delegate_to": ADDRESSES[-1]},
        {"name": "stay", "ansible.builtin.command": "sleep 4"},
    ]
    mark = servers.mark()
    env = {"PMITOGEN_HUBS": "2", "PMITOGEN_TRACE": str(tmp_path / "run.json"), "ANSIBLE_FORKS": "9"}
    play = [{"hosts": "all", "gather_facts": False, "tasks": tasks}]
    running = ansible.start(play, _hosts(ansible, servers, account), env=env)
    processes.wait_until(lambda: sum("sleep" in process.command for process in account.processes()) >= len(ADDRESSES), 60)
    found = [hub for hub in json.loads(hubs("--json")) if hub["run"] == running.pid]
    run = running.finish().check()
    assert sorted(hub["hosts"] for hub in found) == sorted(_shares(2))
    assert servers.connections(mark) == len(ADDRESSES)
    assert {task["stdout"] for task in run.tasks if task.task == "root"} == {"root"}
    assert not run.warnings
    first, second = [_named(tmp_path / name) for name in ("run.json", "run.json.1")]
    assert first and second and not first & second and len(first | second) == len(ADDRESSES)


@pytest.mark.one_core
def test_reset_connection_reaches_the_hub_of_the_host(ansible: Ansible, servers: Sshd, account: Account) -> None:
    tasks = [{"name": "who", **ID}, {"ansible.builtin.meta": "reset_connection"}, {"name": "back", **ID}]
    hosts = _hosts(ansible, servers, account)
    del hosts["again"]
    mark = servers.mark()
    ansible.tasks(tasks, hosts, env={"PMITOGEN_HUBS": "3"}).check()
    assert servers.connections(mark) == 2 * len(ADDRESSES)


@pytest.mark.one_core
def test_each_hub_is_adopted_with_its_own_index(ansible: Ansible, servers: Sshd, account: Account) -> None:
    """In the next run, the hub with the same index finds the connections that ControlPersist has held open."""
    assert min(_shares(4)) > 0  # four, because two would be in the right order by chance every second time
    hosts = _hosts(ansible, servers, account, ansible_ssh_args="-o ControlMaster=auto -o ControlPersist=20s")
    mark = servers.mark()
    for _ in range(2):
        ansible.tasks([{"name": "who", **ID}], hosts, env={"PMITOGEN_HUBS": "4"}).check()
        assert servers.connections(mark) == len(ADDRESSES)
        processes.wait_until(lambda: {hub["run"] for hub in json.loads(hubs("--json"))} == {None}, 5)
    assert hubs("--stop") == "4 hubs ended\n"
    processes.wait_until(lambda: not account.processes(), 5)


def test_zero_hubs_are_refused(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    hosts = {"h": ansible.target(sshd, account)}
    run = ansible.tasks([{"name": "who", **ID}], hosts, files={"ansible.cfg": "[pmitogen]\nhubs = 0\n"})
    assert run.rc == 2 and "section pmitogen: 0: expected 1 or more hubs" in run.task("who").message
    assert "Traceback" not in run.output


@pytest.mark.one_core
def test_a_hub_of_another_installation_is_not_adopted(ansible: Ansible, sshd: Sshd, account: Account, short_path: Path) -> None:
    """An idle hub serves later runs of the same installation only, because another one may send other messages."""
    shutil.copytree(session.repository / "pmitogen", short_path / "pmitogen", ignore=shutil.ignore_patterns("__pycache__"))
    copy = {
        "PYTHONPATH": str(short_path),
        "ANSIBLE_CONNECTION_PLUGINS": str(short_path / "pmitogen/ansible/plugins/connection"),
    }
    hosts = {"h": ansible.target(sshd, account, ansible_ssh_args="-o ControlMaster=auto -o ControlPersist=20s")}
    mark = sshd.mark()
    for env, logins in (({}, 1), (copy, 2), ({}, 2), (copy, 2)):
        ansible.tasks([{"name": "who", **ID}], hosts, env=env).check()
        assert sshd.connections(mark) == logins
        processes.wait_until(lambda: {hub["run"] for hub in json.loads(hubs("--json"))} == {None}, 5)
    assert hubs("--stop") == "2 hubs ended\n"
    processes.wait_until(lambda: not account.processes(), 5)
