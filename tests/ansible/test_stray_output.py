"""Unrequested output of login shells and servers, and unusual accounts, do not disturb tasks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.programs import find_program
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]

TASKS: list[dict[str, Any]] = [
    {"name": "facts", "ansible.builtin.setup": {"gather_subset": ["!all", "user"]}},
    {"name": "command", "ansible.builtin.command": "id -un"},
    {"name": "shell", "ansible.builtin.shell": "echo out; echo err >&2"},
    {"name": "raw", "ansible.builtin.raw": "echo 'one two'"},
    {
        "name": "copy",
        "ansible.builtin.copy": {"content": "text\n", "dest": "/tmp/noise-{{ inventory_hostname }}-{{ ansible_user }}"},
    },
    {
        "name": "gone",
        "ansible.builtin.file": {"path": "/tmp/noise-{{ inventory_hostname }}-{{ ansible_user }}", "state": "absent"},
    },
    {"name": "root", "ansible.builtin.command": "id -un", "become": True},
]
SH_NOISE = """
echo "Welcome! Your quota is 5%."; echo "PMITOGEN-0 ready"; echo "warning: old shell" >&2
head -c 200000 /dev/zero | tr '\\0' 'x'; printf 'no newline at the end'
stty -echo 2>/dev/null; tput clear 2>/dev/null
"""
FULL_PATH = "export PATH=" + ":".join(f"/opt/number{index}/bin" for index in range(400)) + ":/usr/bin:/bin:/usr/sbin:/sbin\n"
CSH_NOISE = "echo Welcome to csh\nprintf 'again and again'\n"
FISH_NOISE = "echo Welcome to fish; printf 'no newline'; echo oops >&2\n"
BROKEN_PYTHON = "#!/bin/sh\necho 'pyenv: python3: command not found' >&2\nexit 127\n"


def _noisy(make_account: Callable[..., Account]) -> dict[str, Account]:
    accounts = {name: make_account(sudo="nopasswd") for name in ("bash", "full-path", "shim", "umask")}
    for name in (".bashrc", ".bash_profile", ".profile"):
        accounts["bash"].write(name, SH_NOISE)
        accounts["full-path"].write(name, FULL_PATH)
        accounts["shim"].write(name, f"export PATH={accounts['shim'].home}/bin:$PATH\n")
        accounts["umask"].write(name, "umask 077; ulimit -n 64; set -eu; cd /\n")
    for version in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
        accounts["shim"].write(f"bin/{version}", BROKEN_PYTHON, 0o755)
    fish, tcsh = find_program("fish"), find_program("tcsh")
    if fish:
        accounts["fish"] = make_account(shell=fish, sudo="nopasswd")
        accounts["fish"].write(".config/fish/config.fish", FISH_NOISE)
    if tcsh:
        accounts["tcsh"] = make_account(shell=tcsh, sudo="nopasswd")
        accounts["tcsh"].write(".cshrc", CSH_NOISE)
        accounts["tcsh"].write(".login", CSH_NOISE)
    accounts["homeless"] = make_account(home=False, sudo="nopasswd")
    accounts["dash"] = make_account(shell="/bin/sh", sudo="nopasswd")
    return accounts


@pytest.mark.one_core
@pytest.mark.usefixtures("still_accounts")
def test_output_of_start_up_files_does_not_disturb_tasks(
    ansible: Ansible, make_sshd: Callable[..., Sshd], make_account: Callable[..., Account], short_path: Path
) -> None:
    banner = short_path / "banner"
    banner.write_text("Unauthorized access is forbidden.\n" * 50)
    server = make_sshd(config=[f"Banner {banner}", "PrintMotd yes", "PrintLastLog yes", "PermitUserEnvironment yes"])
    accounts = _noisy(make_account)
    hosts = {name: ansible.target(server, account) for name, account in accounts.items()}
    hosts["shim"]["ansible_python_interpreter"] = "/usr/bin/python3"  # Ansible's own search also finds the broken interpreter
    hosts["homeless"]["ansible_remote_tmp"] = "/tmp/.ansible-${USER}"
    run = ansible.tasks(TASKS, hosts, args=["-f", "4"])
    failed = {(task.host, task.task): task.message for task in run.tasks if task.kind != "ok"}
    assert not failed, run.output
    for name, account in accounts.items():
        assert run.task("command", name)["stdout"] == account.name
        assert run.task("facts", name)["ansible_facts"]["ansible_user_id"] == account.name
        assert (run.task("shell", name)["stdout"], run.task("shell", name)["stderr"]) == ("out", "err")
        # bash reads ~/.bashrc for every command of sshd; raw runs in the login shell and shows its output, as over ssh.
        assert run.task("raw", name)["stdout"].strip().endswith("one two")
        assert run.task("root", name)["stdout"] == "root"
    assert server.connections() == server.sessions() == len(accounts)
    assert not run.warnings


@pytest.mark.one_core
def test_output_of_the_become_users_profile_does_not_disturb_tasks(
    ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]
) -> None:
    """become starts a login shell, whose profile prints text."""
    account, other = make_account(sudo="nopasswd"), make_account()
    for name in (".bashrc", ".bash_profile"):
        other.write(name, SH_NOISE)
    host = ansible.target(sshd, account, ansible_become_user=other.name)
    tasks = [
        {"name": "sudo -i", "ansible.builtin.command": "id -un", "become": True, "vars": {"ansible_become_flags": "-i"}},
        {
            "name": "su -",
            "ansible.builtin.command": "id -un",
            "become": True,
            "vars": {
                "ansible_become_method": "ansible.builtin.su",
                "ansible_become_flags": "-",
                "ansible_become_password": other.password,
            },
        },
    ]
    run = ansible.tasks(tasks, {"h": host}).check()
    assert [task["stdout"] for task in run.tasks] == [other.name] * 2


@pytest.mark.one_core
def test_bytes_pass_unchanged_on_a_target_without_a_locale(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    """sshd sets no locale, so neither the target's Python nor its shell has one."""
    tasks = [
        {"name": "locale", "ansible.builtin.shell": "echo ${LC_ALL:-}${LC_CTYPE:-}${LANG:-}"},
        {"name": "umlaut", "ansible.builtin.command": "echo gr\u00fcn \u2713"},
        {"name": "raw", "ansible.builtin.raw": "echo gr\u00fcn"},
        {"name": "c", "ansible.builtin.shell": "echo gr\u00fcn", "environment": {"LC_ALL": "C", "LANG": "C"}},
    ]
    run = ansible.tasks(tasks, {"h": ansible.target(sshd, account)}).check()
    assert (
        run.task("umlaut")["stdout"] == "gr\u00fcn \u2713"
        and run.task("raw")["stdout"].strip() == run.task("c")["stdout"] == "gr\u00fcn"
    )
