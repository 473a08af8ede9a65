"""The connection is made while Ansible builds the first payload: see ``connect_early`` in pmitogen/ansible/hub_session.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import Account
from tests.support.ansible import Ansible, Run
from tests.support.session import repository
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.optimised]

PYTHON = "/usr/bin/python3"
# Announces a module, as Ansible does before it builds one; waits until sshd's log contains a text, or *limit* seconds (then it
# fails if *must* is set); may then change an option; and runs the module.
ACTION = """
import time
from ansible import constants
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        args, self._task.args = self._task.args, {}
        self._connection.is_pipelining_enabled()
        until, seen = time.monotonic() + args.get("limit", 10), False
        while args.get("log") and not seen and time.monotonic() < until:
            with open(args["log"]) as stream:
                stream.seek(args["since"])
                seen = stream.read().count(args["word"]) >= args.get("times", 1)
            time.sleep(0.02)
        if args.get("must") and not seen:
            raise AnsibleError("nobody connected")
        if args.get("options"):
            names = constants.config.get_plugin_vars("connection", self._connection._load_name)
            known = {name: self._templar.template(task_vars[name]) for name in names if name in task_vars}
            self._connection.set_options(var_options=known, direct=args["options"])
        self._task.args = {"_raw_params": "id -un"}
        return dict(self._execute_module("ansible.builtin.command", task_vars=task_vars), seen=seen)
"""


def _play(ansible: Ansible, hosts: dict[str, dict[str, Any]], tasks: list[dict[str, Any]], **env: str) -> Run:
    files = {"action_plugins/foreseen.py": ACTION, "library/foreseen.py": "#!/usr/bin/python\n"}
    return ansible.tasks(tasks, hosts, files=files, env=env)


def _announced(server: Sshd, word: str = "Accepted publickey", **more: Any) -> dict[str, Any]:
    return {"name": "who", "foreseen": {"log": str(server.log_path), "since": server.mark(), "word": word, **more}}


@pytest.mark.parametrize("place", ["variable", "environment"])
def test_connected_before_the_payload_is_there(place: str, ansible: Ansible, sshd: Sshd, account: Account) -> None:
    since = sshd.mark()
    named = {"ansible_python_interpreter": PYTHON} if place == "variable" else {}
    env = {"ANSIBLE_PYTHON_INTERPRETER": PYTHON} if place == "environment" else {}
    tasks = [_announced(sshd), {"name": "next", "ansible.builtin.command": "id -un"}]
    run = _play(ansible, {"h": ansible.target(sshd, account, **named)}, tasks, **env).check()
    assert run.task("who")["seen"], "no connection was made early"
    assert run.task("who")["stdout"] == run.task("next")["stdout"] == account.name
    assert (sshd.connections(since), sshd.sessions(since)) == (1, 1)


@pytest.mark.one_core
@pytest.mark.parametrize("named", ["auto", "{{ later }}", "env python3"])
def test_not_connected_before_the_interpreter_is_known(named: str, ansible: Ansible, sshd: Sshd, account: Account) -> None:
    host = ansible.target(sshd, account, ansible_python_interpreter=named, later=PYTHON)
    run = _play(ansible, {"h": host}, [_announced(sshd, limit=1.5)])
    assert not run.task("who")["seen"]
    assert named == "env python3" or run.task("who")["stdout"] == account.name


@pytest.mark.one_core
def test_a_host_that_has_answered_is_not_connected_early(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    """The host is connected; if the connection has ended since, the first request makes another."""
    tasks = [
        {"name": "first", "ansible.builtin.command": "id -un"},
        {"name": "end", "ansible.builtin.shell": f"pkill -f 'ssh[d]: {account.name}@'; sleep 5", "ignore_unreachable": True},
        _announced(sshd, "Accepted publickey", limit=1.5, times=2),
        {"name": "reset", "ansible.builtin.meta": "reset_connection"},
        {**_announced(sshd, "Accepted publickey", times=3), "name": "again"},
    ]
    run = _play(ansible, {"h": ansible.target(sshd, account, ansible_python_interpreter=PYTHON)}, tasks)
    assert run.task("end").kind == "unreachable"
    assert not run.task("who")["seen"] and run.task("who")["stdout"] == account.name
    assert run.task("again")["seen"]


@pytest.mark.parametrize("delegated", [False, True], ids=["own", "delegated"])
def test_a_first_task_without_a_module_starts_the_interpreter_for_modules(
    delegated: bool, ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]
) -> None:
    """No second interpreter starts later; the log line of a further interpreter ends with a size of 0."""
    account = make_account()
    tasks: list[dict[str, Any]] = [
        {"name": "copy", "ansible.builtin.copy": {"content": "x", "dest": "~/x"}},
        {"name": "look", "ansible.builtin.shell": "ps -ww -u $(id -un) -o args= | grep '[z]lib,base64'"},
    ]
    hosts = {"h": ansible.target(sshd, account, ansible_python_interpreter=PYTHON)}
    if delegated:
        hosts = {"first": {"ansible_host": "192.0.2.1", "ansible_python_interpreter": "/nonexistent/python3"}, **hosts}
        tasks = [{**task, "delegate_to": "h", "run_once": True} for task in tasks]
    run = _play(ansible, hosts, tasks).check()
    lines = run.task("look")["stdout_lines"]
    assert lines and not [line for line in lines if line.endswith(" 0")], lines


@pytest.mark.one_core
def test_pmitogen_preload_0_turns_early_connecting_off(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    host = ansible.target(sshd, account, ansible_python_interpreter=PYTHON)
    run = _play(ansible, {"h": host}, [_announced(sshd, limit=1.5)], PMITOGEN_PRELOAD="0").check()
    assert not run.task("who")["seen"] and run.task("who")["stdout"] == account.name


@pytest.mark.one_core
def test_an_interpreter_by_a_template_of_a_later_result_works(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    """Tasks without Python run before the variable in the interpreter's name is defined."""
    tasks: list[dict[str, Any]] = [
        {"name": "raw", "ansible.builtin.raw": f"echo {PYTHON}", "register": "said"},
        {"name": "who", "ansible.builtin.command": "id -un"},
    ]
    host = ansible.target(sshd, account, ansible_python_interpreter="{{ said.stdout | trim }}")
    assert _play(ansible, {"h": host}, tasks).check().task("who")["stdout"] == account.name


@pytest.mark.one_core
@pytest.mark.parametrize("meanwhile", ["Failed password", "Connection closed by authenticating user"])
def test_a_failed_early_login_is_not_repeated_for_its_task(
    meanwhile: str, ansible: Ansible, make_sshd: Callable[..., Sshd], account: Account
) -> None:
    """The first task gets the failure, whether it comes before its request or after; the next task tries again."""
    server = make_sshd()
    wrong = {
        "ansible_host": server.host,
        "ansible_port": server.port,
        "ansible_user": account.name,
        "ansible_password": "wrong",
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={server.known_hosts} -o PubkeyAuthentication=no",
        "ansible_python_interpreter": PYTHON,
    }
    tasks = [
        {**_announced(server, meanwhile, must=True), "ignore_unreachable": True},
        {"name": "next", "ansible.builtin.command": "id -un", "ignore_unreachable": True},
    ]
    run = _play(ansible, {"h": wrong}, tasks)
    first, second = run.task("who"), run.task("next")
    assert first.kind == second.kind == "unreachable"
    assert "wrong" not in run.output and "password" in first.message and "\n" not in first.message
    assert first.message == second.message
    assert server.connections() == 2, "one attempt for each task"


@pytest.mark.one_core
def test_options_that_change_after_the_early_connection_are_honoured(
    ansible: Ansible, sshd: Sshd, account: Account, make_account: Callable[..., Account]
) -> None:
    other = make_account()
    host = ansible.target(sshd, account, ansible_python_interpreter=PYTHON)
    run = _play(ansible, {"h": host}, [_announced(sshd, options={"remote_user": other.name})]).check()
    assert run.task("who")["seen"] and run.task("who")["stdout"] == other.name


@pytest.mark.one_core
def test_a_missing_interpreter_fails_the_task_and_the_connection_stays(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    """The task fails as over ssh, whichever interpreter started instead, and the connection serves the next one."""
    since = sshd.mark()
    tasks = [
        {**_announced(sshd), "ignore_errors": True},
        {"name": "next", "ansible.builtin.command": "id -un", "vars": {"ansible_python_interpreter": PYTHON}},
    ]
    host = ansible.target(sshd, account, ansible_python_interpreter="/nonexistent/python3")
    run = _play(ansible, {"h": host}, tasks)
    assert run.task("who").kind == "failed" and "/nonexistent/python3" in run.task("who")["module_stderr"]
    assert run.task("next")["stdout"] == account.name and sshd.connections(since) == 1


@pytest.mark.one_core
def test_raw_works_after_an_early_connection_to_a_host_without_python(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    host = ansible.target(sshd, account, ansible_python_interpreter=PYTHON, ansible_pmitogen_boot_python=["/nonexistent/python3"])
    tasks = [{**_announced(sshd, must=True), "ignore_errors": True}, {"name": "raw", "ansible.builtin.raw": "id -un"}]
    run = _play(ansible, {"h": host}, tasks)
    assert "no usable Python" in run.task("who").message
    assert run.task("raw")["stdout"].strip() == account.name


def test_the_reason_why_a_hub_cannot_start_is_reported(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    host = ansible.target(sshd, account, ansible_python_interpreter=PYTHON)
    tasks = [{"name": "who", "ansible.builtin.command": "id -un"}]
    run = _play(ansible, {"h": host}, tasks, PMITOGEN_LOG="loud")
    assert run.task("who").kind == "unreachable"
    assert "PMITOGEN_LOG: loud: invalid level; use one of " in run.task("who").message and "\n" not in run.task("who").message


@pytest.mark.one_core
def test_a_missing_paramiko_is_reported(ansible: Ansible, tmp_path: Path) -> None:
    """Removing Paramiko would disturb other tests, so its import is made to fail in the run's processes."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['paramiko'] = None\n")
    run = _play(ansible, {"h": {}}, [{"name": "who", "ansible.builtin.command": "id -un"}], PYTHONPATH=f"{tmp_path}:{repository}")
    assert run.task("who").kind == "unreachable"
    assert "the hub cannot start" in run.task("who").message and "paramiko" in run.task("who").message
