"""An interpreter named for a task is started only in the account of that task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_api import connect
from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.becoming import SYSTEM_PYTHON, becoming
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]


def recording_python(account: Account, notes: Path, name: str = "python") -> str:
    """Create a Python in *account*'s home that everybody can run, and that records the account of each start."""
    account.home.chmod(0o755)
    notes.touch()
    notes.chmod(0o666)
    return str(account.write(name, f'#!/bin/sh\nid -un >>{notes}\nexec {SYSTEM_PYTHON} "$@"\n', 0o755))


FIRST: dict[str, list[dict[str, Any]]] = {
    "module": [{"ansible.builtin.command": "id -un"}],
    "facts": [{"ansible.builtin.setup": {"gather_subset": "min"}}],
    "file": [{"ansible.builtin.copy": {"content": "x", "dest": "/dev/null"}, "check_mode": True}],
    "raw": [{"ansible.builtin.raw": "id -un"}],
    "loop": [{"ansible.builtin.command": "id -un", "loop": [1, 2]}],
}


@pytest.mark.newest_core
@pytest.mark.parametrize("delegated", [False, True], ids=["direct", "delegated"])
def test_the_interpreter_of_a_become_task_runs_only_in_its_account(
    delegated: bool, ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account], short_path: Path
) -> None:
    """Also for the first task of a host, whose interpreter would otherwise start with the connection."""
    login, other = make_account(sudo="nopasswd"), make_account()
    hosts, names = {}, list(FIRST)
    for name in names:
        python = recording_python(other, short_path / name, f"python-{name}")
        args = becoming("sudo", other.name, ansible_python_interpreter=python)
        own = f"-o ServerAliveInterval={60 + names.index(name)}"  # forces a separate connection
        hosts[name] = ansible.target(sshd, login, ansible_ssh_extra_args=own, **args)
    tasks = []
    for name in names:
        where = {"delegate_to": name, "run_once": True} if delegated else {"when": f"inventory_hostname == '{name}'"}
        tasks += [{"name": name, **task, **where, "become": True} for task in FIRST[name]]
    if delegated:
        hosts = {"controller": {"ansible_connection": "local"}, **hosts}
    play = {"hosts": "controller" if delegated else "all"}
    ansible.tasks(tasks, hosts, play=play).check()
    for name in names:
        assert set((short_path / name).read_text().split()) <= {other.name}, name
    assert (short_path / "module").read_text()


@pytest.mark.newest_core
def test_the_login_accounts_interpreter_does_not_run_as_root(
    ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account], short_path: Path
) -> None:
    """Root's tasks name no interpreter, and do not use the one that the login's tasks name."""
    login = make_account(sudo="nopasswd")
    python = recording_python(login, short_path / "notes")
    hosts = {"h": ansible.target(sshd, login)}
    tasks = [
        {"name": "login", "ansible.builtin.command": "id -un", "vars": {"ansible_python_interpreter": python}},
        {"name": "raw", "ansible.builtin.raw": "id -un", "become": True},
        {"name": "script", "ansible.builtin.script": "who.sh", "become": True},
        {
            "name": "module",
            "ansible.builtin.command": "id -un",
            "become": True,
            "vars": {"ansible_python_interpreter": SYSTEM_PYTHON},
        },
    ]
    run = ansible.tasks(tasks, hosts, files={"who.sh": "#!/bin/sh\nid -un\n"}).check()
    assert [run.task(name)["stdout"].strip() for name in ("raw", "script", "module")] == ["root"] * 3
    assert set((short_path / "notes").read_text().split()) == {login.name}


def test_an_interpreter_in_the_path_of_the_login_does_not_run_as_root(
    sshd: Sshd, make_account: Callable[..., Account], short_path: Path
) -> None:
    """The login uses it; root's interpreter is one that only root can change."""
    login = make_account(sudo="nopasswd")
    recording_python(login, short_path / "notes", "bin/python3.14")
    login.write(".bashrc", f"PATH={login.home}/bin:$PATH\n")
    with connect(sshd, login) as host:
        host.ping()  # starts Python
        assert (short_path / "notes").read_text().split() == [login.name]
        assert host.become("root").run("id -un").stdout == b"root\n"
    with connect(sshd, login, python=str(login.home / "bin/python3.14")) as host:  # explicitly named
        assert host.become("root").run("id -un").stdout == b"root\n"
    assert (short_path / "notes").read_text().split() == [login.name, login.name, "root"]
