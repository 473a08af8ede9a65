"""Costs of a normal run: started programs, connections, sessions, escalations, and changes to Ansible itself."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]

OTHER_STRATEGIES = [pytest.param(name, marks=pytest.mark.slow) for name in ("free", "host_pinned")]
# One task of each kind: facts, a template, copies in both directions, a shell, a stat, a wait, and all of them again as root.
MIX: list[dict[str, Any]] = [
    {"name": "facts", "ansible.builtin.setup": {"gather_subset": ["min"]}},
    {"name": "command", "ansible.builtin.command": "id -un"},
    {"name": "copy", "ansible.builtin.copy": {"content": "one\n", "dest": "~/{{ inventory_hostname }}.txt"}},
    {"name": "template", "ansible.builtin.template": {"src": "t.j2", "dest": "~/{{ inventory_hostname }}.txt"}},
    {"name": "fetch", "ansible.builtin.fetch": {"src": "~/{{ inventory_hostname }}.txt", "dest": "got/"}},
    {"name": "stat", "ansible.builtin.stat": {"path": "~/{{ inventory_hostname }}.txt"}},
    {"name": "raw", "ansible.builtin.raw": "echo raw"},
    {"name": "script", "ansible.builtin.script": "s.sh word"},
    {"name": "root", "ansible.builtin.command": "id -un", "become": True},
    {"name": "root-stat", "ansible.builtin.stat": {"path": "/root"}, "become": True},
    {"name": "root-copy", "ansible.builtin.copy": {"content": "two\n", "dest": "{{ home }}/root.txt"}, "become": True},
    {"name": "other", "ansible.builtin.command": "id -un", "become": True, "become_user": "games"},
    {"name": "gone", "ansible.builtin.file": {"path": "{{ home }}/root.txt", "state": "absent"}, "become": True},
]
FILES = {"t.j2": "host {{ inventory_hostname }}\n", "s.sh": '#!/bin/sh\necho "script $1"\n'}


def _with_wrapper(ansible: Ansible, directory: Path, text: str) -> Ansible:
    """The same core, with its Python started by a wrapper."""
    wrapper = directory / "python"
    wrapper.write_text("#!/bin/sh\n" + text)
    wrapper.chmod(0o755)
    return Ansible(ansible.core, wrapper, ansible.directory)


@pytest.mark.needs_program("strace")
@pytest.mark.one_core
def test_no_ssh_program_is_executed(ansible: Ansible, sshd: Sshd, account: Account, short_path: Path) -> None:
    trace = short_path / "trace"
    traced = _with_wrapper(
        ansible, short_path, f'exec strace -f --seccomp-bpf -qq -e trace=execve,execveat -o {trace} {ansible.python} "$@"\n'
    )
    host = ansible.target(sshd, account, home=str(account.home))
    run = traced.tasks(MIX, {"h": host}, files=FILES).check()
    assert {task.kind for task in run.tasks} == {"ok"}
    programs = {Path(name).name for name in re.findall(r'execve\("([^"]+)"', trace.read_text())}
    assert any(name.startswith("python") for name in programs), "strace saw nothing"
    assert not programs & {"ssh", "scp", "sftp", "sshpass", "ssh-agent", "ssh-add", "ssh-keygen"}, programs


# Runs under a core's Python: lists all classes and functions of Ansible before and after the plugin is used.
UNPATCHED = """
import importlib, json, sys, types
from ansible.plugins.loader import init_plugin_loader, connection_loader, become_loader
init_plugin_loader()
for name in ("executor.task_executor", "executor.task_queue_manager", "executor.module_common", "executor.play_iterator",
             "executor.process.worker", "plugins.action", "plugins.connection", "plugins.connection.ssh",
             "plugins.connection.local", "plugins.become",
             "plugins.become.sudo", "plugins.shell", "plugins.shell.sh", "plugins.strategy",
             "plugins.strategy.linear",
             "playbook.task", "playbook.play_context", "config.manager", "utils.display", "module_utils.basic", "template",
             "vars.manager", "inventory.manager", "cli.playbook"):
    importlib.import_module("ansible." + name)

def seen():
    found = {}
    for name, module in list(sys.modules.items()):
        if name != "ansible" and not name.startswith("ansible."):
            continue
        for key, value in vars(module).items():
            if isinstance(value, (type, types.FunctionType)):
                found[name, key] = value
            if isinstance(value, type) and value.__module__ == name:
                for word, member in vars(value).items():
                    if callable(member) or isinstance(member, (property, classmethod, staticmethod)):
                        found[name, key, word] = member
    return found

before = seen()
options = json.loads(sys.argv[1])
from ansible.playbook.play_context import PlayContext
context = PlayContext()
context.remote_addr = options["host"]
connection = connection_loader.get("pmitogen", context, "/dev/null")
connection.set_options(direct=options)
become = become_loader.get("sudo")
become.set_options(direct={})
connection.set_become_plugin(None)
assert connection.exec_command("/bin/sh -c 'echo hi'")[1].strip() == b"hi"
connection.set_become_plugin(become)
assert connection.exec_command(connection.become.build_become_command("/bin/sh -c 'id -u'", connection._shell))[1].strip() == b"0"
connection.reset()
connection.close()
after = seen()
print(len(before), [key for key in before if after.get(key) is not before[key]])
"""


def test_nothing_of_ansible_is_patched(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    options = {
        "host": sshd.host,
        "port": sshd.port,
        "remote_user": account.name,
        "private_key_file": str(sshd.key.path),
        "ssh_common_args": f"-o UserKnownHostsFile={sshd.known_hosts} -o GlobalKnownHostsFile=/dev/null",
    }
    done = subprocess.run(
        [ansible.python, "-c", UNPATCHED, json.dumps(options)],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env=ansible.environment(),
    )
    assert done.returncode == 0, done.stderr
    count, _, changed = done.stdout.partition(" ")
    assert changed.strip() == "[]"
    assert int(count) > 1500


@pytest.mark.newest_core
def test_pmitogen_causes_no_deprecation_warning(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    """No file of pmitogen causes a warning of Ansible or Python."""
    env = {"ANSIBLE_DEPRECATION_WARNINGS": "1", "ANSIBLE_SYSTEM_WARNINGS": "1"}
    hosts = {"h": ansible.target(sshd, account, home=str(account.home))}
    run = ansible.tasks(
        [*MIX, {"name": "reset", "ansible.builtin.meta": "reset_connection"}, MIX[1]], hosts, files=FILES, env=env
    )
    assert run.rc == 0 and not run.warnings, run.output
    run = ansible.tasks(MIX[:3], hosts, env={**env, "PYTHONWARNINGS": "always"})
    assert run.rc == 0 and not re.findall(r"^.*pmitogen/.*Warning.*$", run.output, re.M), run.output


SPY = """
import sys
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        result = self._execute_module("ansible.builtin.ping", module_args={}, task_vars=task_vars)
        found = self._execute_module("ansible.builtin.stat", module_args={"path": "/"}, task_vars=task_vars)
        unwanted = ("paramiko", "mitogen")
        return {"pong": result.get("ping"), "isdir": found["stat"]["isdir"],
                "ours": sorted(n for n in sys.modules if n.startswith("pmitogen")),
                "heavy": sorted(n for n in sys.modules if n.partition(".")[0] in unwanted)}
"""


@pytest.mark.newest_core
def test_workers_import_neither_paramiko_nor_mitogen(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    """Only modules that the core itself imports are loaded; a local task shows which those are."""
    tasks = [{"name": "spy", "spy": {}}, {"name": "local", "spy": {}, "connection": "local"}]
    run = ansible.tasks(tasks, {"h": ansible.target(sshd, account)}, files={"action_plugins/spy.py": SPY}).check()
    ours, local = run.task("spy"), run.task("local")
    assert ours["pong"] == "pong" and ours["isdir"]
    assert not set(ours["heavy"]) - set(local["heavy"])
    assert "pmitogen.hub.client" in ours["ours"] and "pmitogen.hub.registry" not in ours["ours"]


@pytest.mark.parametrize("strategy", ["linear", *OTHER_STRATEGIES])
@pytest.mark.usefixtures("still_accounts")
def test_one_connection_one_session_one_sudo(
    ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account], strategy: str
) -> None:
    """Twenty workers request one host and its accounts at the same moment."""
    account = make_account(sudo="nopasswd")
    mark = sshd.mark()
    host = ansible.target(sshd, account, home=str(account.home))
    hosts = {f"name{index}": host for index in range(20)}
    tasks = [MIX[1], MIX[8], MIX[5], MIX[11], MIX[9]]
    run = ansible.tasks(tasks, hosts, args=["-f", "20"], play={"strategy": strategy}).check()
    assert [task.kind for task in run.tasks] == ["ok"] * 100
    assert {task["stdout"] for task in run.tasks if task.task == "command"} == {account.name}
    assert {task["stdout"] for task in run.tasks if task.task == "root"} == {"root"}
    assert {task["stdout"] for task in run.tasks if task.task == "other"} == {"games"}
    assert (sshd.connections(mark), sshd.sessions(mark)) == (1, 1)
    assert account.sudo_uses() == 2  # root, games


@pytest.mark.one_core
@pytest.mark.parametrize("strategy", ["linear", *OTHER_STRATEGIES])
@pytest.mark.usefixtures("still_accounts")
def test_each_host_has_one_connection_and_one_session(
    ansible: Ansible, make_sshd: Callable[..., Sshd], make_account: Callable[..., Account], strategy: str
) -> None:
    account = make_account(sudo="nopasswd")
    server = make_sshd(addresses=[f"127.0.1.{index}" for index in range(1, 9)])
    hosts = {
        address: ansible.target(server, account, ansible_host=address, home=str(account.home)) for address in server.addresses
    }
    run = ansible.tasks(MIX[:10], hosts, args=["-f", "20"], play={"strategy": strategy}, files=FILES).check()
    assert [task.kind for task in run.tasks] == ["ok"] * 80
    assert (server.connections(), server.sessions()) == (8, 8)
    assert account.sudo_uses() == 8
