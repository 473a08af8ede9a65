"""Failures have the status that Ansible intends, within the time limit, and a one-line message with account, host and remedy."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import init, processes
from tests.support.accounts import Account
from tests.support.ansible import Ansible, Run
from tests.support.keys import KeyFile
from tests.support.sshd import Sshd, free_port

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]

PING = [{"name": "ping", "ansible.builtin.ping": {}}]
LIMIT = 4  # seconds that a connection may take


@contextlib.contextmanager
def _silent() -> Iterator[int]:
    """A port that accepts connections and sends nothing."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(8)
        yield sock.getsockname()[1]


@contextlib.contextmanager
def _full() -> Iterator[int]:
    """A port whose TCP handshake never ends: its queue is full, so packets are dropped, as for an unroutable host."""
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.socket())
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
        yield sock.getsockname()[1]


def _options(known_hosts: Path) -> str:
    return f"-o UserKnownHostsFile={known_hosts} -o GlobalKnownHostsFile=/dev/null -o IdentitiesOnly=yes"


def _hosts(
    ansible: Ansible, sshd: Sshd, account: Account, directory: Path, locked: KeyFile, stranger: KeyFile
) -> dict[str, dict[str, Any]]:
    changed = directory / "changed"
    changed.write_text(f"[{sshd.host}]:{sshd.port} {stranger.public}\n")
    empty = directory / "empty"
    empty.write_text("")

    def target(**more: Any) -> dict[str, Any]:
        return ansible.target(sshd, account, ansible_timeout=LIMIT, **more)

    return {
        "refused": target(ansible_port=free_port(["127.0.0.1"])),
        "unknown-name": target(ansible_host="no-such-host.invalid"),
        "jump-host-refused": target(ansible_ssh_common_args=f"-J 127.0.0.1:{free_port(['127.0.0.1'])}"),
        "unknown-key": target(ansible_ssh_common_args=_options(empty)),
        "changed-key": target(ansible_ssh_common_args=_options(changed)),
        "no-key-accepted": target(ansible_ssh_private_key_file=str(stranger.path)),
        "wrong-passphrase": target(ansible_ssh_private_key_file=str(locked.path), ansible_ssh_private_key_passphrase="wrong"),
    }


# host -> texts that its one-line message must contain, besides user, host and port
WORDS = {
    "refused": ["refused"],
    "silent": ["no SSH version received", "SSH port"],
    "unroutable": ["no answer", "firewall"],
    "unknown-name": ["no-such-host.invalid"],
    "jump-host-refused": ["jump host 1 of 1: ", "refused"],
    "unknown-key": ["host key", "accept-new"],
    "changed-key": ["changed"],
    "no-key-accepted": ["key"],
    "wrong-passphrase": ["passphrase"],
    "wrong-password": ["password"],
    "nothing-left": ["password", "publickey"],
}


def _check(run: Run, hosts: dict[str, dict[str, Any]]) -> None:
    """Check that every host ended UNREACHABLE, with a one-line message that contains account, host and the expected texts."""
    wrong = {}
    for name, variables in hosts.items():
        result = run.task("ping", name)
        line = result.message.removeprefix("Task failed: ")
        wanted = [f"{variables['ansible_user']}@{variables['ansible_host']} port {variables['ansible_port']}", *WORDS[name]]
        if result.kind != "unreachable" or "\n" in line or any(word not in line for word in wanted):
            wrong[name] = (result.kind, result.message)
    assert not wrong
    assert "Traceback" not in run.output


def test_each_host_without_a_connection_is_unreachable_in_time(
    ansible: Ansible, sshd: Sshd, account: Account, short_path: Path, make_key: Callable[..., KeyFile]
) -> None:
    locked, stranger = make_key(passphrase="right"), make_key()
    sshd.authorize(locked.public)
    hosts = _hosts(ansible, sshd, account, short_path, locked, stranger)
    with _silent() as silent, _full() as full:
        hosts["silent"] = {**hosts["refused"], "ansible_port": silent}
        hosts["unroutable"] = {**hosts["refused"], "ansible_port": full}
        began = time.monotonic()
        run = ansible.tasks(PING, hosts, args=["-f", "20"])
    assert time.monotonic() - began < LIMIT + 20, "starting and ending a run may take long on a busy machine"
    _check(run, hosts)


@pytest.mark.one_core
def test_a_refused_password_is_reported(ansible: Ansible, sshd: Sshd, account: Account, make_key: Callable[..., KeyFile]) -> None:
    """PAM delays each refusal by about two seconds."""
    base = ansible.target(sshd, account, ansible_password="wrong", ansible_timeout=20)
    hosts = {
        "wrong-password": {**base, "ansible_ssh_private_key_file": "/nonexistent/key"},
        "nothing-left": {**base, "ansible_ssh_private_key_file": str(make_key().path)},
    }
    _check(ansible.tasks(PING, hosts), hosts)


@pytest.mark.one_core
def test_a_refused_escalation_fails_the_task_only(ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]) -> None:
    """The status is FAILED, not UNREACHABLE; the connection and the other accounts stay usable."""
    account = make_account(sudo="password")
    base = ansible.target(sshd, account)
    hosts = {
        "none": base,
        "wrong": {**base, "ansible_become_password": "n0t-th1s"},
        "right": {**base, "ansible_become_password": account.password},
    }
    tasks = [
        {"name": "become", "ansible.builtin.command": "id -un", "become": True, "ignore_errors": True},
        {"name": "after", "ansible.builtin.command": "id -un"},
    ]
    run = ansible.tasks(tasks, hosts)
    none, wrong = run.task("become", "none"), run.task("become", "wrong")
    assert (none.kind, wrong.kind) == ("failed", "failed"), run.output
    for task, text in ((none, "ansible_become_password"), (wrong, "password is wrong")):
        assert f"{account.name}@{sshd.host} port {sshd.port}: sudo to root: " in task.message
        assert text in task.message and "\n" not in task.message
    assert run.task("become", "right")["stdout"] == "root"
    assert {task["stdout"] for task in run.tasks if task.task == "after"} == {account.name}


TOO_OLD = """#!{python}
import sys
sys.version_info = (2, 6, 9, "final", 0)
code = sys.argv[2]
sys.argv = ["-c"] + sys.argv[3:]
exec(code)
"""
SILENT_PYTHON = "#!/bin/sh\nexec sleep 3\n"  # longer than ansible_ssh_timeout, which does not limit it


@pytest.mark.one_core
def test_a_missing_or_too_old_boot_python_fails_the_task(
    ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]
) -> None:
    account = make_account()
    real = "/usr/bin/python3"
    old = account.write("old", TOO_OLD.format(python=real), 0o755)
    silent = account.write("silent", SILENT_PYTHON, 0o755)
    base = ansible.target(sshd, account, ansible_python_interpreter=real, ansible_ssh_timeout=1)
    hosts = {
        "none": {**base, "ansible_pmitogen_boot_python": ["/nonexistent/python3"]},
        "old": {**base, "ansible_pmitogen_boot_python": [str(old)]},
        "silent": {**base, "ansible_pmitogen_boot_python": [str(silent)]},
        "second": {**base, "ansible_pmitogen_boot_python": ["/nonexistent/python3", str(old), real]},
    }
    run = ansible.tasks(PING, hosts)
    peer = f"{account.name}@{sshd.host} port {sshd.port}"
    none, older, hung = (run.task("ping", name) for name in ("none", "old", "silent"))
    assert none.kind == older.kind == "failed", run.output
    assert all(peer in task.message and "\n" not in task.message for task in (none, older))
    assert "no usable Python" in none.message and "ansible_python_interpreter" in none.message and "raw" in none.message
    assert "Python 2.6" in older.message
    assert hung.kind == "ok", "as over ssh, which starts only the module's interpreter"
    assert run.task("ping", "second").kind == "ok"


@pytest.mark.newest_core
def test_a_missing_or_broken_module_interpreter_has_ansibles_message(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    """Also for the first request to a host, and in another account."""
    base = ansible.target(sshd, account)
    hosts = {
        "missing": {**base, "ansible_python_interpreter": "/nonexistent/python3"},
        "broken": {**base, "ansible_python_interpreter": "/bin/false"},
    }
    tasks = [
        {"ansible.builtin.ping": {}, "name": name, "ignore_errors": True, "become": name == "root"} for name in ("login", "root")
    ]
    tasks.append({"name": "after", "ansible.builtin.ping": {}, "vars": {"ansible_python_interpreter": "/usr/bin/python3"}})
    run = ansible.tasks(tasks, hosts)
    text = "The module interpreter '/nonexistent/python3' was not found." if ansible.core >= "2.19" else "set the interpreter"
    for name in ("login", "root"):
        missing, broken = run.task(name, "missing"), run.task(name, "broken")
        assert missing.kind == broken.kind == "failed", run.output
        assert text in missing.message or "interpreter" in missing.message and ansible.core == "2.19"
        assert missing["rc"] == 127 and broken["rc"] == 1
    assert {task.kind for task in run.tasks if task.task == "after"} == {"ok"}


def _sleeping(account: Account) -> bool:
    return any(process.command.startswith("sleep 61") for process in account.processes())


def _interrupted(ansible: Ansible, server: Sshd, account: Account, interrupt: Callable[[], None]) -> Run:
    """Run tasks; call *interrupt* during the first one."""
    tasks = [
        {"name": "long", "ansible.builtin.command": "sleep 61", "ignore_unreachable": True},
        {"name": "next", "ansible.builtin.command": "id -un"},
    ]
    running = ansible.start([{"hosts": "all", "gather_facts": False, "tasks": tasks}], {"h": ansible.target(server, account)})
    processes.wait_until(lambda: _sleeping(account))
    interrupt()
    processes.wait_until(lambda: not _sleeping(account), 5)
    return running.finish()


@pytest.mark.one_core
def test_a_lost_connection_fails_the_task_and_the_next_task_reconnects(
    ansible: Ansible, make_sshd: Callable[..., Sshd], make_account: Callable[..., Account]
) -> None:
    server, account = make_sshd(), make_account()
    run = _interrupted(ansible, server, account, server.kill_sessions)
    lost = run.task("long")
    assert lost.kind == "unreachable"
    assert f"{account.name}@{server.host} port {server.port}" in lost.message and "\n" not in lost.message
    assert run.task("next")["stdout"] == account.name, "the next task reconnects"
    assert server.connections() == 2


@pytest.mark.one_core
def test_a_killed_hub_fails_the_task_and_the_next_task_starts_another(
    ansible: Ansible, make_sshd: Callable[..., Sshd], make_account: Callable[..., Account]
) -> None:
    server, account = make_sshd(), make_account()

    def kill_hub() -> None:
        hubs = [process for process in init.family() if "pmitogen.hub.daemon.main" in process.command]
        assert len(hubs) == 1
        os.kill(hubs[0].pid, signal.SIGKILL)

    run = _interrupted(ansible, server, account, kill_hub)
    lost = run.task("long")
    assert lost.kind == "unreachable" and "hub of this run has ended: its process was killed" in lost.message
    assert "\n" not in lost.message
    assert run.task("next")["stdout"] == account.name
    assert server.connections() == 2
