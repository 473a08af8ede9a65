"""The fixtures of tests/conftest.py have the documented effects."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import accounts, init, leaks, processes, session
from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.sshd import Sshd

_DETACH = "import os, time\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\ntime.sleep({})"


def _ssh(sshd: Sshd, account: Account, *command: str) -> subprocess.CompletedProcess[str]:
    args = ["ssh", *sshd.ssh_args(), f"{account.name}@{sshd.host}", *command]
    return subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)


@pytest.mark.needs_program("ssh")
def test_sshd_counts_key_logins(sshd: Sshd, account: Account) -> None:
    start = sshd.mark()
    assert _ssh(sshd, account, "id -un").stdout.strip() == account.name
    sshd.wait_log("Starting session", since=start)
    assert (sshd.connections(start), sshd.sessions(start)) == (1, 1)
    assert sshd.accepted(start) == [("publickey", account.name)]


def test_a_password_logs_in(sshd: Sshd, account: Account) -> None:
    import paramiko

    start = sshd.mark()
    with paramiko.SSHClient() as client:
        client.load_host_keys(str(sshd.known_hosts))
        options = {"look_for_keys": False, "allow_agent": False}
        client.connect(sshd.host, sshd.port, account.name, account.password, **options)  # type: ignore[arg-type]
    sshd.wait_log("Accepted password", since=start)
    assert sshd.accepted(start) == [("password", account.name)]


@pytest.mark.needs_program("ssh", "sudo", "doas")
def test_rules_of_sudo_and_doas_work_and_uses_are_counted(sshd: Sshd, account: Account) -> None:
    before = account.sudo_uses()
    assert _ssh(sshd, account, "sudo -n id -u; doas -n id -u").stdout.split() == ["0", "0"]
    assert account.sudo_uses() == before + 1


def test_make_sshd_accepts_config_and_addresses(make_sshd: Callable[..., Sshd]) -> None:
    server = make_sshd(config=["Banner none"], addresses=["127.0.0.1", "127.0.1.7"], host_keys=["ed25519", "rsa"])
    for address in server.addresses:
        with socket.create_connection((address, server.port), timeout=5) as link:
            assert link.recv(8).startswith(b"SSH-2.0")
    assert len(server.known_hosts.read_text().splitlines()) == 4


@pytest.mark.needs_program("ssh")
def test_stopping_a_server_ends_its_sessions(make_sshd: Callable[..., Sshd], account: Account) -> None:
    server = make_sshd()
    args = ["ssh", *server.ssh_args(), f"{account.name}@{server.host}", "sleep 60"]
    with subprocess.Popen(args, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
        server.wait_log("Starting session")
        server.stop()
        assert client.wait(10) == 255
    assert not account.processes()


def test_an_account_is_removed_with_its_files_and_processes(
    make_account: Callable[..., Account], request: pytest.FixtureRequest
) -> None:
    maker = request.getfixturevalue("_account_maker")
    account = make_account(sudo=["ALL=(ALL) ALL"], doas="password", shell="/bin/sh")
    account.write(".config/x/y", "text")
    assert account.run("cat", ".config/x/y").stdout == "text"
    assert account.run("sh", "-c", "setsid sleep 60 >/dev/null 2>&1 & mktemp /tmp/XXXXXXX").returncode == 0
    maker.remove(account)
    assert not account.home.exists() and not account.processes() and not Path("/etc/sudoers.d", account.name).exists()
    with pytest.raises(KeyError):
        pwd.getpwnam(account.name)


def test_a_returned_account_is_reset(account: Account, request: pytest.FixtureRequest) -> None:
    maker = request.getfixturevalue("_account_maker")
    ours = maker.make(sudo="password")
    new = {path.name: path.stat().st_uid for path in ours.home.iterdir()}
    ours.write(".profile", "exit 1")
    ours.write(".config/x/y", "text")
    ours.home.chmod(0o700)
    ours.sudo_log.write_text("COMMAND=/bin/true\n")
    assert ours.run("sh", "-c", "setsid sleep 60 >/dev/null 2>&1 & mktemp /tmp/XXXXXXX").returncode == 0
    maker.give_back(ours)
    again = maker.make(sudo="password")
    assert again is ours and not ours.processes() and not accounts.owned_files({ours.uid}) and not ours.sudo_uses()
    assert {path.name: path.stat().st_uid for path in ours.home.iterdir()} == new
    assert ours.home.stat().st_mode == account.home.stat().st_mode
    assert "exit 1" not in (ours.home / ".profile").read_text()
    subprocess.run(["chage", "-E", "0", ours.name], check=True)
    maker.give_back(ours)
    with pytest.raises(KeyError):
        pwd.getpwnam(ours.name)


def test_the_environment_is_clean(home: Path) -> None:
    assert not [name for name in os.environ if name.startswith(("ANSIBLE_", "SSH_", "LC_"))]
    assert Path.home() == home and not list(home.iterdir())
    assert tempfile.gettempdir().startswith(str(session.directory))


def test_the_leak_check_sees_detached_processes_files_threads_and_sockets() -> None:
    before = leaks.take(set())
    subprocess.run([sys.executable, "-c", _DETACH.format(30)], check=True)
    path = Path(tempfile.mkstemp()[1])
    with socket.socket():
        left = leaks.since(before, set(), set(), grace=0.3)
    assert [line.split()[0] for line in left] == ["file", "open", "process"]
    path.unlink()
    for process in init.family() - before.processes:
        os.kill(process.pid, 9)
        assert not processes.wait_gone(process.pid)


def test_processes_that_fork_while_they_are_killed_are_all_ended(tmp_path: Path) -> None:
    forking = "import os, time\nfor _ in range(300):\n if not os.fork():\n  time.sleep(30)\n  os._exit(0)\ntime.sleep(30)"
    family = subprocess.Popen([sys.executable, "-c", forking])
    processes.wait_until(lambda: len(list(processes.descendants(family.pid))) > 3, 5)
    processes.kill_family(family.pid)
    family.wait()
    assert not [each for each in init.family() if forking in each.command]


def test_ansible_runs_and_its_results_are_read(ansible: Ansible) -> None:
    tasks = [
        {"name": "one", "ansible.builtin.command": "echo hello"},
        {"name": "two", "ansible.builtin.command": "false", "ignore_errors": True},
        {"name": "loop", "ansible.builtin.debug": {"msg": "{{ item }}"}, "loop": [1, 2]},
    ]
    run = ansible.tasks(tasks, {"here": {}}, connection="local").check()
    assert run.task("one")["stdout"] == "hello" and run.task("one").changed
    assert run.task("two").kind == "failed" and run.task("two").ignored
    assert len(run.items) == 2 and run.stats["here"]["ignored"] == 1
    assert not run.warnings


def test_results_of_ad_hoc_commands_are_read(ansible: Ansible) -> None:
    run = ansible.adhoc("ansible.builtin.command", "echo hello", {"here": {}}, connection="local").check()
    assert run.tasks[0]["stdout"] == "hello"


@pytest.mark.one_core
def test_started_ssh_programs_are_recorded(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    hosts = {"there": ansible.target(sshd, account)}
    task = {"name": "one", "ansible.builtin.command": "id -un"}
    assert ansible.tasks([task], hosts, connection="ssh").check().task("one")["stdout"] == account.name
    poisoned = ansible.tasks([task], hosts, connection="ssh", ssh_programs=False)
    assert poisoned.ssh_programs and poisoned.task("one").kind == "unreachable"
