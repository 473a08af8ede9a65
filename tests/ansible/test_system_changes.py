"""Changes outside the differential suite: those of the whole machine, and those that ssh sees only after some time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support import session
from tests.support.accounts import Account
from tests.support.ansible import Ansible, Run
from tests.support.becoming import SYSTEM_PYTHON
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.newest_core, pytest.mark.needs_program("ssh")]

LOOK = (session.repository / "tests/ansible/differential/plays/library/fresh_look.py").read_text()
FILES = {"library/fresh_look.py": LOOK}


def look(name: str, *at: str, **options: Any) -> dict[str, Any]:
    """A task that returns the state of a fresh process."""
    return {"name": name, "fresh_look": {"at": list(at)}, **options}


def both(ansible: Ansible, tasks: list[dict[str, Any]], target: dict[str, Any], **options: Any) -> list[Run]:
    """Run the same tasks over ssh and over pmitogen."""
    runs = []
    for connection in ("ssh", "pmitogen"):
        runs.append(ansible.tasks(tasks, {"h": target}, connection=connection, files=FILES, **options))
        assert runs[-1].rc == 0, runs[-1].output
    return runs


@pytest.mark.usefixtures("still_accounts")
def test_new_groups_need_a_login(ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]) -> None:
    """ssh holds a connection, and with it the account's groups, for ControlPersist after its last use."""
    account = make_account(sudo="nopasswd")
    arguments = "-o ControlMaster=auto -o ControlPersist=2s"
    target = ansible.target(sshd, account, ansible_python_interpreter=SYSTEM_PYTHON, ansible_ssh_args=arguments)
    join = {"ansible.builtin.command": f"usermod -aG games {account.name}", "become": True}
    leave = {"ansible.builtin.command": f"gpasswd -d {account.name} games", "become": True}
    pause = {"ansible.builtin.wait_for": {"timeout": 4}, "delegate_to": "localhost", "vars": {"ansible_connection": "local"}}
    tasks = [look("before", "groups"), join, look("at once", "groups"), pause, look("later", "groups"), leave]
    for run in both(ansible, tasks, target):
        seen = {task.task: task["seen"]["groups"] for task in run.tasks if "seen" in task.result}
        assert seen["before"] == seen["at once"] == [account.name]
        assert seen["later"] == sorted(["games", account.name])


def test_a_changed_host_name_is_seen_by_the_next_task(
    ansible: Ansible, make_sshd: Callable[..., Sshd], make_account: Callable[..., Account]
) -> None:
    """Some modules of the standard library store it when they are imported."""
    account, sshd = make_account(sudo="nopasswd"), make_sshd(wrapper=["unshare", "--uts"])
    target = ansible.target(sshd, account, ansible_python_interpreter=SYSTEM_PYTHON)

    def rename(name: str) -> dict[str, Any]:
        return {"ansible.builtin.command": f"hostname {name}", "become": True}

    tasks = [rename("one"), look("first", "host"), look("second", "host"), rename("two"), look("third", "host")]
    for run in both(ansible, tasks, target):
        for task, name in (("first", "one"), ("second", "one"), ("third", "two")):
            assert run.task(task)["seen"]["host"][:2] == [name, name]


@pytest.mark.usefixtures("still_accounts")
def test_background_jobs_survive_a_restart_of_the_interpreter(
    ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]
) -> None:
    account, other = make_account(sudo="nopasswd"), make_account()
    target = ansible.target(sshd, account, ansible_python_interpreter=SYSTEM_PYTHON)
    as_other = {"become": True, "become_user": other.name}
    job = {"ansible.builtin.shell": "sleep 3; id -un", "async": 60, "poll": 0}
    tasks = [
        {"name": "start", **job, "register": "mine"},
        {"name": "start other", **job, **as_other, "register": "others"},
        {"ansible.builtin.command": f"usermod -aG games {other.name}", "become": True},
        {"ansible.builtin.copy": {"dest": "~/.bashrc", "content": "export FRESH=1\n", "mode": "0644"}},
        {"name": "fresh", "ansible.builtin.shell": "echo $FRESH"},
        look("groups", "groups", **as_other),
    ]
    for name, options in (("mine", {}), ("others", as_other)):
        wait = {"until": f"{name}_result is finished", "retries": 40, "delay": 0.2, "register": f"{name}_result"}
        tasks.append(
            {
                "name": f"wait for {name}",
                "ansible.builtin.async_status": {"jid": f"{{{{ {name}.ansible_job_id }}}}"},
                **wait,
                **options,
            }
        )
    run = ansible.tasks(tasks, {"h": target}, files=FILES).check()
    assert run.task("fresh")["stdout"] == "1"
    assert run.task("groups")["seen"]["groups"] == sorted(["games", other.name])
    assert run.task("wait for mine")["stdout"] == account.name
    assert run.task("wait for others")["stdout"] == other.name


@pytest.mark.usefixtures("still_accounts")
def test_ordinary_tasks_cause_no_restart_of_the_interpreter(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    """No action of a play counts as a change of the system: there is one session for any number of tasks."""
    target = ansible.target(sshd, account, ansible_python_interpreter=SYSTEM_PYTHON)
    tasks = [
        {"ansible.builtin.command": "true"},
        {"ansible.builtin.copy": {"dest": "~/file", "content": "", "mode": "0600"}},
        {"ansible.builtin.setup": {}},
        {"ansible.builtin.shell": "echo x > ~/other"},
        {"ansible.builtin.command": "true", "become": True},
    ] * 3
    mark, began = sshd.mark(), time.time()
    run = ansible.tasks(tasks, {"h": target}, env={"PMITOGEN_LOG": "debug"}).check()
    assert sshd.sessions(mark) == 1, f"after {time.time() - began:.1f} s"
    assert "is resent" not in run.output
