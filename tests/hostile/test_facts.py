"""Answers of a target set no option on the controller: plays with a hostile module, compared with Ansible's ssh plugin.

Each host of the play has one misbehaviour: the answer to its first task has facts, or other keys, that a later task could use as
options. A valid module, a command and a become task follow. If the controller runs a program of the target, a file appears.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pmitogen.ansible.options.register import options_for
from tests.support.accounts import Account
from tests.support.ansible import Ansible, Run
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.needs_ansible]

# Prints the entry with its name from a file on the target: any answer of a hostile target, for any module.
EVIL = """#!/usr/bin/python3
# WANT_JSON
import json, sys
arguments = json.load(open(sys.argv[1]))
print(json.dumps(json.load(open(arguments["file"]))[arguments["name"]]))
"""
TASKS: list[dict[str, Any]] = [
    {"name": "evil", "evil": {"file": "{{ answers }}", "name": "{{ which }}"}},
    {"name": "module", "ansible.builtin.ping": None},
    {"name": "command", "ansible.builtin.command": "id -un", "changed_when": False},
    {"name": "root", "ansible.builtin.command": "id -un", "become": True, "changed_when": False},
    {"name": "shown", "ansible.builtin.debug": {"msg": "template: {{ template | default('none') }}"}},
]


def _proxy(mark: Path) -> str:
    return f"-o ProxyCommand='touch {mark}; false'"


def _answers(mark: Path) -> dict[str, dict[str, Any]]:
    """Host name -> the answer of its first task."""
    pipe = "{{ lookup('ansible.builtin.pipe', 'touch %s') }}" % mark
    program = str(mark.with_suffix(".sh"))
    names = sorted({entry["name"] for option in options_for("pmitogen").values() for entry in option.get("vars", ())})
    bare = ["ssh_args", "ssh_common_args", "ssh_extra_args", "ssh_executable", "ssh_port", "host", "port", "timeout"]
    facts: dict[str, dict[str, Any]] = {
        "bare": dict.fromkeys(bare, _proxy(mark)),
        "bare-port": {"ssh_port": 1},
        "options": dict.fromkeys(names, _proxy(mark)),
        "templates": {**dict.fromkeys([*bare, *names], pipe), "template": pipe, "ansible_template": pipe},
        "programs": dict.fromkeys([f"ansible_{name}_executable" for name in ("ssh", "sftp", "scp")], program),
        "connection": {"ansible_connection": "local", "connection": "local", "ansible_module_compression": "none"},
        "place": {"ansible_host": "127.0.0.9", "ansible_port": 1, "ansible_user": "nobody"},
        "name": {"inventory_hostname": "127.0.0.9", "ansible_delegated_vars": {"name": {"ansible_host": "127.0.0.9"}}},
        "become": {"ansible_become_exe": program, "ansible_become_method": "su", "ansible_become_user": "nobody"},
        "interpreter": {"ansible_python_interpreter": program, "ansible_pmitogen_boot_python": [program]},
        "shell": {"ansible_shell_executable": program, "ansible_shell_type": "powershell"},
        "unread": {"ansible_private_key": "x", "ansible_host_key_checking": False, "ansible_ssh_host_key_checking": False},
    }
    answers: dict[str, dict[str, Any]] = {name: {"ansible_facts": found} for name, found in facts.items()}
    answers["keys"] = {
        "_ansible_delegated_vars": {"ansible_host": "127.0.0.9", "ansible_connection": "local"},
        "ansible_delegated_vars": {"keys": {"ansible_ssh_common_args": _proxy(mark)}},
        "changed": True,
        "add_host": {"host_name": "keys", "groups": ["all"], "host_vars": {"ansible_ssh_extra_args": _proxy(mark)}},
        "add_group": {"ansible_ssh_extra_args": _proxy(mark)},
        "invocation": {"ssh_common_args": _proxy(mark)},
        "ssh_common_args": _proxy(mark),
        "ansible_ssh_common_args": _proxy(mark),
        "ansible_facts": {"ansible_facts": {"ansible_ssh_common_args": _proxy(mark)}},
    }
    return answers


def _on_the_target(mark: Path) -> dict[str, dict[str, Any]]:
    """Facts for variables of Ansible's own shell and become plugins, which every release keeps: they act on the target."""
    pipe = "{{ lookup('ansible.builtin.pipe', 'touch %s') }}" % mark
    facts: dict[str, dict[str, Any]] = {
        "tmp": {"ansible_remote_tmp": "~/other/tmp", "ansible_async_dir": "~/other/async"},
        "tmp-shell": {"ansible_remote_tmp": f"~/$(touch {mark})", "ansible_system_tmpdirs": [f"/tmp/`touch {mark}`"]},
        "tmp-template": {"ansible_remote_tmp": pipe, "ansible_admin_users": [pipe]},
        "exe": {"ansible_sudo_exe": f"touch {mark};"},
        "flags": {"ansible_sudo_flags": f"-H; touch {mark}"},
        "flags-template": {"ansible_sudo_flags": pipe, "ansible_sudo_user": pipe},
        "user": {"ansible_sudo_user": "nobody-of-that-name"},
        "chdir": {"ansible_sudo_chdir": "/nonexistent"},
        "found": {"discovered_interpreter_python": "/usr/bin/env", "ansible_discovered_interpreter_python": "/bin/false"},
    }
    return {name: {"ansible_facts": found} for name, found in facts.items()}


class Hostile:
    """A host for each answer. The login account cannot write the file ``mark``, so only a program of the controller makes it."""

    def __init__(self, ansible: Ansible, sshd: Sshd, account: Account, directory: Path) -> None:
        self._ansible = ansible
        self.mark = directory / "mark"
        self.answers = _answers(self.mark)
        self.on_target = _on_the_target(self.mark)
        file = account.home / "answers.json"
        file.write_text(json.dumps({**self.answers, **self.on_target}))
        self.mark.with_suffix(".sh").write_text(f"#!/bin/sh\ntouch {self.mark}\nexit 255\n")
        self.mark.with_suffix(".sh").chmod(0o755)
        directory.chmod(0o700)
        # The hosts have no connection variables, because those would take precedence over facts.
        names = [*self.answers, *self.on_target]
        self.hosts = {name: {"which": name, "answers": str(file), "ansible_host": sshd.host} for name in names}
        self._env = {
            "ANSIBLE_REMOTE_PORT": str(sshd.port),
            "ANSIBLE_REMOTE_USER": account.name,
            "ANSIBLE_PRIVATE_KEY_FILE": str(sshd.key.path),
            "ANSIBLE_SSH_COMMON_ARGS": ansible.target(sshd, account)["ansible_ssh_common_args"],
            "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        }

    def select(self, *names: str) -> None:
        """Use these answers only."""
        self.answers = {name: self.answers[name] for name in names}
        self.hosts = {name: self.hosts[name] for name in names}

    def run(self, connection: str, tasks: list[dict[str, Any]] = TASKS, **env: str) -> Run:
        options: dict[str, Any] = {"files": {"library/evil.py": EVIL}, "args": ["-f", "4"], "connection": connection}
        return self._ansible.tasks(tasks, self.hosts, env={**self._env, **env}, **options)


@pytest.fixture
def hostile(ansible: Ansible, sshd: Sshd, account: Account, tmp_path: Path) -> Hostile:
    return Hostile(ansible, sshd, account, tmp_path)


def _outcome(run: Run) -> dict[tuple[str, str], Any]:
    """The status and the output of each task."""
    return {
        (task.host, task.task): (task.kind, task.result.get("stdout") or task.result.get("ping") or task.result.get("msg"))
        for task in run.tasks
        if task.task != "evil"
    }


def _check(run: Run, hostile: Hostile, account: Account) -> None:
    found = _outcome(run)
    assert not hostile.mark.exists(), run.output
    for host in hostile.answers:
        assert found[host, "module"] == ("ok", "pong"), run.output
        assert found[host, "command"] == ("ok", account.name), run.output
        assert found[host, "root"] == ("ok", "root"), run.output
    assert not run.ssh_programs
    assert all("Traceback" not in str(outcome) for outcome in found.values())


@pytest.mark.newest_core
@pytest.mark.parametrize("connection", ["pmitogen", "pmitogen.core.ssh"])
def test_no_answer_of_a_target_becomes_an_option(hostile: Hostile, account: Account, connection: str) -> None:
    env = {"ANSIBLE_CONNECTION_PLUGINS": "/nonexistent"} if "." in connection else {}
    if env:
        hostile.select("bare", "options", "interpreter", "unread")
    run = hostile.run(connection, **env)
    _check(run, hostile, account)
    for name in ("ssh_common_args", "ansible_private_key", "ansible_host_key_checking"):
        assert run.stderr.replace("\n", " ").count(f"The variable {name} is not read over pmitogen") == 1, run.stderr


@pytest.mark.newest_core
def test_no_answer_becomes_an_option_through_the_fact_cache(hostile: Hostile, account: Account, tmp_path: Path) -> None:
    env = {"ANSIBLE_CACHE_PLUGIN": "jsonfile", "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(tmp_path / "cache")}
    hostile.select("bare", "options", "templates")
    hostile.run("pmitogen", TASKS[:1], **env)
    _check(hostile.run("pmitogen", TASKS[1:], **env), hostile, account)


@pytest.mark.newest_core
def test_no_answer_becomes_an_option_of_another_host(hostile: Hostile, account: Account) -> None:
    """Facts of a delegated task belong to the delegating host, or with delegate_facts to the other."""
    hostile.select("bare", "options", "name", "connection")
    keys = {"delegate_to": "bare", "delegate_facts": "{{ which in ['options', 'name'] }}"}
    run = hostile.run("pmitogen", [{**TASKS[0], **keys}, *TASKS[1:]])
    _check(run, hostile, account)


@pytest.mark.slow
def test_results_are_those_of_the_ssh_plugin(hostile: Hostile) -> None:
    for name in ("unread", "programs"):  # these have an effect over ssh
        del hostile.answers[name], hostile.hosts[name]
    ours, theirs = (_outcome(hostile.run(name, ANSIBLE_PIPELINING="1")) for name in ("pmitogen", "ssh"))
    assert not hostile.mark.exists()
    different = {key for key in ours if ours[key] != theirs.get(key)}
    # Over ssh, the error of a missing sudo is in the module's result; over pmitogen it is the task's message.
    assert {key for key in different if ours[key][0] != theirs.get(key, ("",))[0]} == set()
    assert {host for host, _ in different} <= {
        "exe",
        "flags",
        "flags-template",
        "user",
        "chdir",
        "tmp-shell",
        "tmp-template",
        "found",
    }


@pytest.mark.newest_core
def test_a_target_cannot_change_its_name(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    """If only the inventory name gives the address, a fact with another name does not redirect the next task."""
    file = account.home / "name.json"
    file.write_text(json.dumps({"x": {"ansible_facts": {"inventory_hostname": "127.0.0.9"}}}))
    target = ansible.target(sshd, account, answers=str(file), which="x", ansible_python_interpreter="/usr/bin/python3")
    del target["ansible_host"]
    run = ansible.tasks(TASKS[:3], {sshd.host: target}, files={"library/evil.py": EVIL}).check()
    assert run.task("command")["stdout"] == account.name
