"""Login shells that are not POSIX: a restricted shell, an appliance's command line. ``raw`` has the same result as over ssh."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.newest_core]

APPLIANCE = """#!/bin/sh
printf '%s\\n' "$*" >> "{log}"
case $2 in
"show version") echo "Appliance 7"; echo "  TERM $TERM" ;;
"show error") echo "% no such thing" >&2; exit 3 ;;
*) echo "% Invalid input detected"; exit 1 ;;
esac
"""
MENU = """#!/bin/sh
printf '%s\\n' "$*" >> "{log}"
[ "$2" = "1" ] && {{ echo "you chose 1"; exit; }}
echo "1) status"
read answer
echo "no such choice"
"""


def _shell(directory: Path, text: str) -> tuple[str, Path]:
    """Create a login shell from a script; return its path and the file to which it appends each of its command lines."""
    shell, log = directory / "shell", directory / "log"
    shell.write_text(text.format(log=log))
    shell.chmod(0o755)
    log.touch()
    log.chmod(0o666)
    return str(shell), log


def _raw(*commands: str) -> list[dict[str, Any]]:
    return [{"name": command, "ansible.builtin.raw": command, "ignore_errors": True} for command in commands]


def _same(ansible: Ansible, hosts: dict[str, dict[str, Any]], tasks: list[dict[str, Any]]) -> None:
    sides = [ansible.tasks(tasks, hosts, connection=connection) for connection in ("ssh", "pmitogen")]
    for task in tasks:
        ssh, ours = (side.task(task["name"]) for side in sides)
        assert ours.kind == ssh.kind and ours.result.get("rc") == ssh.result.get("rc"), (ssh.result, ours.result)
        output = [side.result.get("stdout", "").replace("\r\n", "\n") for side in (ssh, ours)]
        assert output[0] == output[1], (ssh.result, ours.result)


def test_an_appliance_receives_only_the_command_of_raw(
    ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account], short_path: Path
) -> None:
    """Also if the interpreter for modules is known, which otherwise starts with the connection."""
    shell, log = _shell(short_path, APPLIANCE)
    account = make_account(shell=shell)
    hosts = {"h": ansible.target(sshd, account, ansible_python_interpreter="/usr/bin/python3")}
    commands = ["show version", "show error", "reload"]
    _same(ansible, hosts, _raw(*commands))
    assert log.read_text().splitlines() == [f"-c {command}" for command in commands] * 2


def test_a_module_fails_on_an_appliance_and_raw_still_works(
    ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account], short_path: Path
) -> None:
    shell, _ = _shell(short_path, APPLIANCE)
    account = make_account(shell=shell)
    since = sshd.mark()
    tasks = [
        {"name": "module", "ansible.builtin.ping": {}, "ignore_errors": True},
        *_raw("show version"),
        {"name": "again", "ansible.builtin.command": "id", "ignore_errors": True},
        *_raw("show error"),
        {"name": "become", "ansible.builtin.raw": "show version", "become": True, "ignore_errors": True},
    ]
    run = ansible.tasks(tasks, {"h": ansible.target(sshd, account)})
    for name in ("module", "again"):
        message = run.task(name).message
        assert run.task(name).kind == "failed" and "\n" not in message, run.output
        assert "the login shell did not start Python: % Invalid input detected; modules need a login shell" in message
    assert run.task("show version")["stdout_lines"][0] == "Appliance 7" and run.task("show error")["rc"] == 3
    assert run.task("become").kind == "failed" and sshd.connections(since) == 1


def test_a_menu_as_login_shell_fails_a_module_within_the_timeout(
    ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account], short_path: Path
) -> None:
    shell, log = _shell(short_path, MENU)
    account = make_account(shell=shell)
    hosts = {"h": ansible.target(sshd, account, ansible_timeout=3)}
    _same(ansible, hosts, _raw("1"))
    assert log.read_text().splitlines() == ["-c 1", "-c 1"]
    run = ansible.tasks([{"name": "module", "ansible.builtin.ping": {}}], hosts)
    message = run.task("module").message
    assert run.task("module").kind in ("unreachable", "failed") and "\n" not in message and "1) status" in message


def test_raw_in_a_restricted_shell_is_as_over_ssh(ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]) -> None:
    account = make_account(shell="/bin/rbash")
    hosts = {"h": ansible.target(sshd, account)}
    _same(ansible, hosts, _raw("echo $0", "/bin/echo x", "id -un", "cd /"))
    run = ansible.tasks([{"name": "module", "ansible.builtin.ping": {}}], hosts)
    assert run.task("module").kind == "failed" and "restricted" in run.task("module").message


def test_raw_with_nologin_is_as_over_ssh(ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]) -> None:
    account = make_account(shell="/usr/sbin/nologin")
    _same(ansible, {"h": ansible.target(sshd, account)}, _raw("id"))


def test_python_is_started_when_something_needs_it(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    """Before or after raw, at the same time (two names of one host), and as another user."""
    base = ansible.target(sshd, account, ansible_python_interpreter="/usr/bin/python3")
    tasks: list[dict[str, Any]] = [
        {"name": "raw", "ansible.builtin.raw": "echo $$; sleep 1"},
        {"name": "module", "ansible.builtin.command": "id -un"},
        {"name": "root", "ansible.builtin.raw": "id -un", "become": True},
        {"name": "raw again", "ansible.builtin.raw": "id -un"},
        {"name": "file", "ansible.builtin.copy": {"content": "x", "dest": "~/x"}},
    ]
    since = sshd.mark()
    run = ansible.tasks(tasks, {"a": base, "b": dict(base)}, play={"strategy": "free"}, args=["-f", "2"]).check()
    for host in ("a", "b"):
        assert run.task("root", host)["stdout"].strip() == "root"
        assert run.task("raw again", host)["stdout"].strip() == run.task("module", host)["stdout"] == account.name
    assert sshd.connections(since) == 1


def test_raw_in_progress_is_not_disturbed_by_the_start_of_python(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    """The command started before Python does, and ends normally."""
    base = ansible.target(sshd, account, ansible_python_interpreter="/usr/bin/python3")
    tasks = [
        {"name": "raw", "ansible.builtin.raw": "sleep 2; echo done", "when": "inventory_hostname == 'a'"},
        {"name": "pause", "ansible.builtin.raw": "sleep 0.5", "when": "inventory_hostname == 'b'"},
        {"name": "module", "ansible.builtin.command": "id -un", "when": "inventory_hostname == 'b'"},
    ]
    run = ansible.tasks(tasks, {"a": base, "b": dict(base)}, play={"strategy": "free"}, args=["-f", "2"]).check()
    assert run.task("raw", "a")["stdout"].strip() == "done" and run.task("module", "b")["stdout"] == account.name
