"""``pmitogen ssh`` on the connection of a hub: one login for a play, and for rsync, git and the user's own commands after it."""

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


class Place:
    """A host whose options are all in HOME's ssh_config, for plays and for commands."""

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
        """A command that asks to share a connection."""
        return [*PMITOGEN, "ssh", "-F", str(self.config), "-o", "ControlMaster=auto"]

    def ssh(self, *args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = [*self.command, *args]
        return subprocess.run(command, input=stdin, capture_output=True, timeout=60)

    @property
    def logins(self) -> int:
        return self.sshd.connections(self.mark)


@pytest.fixture
def place(ansible: Ansible, sshd: Sshd, account: Account, home: Path) -> Place:
    return Place(ansible, sshd, account, home)


def hubs() -> list[dict[str, int]]:
    done = subprocess.run([*PMITOGEN, "hubs", "--json"], capture_output=True, text=True, timeout=60)  # 1: one is about to end
    found: list[dict[str, int]] = json.loads(done.stdout)
    return found


def test_commands_use_the_connection_of_a_play(
    ansible: Ansible, sshd: Sshd, account: Account, home: Path, tmp_path: Path
) -> None:
    place = Place(ansible, sshd, account, home, 600)
    place.ansible.tasks(TASKS, {"h": place.host}).check()
    assert place.logins == 1
    done = place.ssh("target", "cat; echo error >&2; exit 7", stdin=BINARY)
    assert (done.returncode, done.stdout, done.stderr) == (7, BINARY, b"error\n")
    assert place.ssh("-s", "target", "nosuch").returncode == 255
    assert place.ssh("-W", f"{place.sshd.host}:{place.sshd.port}", "target").stdout.startswith(b"SSH-2.0-")
    done = place.ssh("-tt", "target", "test -t 0 && stty size")
    assert done.stdout.strip() == b"24 80"
    assert place.logins == 2, "a connection to itself, for -W"
    shell = " ".join(place.command)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_bytes(BINARY)
    for source, target in ((f"{tmp_path}/tree/", "target:tree"), ("target:tree/", f"{tmp_path}/back")):
        subprocess.run(["rsync", "-a", "-e", shell, source, target], check=True, timeout=60)
    assert (tmp_path / "back/file").read_bytes() == BINARY and place.logins == 2
    for program, source, target in (
        ("cp", "target:tree/file", "copy"),
        ("cp", "copy", "target:again"),
        ("sftp", "target:again", "got"),
    ):
        command = [*PMITOGEN, program, *place.command[len(PMITOGEN) + 1 :], source, target]
        subprocess.run(command, check=True, timeout=60, cwd=tmp_path, stdout=subprocess.DEVNULL)
    assert (tmp_path / "got").read_bytes() == BINARY and place.logins == 2
    subprocess.run([*PMITOGEN, "hubs", "--stop"], check=True, timeout=60, stdout=subprocess.DEVNULL)
    processes.wait_until(lambda: not hubs(), 40)
    assert place.ssh("target", "true").returncode == 0 and place.logins == 3


@pytest.mark.slow
def test_other_options_and_refusals_log_in(place: Place) -> None:
    place.ansible.tasks(TASKS, {"h": place.host}).check()
    other = ("-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no")
    for index, args in enumerate((("-S", "none"), other, ("-o", "SetEnv=LANG=C"), ("-A",)), 2):
        assert place.ssh(*args, "target", "true").returncode == 0
        assert place.logins == index, args
    unasked = place.command[:-2]
    assert subprocess.run([*unasked, "target", "true"], timeout=60).returncode == 0 and place.logins == 6
    elsewhere = ["unshare", "--net", "--", *place.command, "target", "true"]
    assert subprocess.run(elsewhere, stderr=subprocess.DEVNULL, timeout=60).returncode == 255, "the server is not in that network"
    asking = [*unasked, "-o", f"ControlPath={place.config}.sock"]
    assert subprocess.run([*asking, "target", "true"], timeout=60).returncode == 0 and place.logins == 6
    assert place.ssh("-l", "nobody-of-that-name", "-o", "BatchMode=yes", "target", "true").returncode == 255
    processes.wait_until(lambda: not hubs(), 40)


@pytest.mark.slow
def test_a_command_keeps_the_connection(place: Place) -> None:
    """Beyond the end of the run and the time of ControlPersist; the hub ends after both."""
    place.ansible.tasks(TASKS, {"h": place.host}).check()
    command = [*place.command, "target", "sleep 12; echo done"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as client:
        assert client.stdout is not None and client.stdout.read() == b"done\n"
    assert client.returncode == 0 and place.logins == 1
    processes.wait_until(lambda: not hubs(), 40)


RESET = [TASKS[0], {"ansible.builtin.meta": "reset_connection"}, {**TASKS[0], "name": "again"}]


@pytest.mark.slow
def test_a_command_survives_a_reset(place: Place) -> None:
    """As with ssh, the task after it uses a new connection, and the old one ends with the command."""
    place.ansible.tasks(TASKS, {"h": place.host}).check()
    with subprocess.Popen([*place.command, "target", "echo; read line; echo $line"], **PIPES) as client:
        assert client.stdin is not None and client.stdout is not None and client.stdout.readline() == b"\n"
        place.ansible.tasks(RESET, {"h": place.host}).check()
        assert place.logins == 2
        out, _ = client.communicate(b"survived\n", timeout=20)
    assert (client.returncode, out) == (0, b"survived\n")
    processes.wait_until(lambda: not hubs(), 40)
    assert not place.account.processes()


@pytest.mark.slow
def test_a_command_survives_an_interrupted_run(place: Place) -> None:
    place.ansible.tasks(TASKS, {"h": place.host}).check()
    with subprocess.Popen([*place.command, "target", "echo; read line; echo $line"], **PIPES) as client:
        assert client.stdin is not None and client.stdout is not None and client.stdout.readline() == b"\n"
        sleep = [{"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.command": "sleep 50"}]}]
        running = place.ansible.start(sleep, {"h": place.host})
        processes.wait_until(lambda: any("sleep 50" in each.command for each in place.account.processes()), 30)
        running.signal(signal.SIGINT)
        running.finish()
        processes.wait_until(lambda: not any("sleep 50" in each.command for each in place.account.processes()), 20)
        out, _ = client.communicate(b"survived\n", timeout=20)
    assert (client.returncode, out) == (0, b"survived\n")
    processes.wait_until(lambda: not hubs(), 40)


@pytest.mark.slow
def test_a_client_that_is_killed_ends_its_command(place: Place) -> None:
    place.ansible.tasks(TASKS, {"h": place.host}).check()
    command = [*place.command, "target", "cat /dev/stdin"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as client:
        processes.wait_until(lambda: any("cat /dev" in process.command for process in place.account.processes()), 20)
        client.send_signal(signal.SIGKILL)
        client.wait(20)
        processes.wait_until(lambda: not any("cat /dev" in process.command for process in place.account.processes()), 20)
    assert place.logins == 1
    processes.wait_until(lambda: not hubs(), 40)


@pytest.mark.slow
def test_a_connection_made_with_a_password_is_not_shared(place: Place) -> None:
    place.ansible.tasks(TASKS, {"h": {**place.host, "ansible_password": place.account.password}}).check()
    assert place.ssh("target", "true").returncode == 0 and place.logins == 2
    processes.wait_until(lambda: not hubs(), 40)


@pytest.mark.slow
def test_the_socket_of_a_killed_hub(place: Place) -> None:
    place.ansible.tasks(TASKS, {"h": place.host}).check()
    processes.wait_until(lambda: len(hubs()) == 1, 5)
    os.kill(hubs()[0]["pid"], signal.SIGKILL)
    processes.wait_until(lambda: not hubs(), 5)
    assert place.ssh("target", "true").returncode == 0 and place.logins == 2
    (directory,) = socket_paths.existing_dirs()
    assert not [name for name in os.listdir(directory) if socket_paths.is_ssh_socket(name)]
    shutil.rmtree(directory)


@pytest.mark.slow
def test_a_server_that_allows_no_further_session(
    ansible: Ansible, make_sshd: Callable[..., Sshd], account: Account, home: Path
) -> None:
    """A command logs in at once, and does not wait for the end of another one."""
    place = Place(ansible, make_sshd(config=["MaxSessions 1"]), account, home)
    place.ansible.tasks(TASKS, {"h": place.host}).check()
    with subprocess.Popen([*place.command, "target", "echo; cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin is not None and client.stdout is not None and client.stdout.readline() == b"\n"
        before = place.logins
        begun = time.monotonic()
        assert place.ssh("target", "true").returncode == 0
        assert place.logins == before + 1 and time.monotonic() - begun < 30
    processes.wait_until(lambda: not hubs(), 40)
