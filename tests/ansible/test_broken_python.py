"""A login account whose Python fails at its start: its error output is shown, and tasks have the same results as over ssh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.becoming import PLUGINS, SYSTEM_PYTHON, becoming
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.newest_core]

RAISES = "raise ImportError('broken on purpose')\n"
# Point of failure -> a file on PYTHONPATH.
BROKEN = {
    "loader": ("json.py", RAISES),
    "boot": ("socket.py", RAISES),
    "runner": ("shutil.py", RAISES),
    "agent": ("errno.py", RAISES),
    "exits": ("sitecustomize.py", "import os\nos.write(2, b'broken on purpose\\n')\nos._exit(3)\n"),
    "dies": ("sitecustomize.py", "import os\nos.write(2, b'broken on purpose\\n')\nos.kill(os.getpid(), 11)\n"),
}
BECOME: list[dict[str, Any]] = [
    {"name": "raw", "ansible.builtin.raw": "id -un"},
    {"name": "module", "ansible.builtin.command": "id -un"},
    {"name": "copy", "ansible.builtin.copy": {"content": "x", "dest": "{{ dest }}", "mode": "0640"}},
    {"name": "script", "ansible.builtin.script": "who.sh"},
    {"name": "fetch", "ansible.builtin.fetch": {"src": "{{ dest }}", "dest": "fetched", "flat": True}},
    {"name": "gone", "ansible.builtin.file": {"path": "{{ dest }}", "state": "absent"}},
]
LOGIN: list[dict[str, Any]] = [
    {"name": "login raw", "ansible.builtin.raw": "id -un"},
    {"name": "login module", "ansible.builtin.command": "id -un", "ignore_errors": True},
]


WHERE = [("boot", 2), *(pytest.param(where, 9, marks=pytest.mark.slow) for where in BROKEN)]


@pytest.mark.parametrize(("where", "most"), WHERE)
@pytest.mark.needs_program("ssh", "sftp")
def test_tasks_have_the_results_that_they_have_over_ssh(
    where: str, most: int, ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]
) -> None:
    login, other = make_account(sudo="nopasswd"), make_account()
    asked = make_account(sudo="password", password="login s3cret")
    name, code = BROKEN[where]
    for account in (login, asked):
        account.write(f"site/{name}", code)
        account.write(".bashrc", f"export PYTHONPATH={account.home}/site\n")
    ways = {
        "asked": (asked, becoming("sudo", "root", "login s3cret")),
        "sudo": (login, becoming("sudo", "root")),
        "other": (login, becoming("sudo", other.name)),
        "custom": (login, becoming("silent", "root")),
    }
    ways = dict(list(ways.items())[:most])
    found = {}
    for connection in ("ssh", "pmitogen"):
        hosts = {
            host: ansible.target(
                sshd,
                account,
                ansible_python_interpreter=SYSTEM_PYTHON,
                dest=f"/var/tmp/{login.name}-{connection}-{host}",
                **options,
            )
            for host, (account, options) in ways.items()
        }
        tasks = [{**task, "become": True} for task in BECOME if most > 2 or task["name"] in ("module", "copy", "gone")] + LOGIN[
            -most + 1 :
        ]
        env = {"ANSIBLE_BECOME_PLUGINS": str(PLUGINS)}
        run = ansible.tasks(tasks, hosts, connection=connection, env=env, files={"who.sh": "#!/bin/sh\nid -un\n"})
        found[connection] = {
            (host, task["name"]): (
                run.task(task["name"], host).kind,
                str(run.task(task["name"], host).result.get("stdout", "")).strip(),
                run.task(task["name"], host).result.get("mode"),
            )
            for host in ways
            for task in tasks
            if any(each.task == task["name"] and each.host == host for each in run.tasks)
        }
        assert len(found[connection]) == len(ways) * len(tasks), run.output
    ours, theirs = found["pmitogen"], found["ssh"]
    assert not [(name, ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]], run.output


@pytest.mark.parametrize("where", ["loader", pytest.param("exits", marks=pytest.mark.slow)])
def test_the_error_output_of_the_interpreter_is_shown(
    where: str, ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]
) -> None:
    login = make_account()
    name, code = BROKEN[where]
    login.write(f"site/{name}", code)
    login.write(".bashrc", f"export PYTHONPATH={login.home}/site\n")
    hosts = {"h": ansible.target(sshd, login, ansible_python_interpreter=SYSTEM_PYTHON)}
    run = ansible.tasks([{"name": "module", "ansible.builtin.ping": {}}], hosts, args=["-vvvv"])
    assert "Python does not start" in run.output and "broken on purpose" in run.output
