"""A target that reboots: the module reboot, and an asynchronous reboot followed by wait_for_connection, as over ssh.

The "reboot" is a script on the target that creates a file. A thread of the test then stops the test's own sshd with all of its
sessions and their processes, changes the boot time, and starts the server again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.one_core]

DOWN = 0.7  # seconds


class Machine:
    """The target. ``reboots``: their number; ``script``: requests a reboot; ``boot``: the file with the time of the last boot."""

    def __init__(self, server: Sshd, directory: Path) -> None:
        self.server, self.reboots = server, 0
        self.script, self.boot, self._mark = directory / "reboot", directory / "boot", directory / "mark"
        self.script.write_text(f"#!/bin/sh\ntouch '{self._mark}'\nsleep ${{1:-0}}\necho going down\n")
        self.script.chmod(0o755)
        directory.chmod(0o777)
        self.boot.write_text("boot 0\n")

    def serve(self, done: threading.Event) -> None:
        while not done.wait(0.02):
            if self._mark.exists():
                self.reboots += 1
                self.server.stop()  # first; otherwise a client that is still connected would read the new boot time
                self.boot.write_text(f"boot {self.reboots}\n")
                self._mark.unlink()
                time.sleep(DOWN)
                self.server.start()


@pytest.fixture
def machine(make_sshd: Callable[..., Sshd], short_path: Path) -> Iterator[Machine]:
    made, done = Machine(make_sshd(), short_path), threading.Event()
    thread = threading.Thread(target=made.serve, args=(done,))
    thread.start()
    yield made
    done.set()
    thread.join()


@pytest.mark.needs_program("ssh")
@pytest.mark.parametrize("connection", [pytest.param("ssh", marks=pytest.mark.slow), "pmitogen"])
def test_a_reboot_is_awaited_as_over_ssh(
    ansible: Ansible, machine: Machine, make_account: Callable[..., Account], connection: str
) -> None:
    account = make_account(sudo="nopasswd")
    down = f"{machine.script} 30"
    times = {"boot_time_command": f"cat {machine.boot}", "post_reboot_delay": 0, "reboot_timeout": 30, "connect_timeout": 5}
    reboot = {**times, "reboot_command": down, "test_command": "id -un"}
    tasks: list[dict[str, Any]] = [
        {"name": "before", "ansible.builtin.command": "id -un", "become": True},
        {"name": "reboot", "ansible.builtin.reboot": reboot, "become": True},
        {"name": "root", "ansible.builtin.command": "id -un", "become": True},
        {"name": "refused", "ansible.builtin.reboot": {**reboot, "reboot_command": "/bin/false"}, "ignore_errors": True},
        {"name": "fire", "ansible.builtin.shell": f"sleep 0.2; {down}", "async": 20, "poll": 0},
        {"name": "wait", "ansible.builtin.wait_for_connection": {"delay": 1, "timeout": 30, "connect_timeout": 5}},
        {"name": "up", "ansible.builtin.command": f"cat {machine.boot}"},
    ]
    alone = {"ANSIBLE_SSH_ARGS": "-o ControlMaster=no"} if connection == "ssh" else {}  # its master would stay connected
    run = ansible.tasks(tasks, {"h": ansible.target(machine.server, account)}, connection=connection, env=alone)
    assert run.rc == 0 and machine.reboots == 2, run.output
    assert run.task("reboot")["rebooted"] and run.task("reboot").changed and run.task("reboot")["elapsed"] >= 0
    assert run.task("root")["stdout"] == "root"
    assert run.task("refused").message.startswith("Reboot command failed. Error was: ', "), run.output
    assert run.task("up")["stdout"] == "boot 2"
