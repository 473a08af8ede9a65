"""``pmitogen ssh`` on the connection of a hub: one login for a play, and for later commands of rsync, git and the user."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pmitogen.hub.daemon import socket_paths
from tests.support import processes
from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.one_core]
PMITOGEN = (sys.executable, "-m", "pmitogen")
BINARY = bytes(range(256)) * 2000
PIPES: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
TASKS = [{"name": "once", "ansible.builtin.command": "id -un"}]


class SharedHost:
    """A host with all its options in HOME's ssh_config, for plays and for commands."""

    def __init__(self, ansible: Ansible, sshd: Sshd, account: Account, home: Path, seconds: int = 8) -> None:
        self.ansible, self.sshd, self.account = ansible, sshd, account
        (home / ".ssh").mkdir(mode=0o700)
        self.config = home / ".ssh/config"
        self.config.write_text(
            f"Host target\n HostName {sshd.host}\n Port {sshd.port}\n User {account.name}\n IdentityFile {sshd.key.path}\n"
            f" IdentitiesOnly yes\n UserKnownHostsFile {sshd.known_hosts}\n GlobalKnownHostsFile /dev/null\n"
        )
        self.mark = sshd.mark()
        args = f"-F {self.config} -o ControlMaster=auto -o ControlPersist={seconds}s -C"
        self.host = {"ansible_host": "target", "ansible_connection": "pmitogen", "ansible_ssh_args": args}

    @property
    def command(self) -> list[str]:
        """A command that requests a shared connection."""
        return [*PMITOGEN, "ssh", "-F", str(self.config), "-o", "ControlMaster=auto"]

    def ssh(self, *args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [*self.command, *args]
        return subprocess.run(command, input=stdin, capture_output=True, timeout=60)

    @property
    def logins(self) -> int:
        return self.sshd.connections(self.mark)


@pytest.fixture
def shared(ansible: Ansible, sshd: Sshd, account: Account, home: Path) -> SharedHost:
    return SharedHost(ansible, sshd, account, home)


def hubs() -> list[dict[str, int]]:
    done = subprocess.run([*PMITOGEN, "hubs", "--json"], capture_output=True, text=True, timeout=60)  # 1: a hub is ending
    found: list[dict[str, int]] = json.loads(done.stdout)
    return found


def test_commands_share_the_connection_of_a_play(
    ansible: Ansible, sshd: Sshd, account: Account, home: Path, tmp_path: Path
) -> None:
    shared = SharedHost(ansible, sshd, account, home, 600)
    shared.ansible.tasks(TASKS, {"h": shared.host}).check()
    assert shared.logins == 1
    done = shared.ssh("target", "cat; echo error >&2; exit 7", stdin=BINARY)
    assert (done.returncode, done.stdout, done.stderr) == (7, BINARY, b"error\n")
    assert shared.ssh("-s", "target", "nosuch").returncode == 255
    assert shared.ssh("-W", f"{shared.sshd.host}:{shared.sshd.port}", "target").stdout.startswith(b"SSH-2.0-")
    done = shared.ssh("-tt", "target", "test -t 0 && stty size")
    assert done.stdout.strip() == b"24 80"
    assert shared.logins == 2, "the second is that of -W to the server itself"
    shell = " ".join(shared.command)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(BINARY)
    for source, target in ((f"{tmp_path}/tree/", "target:tree"), ("target:tree/", f"{tmp_path}/back")):
        subprocess.run(["rsync", "-a", "-e", shell, source, target], check=True, timeout=60)
    assert (tmp_path / "back/file").read_bytes() == BINARY and shared.logins == 2
    for program, source, target in (
        ("cp", "target:tree/file", "copy"),
        ("cp", "copy", "target:again"),
        ("sftp", "target:again", "got"),
    ):
        command = [*PMITOGEN, program, *shared.command[len(PMITOGEN) + 1 :], source, target]
        subprocess.run(command, check=True, timeout=60, cwd=tmp_path, stdout=subprocess.DEVNULL)
    assert (tmp_path / "got").read_bytes() == BINARY and shared.logins == 2
    subprocess.run([*PMITOGEN, "hubs", "--stop"], check=True, timeout=60, stdout=subprocess.DEVNULL)
    processes.wait_until(lambda: not hubs(), 40)
    assert shared.ssh("target", "true").returncode == 0 and shared.logins == 3


@pytest.mark.slow
def test_commands_with_other_options_make_a_connection_of_their_own(shared: SharedHost) -> None:
    shared.ansible.tasks(TASKS, {"h": shared.host}).check()
    other = ("-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no")
    for index, args in enumerate((("-S", "none"), other, ("-o", "SetEnv=LANG=C"), ("-A",)), 2):
        assert shared.ssh(*args, "target", "true").returncode == 0
        assert shared.logins == index, args
    unasked = shared.command[:-2]
    assert subprocess.run([*unasked, "target", "true"], timeout=60).returncode == 0 and shared.logins == 6
    elsewhere = ["unshare", "--net", "--", *shared.command, "target", "true"]
    assert subprocess.run(elsewhere, stderr=subprocess.DEVNULL, timeout=60).returncode == 255, "no server in its namespace"
    asking = [*unasked, "-o", f"ControlPath={shared.config}.sock"]
    assert subprocess.run([*asking, "target", "true"], timeout=60).returncode == 0 and shared.logins == 6
    assert shared.ssh("-l", "nobody-of-that-name", "-o", "BatchMode=yes", "target", "true").returncode == 255
    processes.wait_until(lambda: not hubs(), 40)


@pytest.mark.slow
def test_a_command_holds_the_connection_open(shared: SharedHost) -> None:
    """Even after the end of the run and of ControlPersist; the hub ends after both."""
    shared.ansible.tasks(TASKS, {"h": shared.host}).check()
    command = [*shared.command, "target", "sleep 12; echo done"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as client:
        assert client.stdout is not None and client.stdout.read() == b"done\n"
    assert client.returncode == 0 and shared.logins == 1
    processes.wait_until(lambda: not hubs(), 40)


RESET = [TASKS[0], {"ansible.builtin.meta": "reset_connection"}, {**TASKS[0], "name": "again"}]


@pytest.mark.slow
def test_a_command_survives_reset_connection(shared: SharedHost) -> None:
    """As with ssh, the next task uses a new connection, and the old one ends with the command."""
    shared.ansible.tasks(TASKS, {"h": shared.host}).check()
    with subprocess.Popen([*shared.command, "target", "echo; read line; echo $line"], **PIPES) as client:
        assert client.stdin is not None and client.stdout is not None and client.stdout.readline() == b"\n"
        shared.ansible.tasks(RESET, {"h": shared.host}).check()
        assert shared.logins == 2
        out, _ = client.communicate(b"survived\n", timeout=20)
    assert (client.returncode, out) == (0, b"survived\n")
    processes.wait_until(lambda: not hubs(), 40)
    assert not shared.account.processes()


@pytest.mark.slow
def test_a_command_survives_an_interrupted_run(shared: SharedHost) -> None:
    shared.ansible.tasks(TASKS, {"h": shared.host}).check()
    with subprocess.Popen([*shared.command, "target", "echo; read line; echo $line"], **PIPES) as client:
        assert client.stdin is not None and client.stdout is not None and client.stdout.readline() == b"\n"
        sleep = [{"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.command": "sleep 50"}]}]
        running = shared.ansible.start(sleep, {"h": shared.host})
        processes.wait_until(lambda: any("sleep 50" in each.command for each in shared.account.processes()), 30)
        running.signal(signal.SIGINT)
        running.finish()
        processes.wait_until(lambda: not any("sleep 50" in each.command for each in shared.account.processes()), 20)
        out, _ = client.communicate(b"survived\n", timeout=20)
    assert (client.returncode, out) == (0, b"survived\n")
    processes.wait_until(lambda: not hubs(), 40)


@pytest.mark.slow
def test_a_client_that_is_killed_ends_its_command(shared: SharedHost) -> None:
    shared.ansible.tasks(TASKS, {"h": shared.host}).check()
    command = [*shared.command, "target", "cat /dev/stdin"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as client:
        processes.wait_until(lambda: any("cat /dev" in process.command for process in shared.account.processes()), 20)
        client.send_signal(signal.SIGKILL)
        client.wait(20)
        processes.wait_until(lambda: not any("cat /dev" in process.command for process in shared.account.processes()), 20)
    assert shared.logins == 1
    processes.wait_until(lambda: not hubs(), 40)


@pytest.mark.slow
def test_a_connection_made_with_a_password_is_not_shared(shared: SharedHost) -> None:
    shared.ansible.tasks(TASKS, {"h": {**shared.host, "ansible_password": shared.account.password}}).check()
    assert shared.ssh("target", "true").returncode == 0 and shared.logins == 2
    processes.wait_until(lambda: not hubs(), 40)


@pytest.mark.slow
def test_a_command_ignores_the_socket_of_a_killed_hub(shared: SharedHost) -> None:
    shared.ansible.tasks(TASKS, {"h": shared.host}).check()
    processes.wait_until(lambda: len(hubs()) == 1, 5)
    os.kill(hubs()[0]["pid"], signal.SIGKILL)
    processes.wait_until(lambda: not hubs(), 5)
    assert shared.ssh("target", "true").returncode == 0 and shared.logins == 2
    (directory,) = socket_paths.existing_dirs()
    assert not [name for name in os.listdir(directory) if socket_paths.is_ssh_socket(name)]
    shutil.rmtree(directory)


@pytest.mark.slow
def test_a_command_logs_in_if_the_server_allows_no_further_session(
    ansible: Ansible, make_sshd: Callable[..., Sshd], account: Account, home: Path
) -> None:
    """It does so at once, without waiting for the end of another command."""
    shared = SharedHost(ansible, make_sshd(config=["MaxSessions 1"]), account, home)
    shared.ansible.tasks(TASKS, {"h": shared.host}).check()
    with subprocess.Popen([*shared.command, "target", "echo; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin is not None and client.stdout is not None and client.stdout.readline() == b"\n"
        before = shared.logins
        begun = time.monotonic()
        assert shared.ssh("target", "true").returncode == 0
        assert shared.logins == before + 1 and time.monotonic() - begun < 30
    processes.wait_until(lambda: not hubs(), 40)
