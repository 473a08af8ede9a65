"""An interpreter that a task names is started in the account of that task, and in no other."""

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


def noting_python(account: Account, notes: Path, name: str = "python") -> str:
    """A Python in *account*'s home that everybody can run, and that notes who does."""
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
def test_an_entered_account(
    delegated: bool, ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account], short_path: Path
) -> None:
    """Also as the first task of a host, whose interpreter would otherwise carry the connection."""
    login, other = make_account(sudo="nopasswd"), make_account()
    hosts, names = {}, list(FIRST)
    for name in names:
        python = noting_python(other, short_path / name, f"python-{name}")
        args = becoming("sudo", other.name, ansible_python_interpreter=python)
        own = f"-o ServerAliveInterval={60 + names.index(name)}"  # a connection of its own
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
def test_the_login_account(ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account], short_path: Path) -> None:
    """What the login's tasks name does not run as root afterwards, where root's tasks name none that it would need."""
    login = make_account(sudo="nopasswd")
    python = noting_python(login, short_path / "notes")
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


def test_one_that_is_found_in_the_path_of_the_login(sshd: Sshd, make_account: Callable[..., Account], short_path: Path) -> None:
    """It carries the connection; root is entered with one that only root can change."""
    login = make_account(sudo="nopasswd")
    noting_python(login, short_path / "notes", "bin/python3.14")
    login.write(".bashrc", f"PATH={login.home}/bin:$PATH\n")
    with connect(sshd, login) as host:
        host.ping()  # Python is there
        assert (short_path / "notes").read_text().split() == [login.name]
        assert host.become("root").run("id -un").stdout == b"root\n"
    with connect(sshd, login, python=str(login.home / "bin/python3.14")) as host:  # the user says so
        assert host.become("root").run("id -un").stdout == b"root\n"
    assert (short_path / "notes").read_text().split() == [login.name, login.name, "root"]
