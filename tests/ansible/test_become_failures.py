"""Escalations that fail: each ends in time, with the status of Ansible and a one-line remedy, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import init, processes
from tests.support.accounts import Account
from tests.support.ansible import Ansible, Run, Running
from tests.support.becoming import DOAS, FILES, ID_TASK, SYSTEM_PYTHON, People, becoming
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]

TIMEOUT = 4  # seconds, of the connection
LIMIT = TIMEOUT + 2  # seconds for an escalation; sudo and su take 2 to 3 to reject a password
SLACK = 15  # seconds for everything else on a busy machine
UNSEEN_BY_SSH = {"missing-su", "missing-doas", "wrong-doas"}  # prompts that ssh does not recognise: it waits until its timeout
ESCALATIONS = ("sudo", "su", "doas", "sleep")
MUTE = "#!/bin/sh\nexec sleep 600\n"
ENDLESS = "#!/bin/sh\ntrap '' HUP TERM; printf 'Waiting for your token'; while :; do sleep 1; done\n"


@dataclass(frozen=True)
class Case:
    """A host that fails: its variables, the status of its task, and parts of its one-line message."""

    variables: dict[str, Any]
    texts: tuple[str, ...]
    kind: str = "failed"


def _closed_python(account: Account) -> Path:
    """An interpreter that only *account* can run."""
    directory = account.home / "closed"
    if not directory.exists():
        directory.mkdir(mode=0o700)
        os.chown(directory, account.uid, account.gid)
        (directory / "python3").symlink_to(SYSTEM_PYTHON)
    return directory / "python3"


def _cases(
    ansible: Ansible, sshd: Sshd, people: People, make_account: Callable[..., Account], directory: Path
) -> tuple[dict[str, Case], list[Account]]:
    asked, free, other = people.password_sudo, people.nopasswd, people.others[0]
    stranger, closed, late = make_account(), make_account(shell="/usr/sbin/nologin"), make_account()
    subprocess.run(["chage", "-E", "1", late.name], check=True, timeout=20)
    python = _closed_python(free)
    for name, text in (("mute", MUTE), ("endless", ENDLESS)):
        (directory / name).mkdir()
        (directory / name / "sudo").write_text(text)
        (directory / name / "sudo").chmod(0o755)

    def case(login: Account, method: str, user: str, *args: str, kind: str = "failed", **more: Any) -> Case:
        variables = becoming(method, user, more.pop("password", None), **more)
        return Case(ansible.target(sshd, login, ansible_timeout=TIMEOUT, **variables), (*args, user), kind)

    unreachable = "failed" if ansible.core in ("2.16", "2.17", "2.18") else "unreachable"
    cases = {
        "missing": case(asked, "sudo", "root", "password"),
        "missing-su": case(asked, "su", other.name, "password"),
        "missing-doas": case(asked, DOAS, "root", "password"),
        "wrong": case(asked, "sudo", "root", "password is wrong", password="n0t-th1s"),
        "wrong-su": case(asked, "su", other.name, "password is wrong", password="n0t-th1s"),
        "wrong-doas": case(asked, DOAS, "root", "password is wrong", password="n0t-th1s"),
        "unknown": case(free, "sudo", "nobody-of-that-name", "no such account"),
        "unknown-su": case(free, "su", "nobody-of-that-name", "no such account", password="n0t-th1s"),
        "unknown-doas": case(free, DOAS, "nobody-of-that-name", "no such account"),
        "not-permitted": case(stranger, "sudo", "root", "not permitted", password=stranger.password),
        "not-permitted-doas": case(stranger, DOAS, "root", "not permitted", password=stranger.password),
        "not-installed": case(free, "sudo", "root", "not installed", ansible_become_exe="/nonexistent/sudo"),
        "nologin": case(asked, "su", closed.name, "shell", password=closed.password),
        "nologin-sudo": case(free, "sudo", closed.name, "shell", ansible_become_flags="-i"),
        "expired": case(asked, "su", late.name, "expired", password=late.password),
        "mute": case(free, "sudo", "root", str(LIMIT), kind=unreachable, ansible_become_exe=str(directory / "mute/sudo")),
        "endless": case(
            free,
            "sudo",
            "root",
            "token",
            kind=unreachable,
            password="n0t-th1s",
            ansible_become_exe=str(directory / "endless/sudo"),
        ),
    }
    interpreter = ansible.target(sshd, free, ansible_python_interpreter=str(python), **becoming("sudo", other.name))
    cases["no-python"] = Case(interpreter, (f"{python}: Permission denied",))
    return cases, [asked, free, other, stranger, closed, late]


def _wait_for_results(running: Running, count: int, until: float) -> None:
    while len(running.tasks()) < count and running.process.poll() is None:
        assert time.monotonic() < until, f"{len(running.tasks())} of {count} results"
        time.sleep(0.1)


def _left_on_target(accounts: list[Account]) -> list[str]:
    """Count the escalations' processes, zombies that a living process of the accounts has not reaped, and terminals."""
    uids = {account.uid for account in accounts}
    family = {process.pid: process for process in init.family()}
    left = [str(process) for process in family.values() if process.command.split()[0].rpartition("/")[2] in ESCALATIONS]
    for name in os.listdir("/proc"):
        found = processes.read(int(name)) if name.isdigit() else None
        if found is not None and found.zombie and found.parent in family and family[found.parent].uid in uids:
            left.append(f"zombie {found.pid} of {family[found.parent]}")
    for terminal in Path("/dev/pts").iterdir():
        with contextlib.suppress(OSError):
            if terminal.stat().st_uid in uids:
                left.append(str(terminal))
    return left


@pytest.mark.newest_core
def test_each_failure_is_reported_in_one_line(
    ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account], people: People, short_path: Path
) -> None:
    cases, accounts = _cases(ansible, sshd, people, make_account, short_path)
    go = short_path / "go"
    wait = {"name": "wait", "ansible.builtin.wait_for": {"path": str(go), "timeout": 60}}
    hosts = {name: case.variables for name, case in cases.items()} | {"ok": ansible.target(sshd, people.nopasswd)}
    play = [
        {"hosts": "all:!ok", "gather_facts": False, "become": True, "tasks": [{"name": "who", **ID_TASK}]},
        {"hosts": "ok", "gather_facts": False, "tasks": [wait]},
    ]
    began = time.monotonic()
    running = ansible.start(play, hosts, files=FILES, args=["-f", "20"])
    _wait_for_results(running, len(cases), began + LIMIT + SLACK + len(cases))
    took = time.monotonic() - began
    until = time.monotonic() + 6  # a process that ignores SIGHUP is killed after some seconds
    while (left := _left_on_target(accounts)) and time.monotonic() < until:
        time.sleep(0.1)
    go.touch()
    run = running.finish()
    _check(run, cases)
    assert took < LIMIT + SLACK
    assert not left


def _check(run: Run, cases: dict[str, Case]) -> None:
    for name, case in cases.items():
        result = run.task("who", name)
        # Ansible's message does not always name the interpreter; the message of the target's shell does.
        message = result.message.partition("\n")[0] if name == "no-python" else result.message
        message += str(result.result.get("module_stderr", "")).strip()
        assert result.kind == case.kind, f"{name}: {result.kind}: {message}"
        assert "\n" not in message and len(message) < 700, f"{name}: {message}"
        for text in case.texts:
            assert text in message, f"{name}: no {text!r} in {message!r}"
    assert "Traceback" not in run.output
    assert "n0t-th1s" not in run.output


@pytest.mark.slow
@pytest.mark.needs_program("ssh")
def test_each_failure_has_the_status_that_it_has_over_ssh(
    ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account], people: People, short_path: Path
) -> None:
    cases, _ = _cases(ansible, sshd, people, make_account, short_path)
    del cases["endless"]  # over ssh its process would stay
    hosts = {name: case.variables for name, case in cases.items()}
    play: Any = {"become": True}
    run = ansible.tasks([{"name": "who", **ID_TASK}], hosts, play=play, files=FILES, args=["-f", "20"], connection="ssh")
    for name in set(cases) - UNSEEN_BY_SSH:
        assert run.task("who", name).kind == cases[name].kind, f"{name}:\n{run.output}"


@pytest.mark.newest_core
def test_become_works_for_an_account_with_a_closed_or_missing_home(
    ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account], people: People
) -> None:
    """All tasks succeed; files for the home are in the system's temporary directory instead."""
    closed, missing = make_account(), make_account(home=False)
    os.chown(closed.home, 0, 0)
    closed.home.chmod(0o700)
    tasks: list[dict[str, Any]] = [
        {"name": "who", **ID_TASK},
        {"name": "copy", "ansible.builtin.copy": {"content": "x", "dest": "/tmp/{{ ansible_become_user }}.txt"}},
        {"name": "gone", "ansible.builtin.file": {"path": "/tmp/{{ ansible_become_user }}.txt", "state": "absent"}},
    ]
    users = {"closed": closed.name, "missing": missing.name}
    hosts = {name: ansible.target(sshd, people.nopasswd, **becoming("sudo", user)) for name, user in users.items()}
    run = ansible.tasks(tasks, hosts, play={"become": True}).check()
    assert {name: run.task("who", name)["stdout"] for name in users} == users
    closed.home.chmod(0o755)
