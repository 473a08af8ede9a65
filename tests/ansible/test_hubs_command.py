"""``pmitogen hubs`` while a play runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.support import processes
from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.session import repository
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]


def hubs(*args: str) -> str:
    """Return the output of ``pmitogen hubs``."""
    done = subprocess.run([sys.executable, "-m", "pmitogen", "hubs", *args], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _wait_for_busy_hub() -> dict[str, Any]:
    """Return the only hub once one of its hosts is busy."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        found: list[dict[str, Any]] = json.loads(hubs("--json"))
        if found and found[0]["busy"]:
            assert len(found) == 1
            return found[0]
        time.sleep(0.1)
    raise AssertionError("no hub came up")


@pytest.mark.one_core
def test_a_running_hub_is_listed_and_stopped(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    sleep = [{"name": "sleep", "ansible.builtin.command": "sleep 60"}]
    play = [{"hosts": "all", "gather_facts": False, "tasks": sleep}]
    running = ansible.start(play, {"h": ansible.target(sshd, account)})
    # Before that, the host may only have been connected early, which makes it busy for a moment.
    processes.wait_until(lambda: any("sleep" in process.command for process in account.processes()), 20)
    hub = _wait_for_busy_hub()
    assert (hub["run"], hub["hosts"], hub["workers"]) == (running.pid, 1, 1)
    assert hub["pid"] != running.pid and 0 <= hub["age"] < 60
    assert hubs().startswith(f"hub {hub['pid']} of run {running.pid}: 1 host, 1 busy, ")
    assert hubs("--stop") == "0 hubs ended\n", "a hub that serves a run is not stopped"
    assert json.loads(hubs("--json"))[0]["busy"] == 1
    assert hubs("--stop", str(hub["pid"])) == "1 hub ended\n"
    assert hubs() == "no hub is running\n"
    run = running.finish()
    assert run.task("sleep").kind == "unreachable" and "Traceback" not in run.output
    assert run.task("sleep").message.endswith(": the hub of this run has ended: pmitogen hubs --stop ended it")
    assert not [process for process in account.processes() if "sleep" in str(process)]


@pytest.mark.one_core
@pytest.mark.parametrize(
    ("signum", "text"),
    [
        pytest.param(signal.SIGTERM, "the signal SIGTERM ended it", marks=pytest.mark.slow),
        (signal.SIGKILL, "its process was killed, or the system lacks memory"),
    ],
)
def test_the_task_reports_why_its_hub_ended(
    ansible: Ansible, sshd: Sshd, account: Account, signum: signal.Signals, text: str
) -> None:
    """docs/troubleshooting.md lists these messages; later tasks start another hub."""
    tasks = [
        {"name": "sleep", "ansible.builtin.command": "sleep 60", "ignore_unreachable": True},
        {"name": "later", "ansible.builtin.command": "id -un"},
    ]
    play = [{"hosts": "all", "gather_facts": False, "tasks": tasks}]
    running = ansible.start(play, {"h": ansible.target(sshd, account)})
    processes.wait_until(lambda: any("sleep" in process.command for process in account.processes()), 20)
    os.kill(_wait_for_busy_hub()["pid"], signum)
    run = running.finish()
    assert run.task("sleep").kind == "unreachable"
    assert f"the hub of this run has ended: {text}" in run.task("sleep").message
    assert run.task("later")["stdout"] == account.name
    page = (repository / "docs/troubleshooting.md").read_text()
    assert "| `the hub of this run has ended` |" in page


@pytest.mark.one_core
def test_stop_ends_idle_hubs_and_with_all_those_of_runs(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    persists = {"h": ansible.target(sshd, account, ansible_ssh_args="-o ControlMaster=auto -o ControlPersist=60s")}
    ansible.tasks([{"name": "once", "ansible.builtin.command": "id"}], persists).check()
    processes.wait_until(lambda: [hub["run"] for hub in json.loads(hubs("--json"))] == [None], 5)
    (hub,) = json.loads(hubs("--json"))
    assert hubs().startswith(f"hub {hub['pid']} kept for a later run: 1 host, 0 busy, ")

    sleep = [{"name": "sleep", "ansible.builtin.command": "sleep 60"}]
    other = ansible.start([{"hosts": "all", "gather_facts": False, "tasks": sleep}], persists)  # adopts the idle hub
    processes.wait_until(lambda: any("sleep" in process.command for process in account.processes()), 20)
    assert hubs("--stop") == "0 hubs ended\n"
    assert json.loads(hubs("--stop", "--all", "--json")) == {"stopped": 1}
    assert other.finish().task("sleep").kind in ("unreachable", "failed")

    ansible.tasks([{"name": "once", "ansible.builtin.command": "id"}], persists).check()
    processes.wait_until(lambda: [hub["run"] for hub in json.loads(hubs("--json"))] == [None], 5)
    assert hubs("--stop") == "1 hub ended\n"
    assert hubs() == "no hub is running\n"
    processes.wait_until(lambda: not account.processes(), 5)


@pytest.mark.parametrize(
    ("args", "code", "output"),
    [
        (
            ["--stop", "4000000"],
            1,
            "--stop: 4000000: no such hub of this account, or it did not end; pmitogen hubs lists the hubs",
        ),
        (["--stop", "first"], 2, "command line: --stop: invalid pid 'first'; pmitogen hubs lists the hubs"),
        (["--stop", "-3"], 2, None),
        (["--stop", "1", "--all"], 2, "command line: --all: cannot be combined with the pid of one hub; remove one of them"),
        (["--all"], 2, "command line: --all: use it with --stop"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(args: list[str], code: int, output: str | None) -> None:
    done = subprocess.run([sys.executable, "-m", "pmitogen", "hubs", *args], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (code, "") and done.stderr.count("\n") == 1
    assert output is None or done.stderr == f"pmitogen hubs: {output}\n"
