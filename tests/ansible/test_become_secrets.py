"""No password becomes readable: in output, log, process list, environment, result or file, on the controller or the target."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import init, session
from tests.support.accounts import Account, owned_files
from tests.support.ansible import Ansible
from tests.support.becoming import DOAS, FILES, ID_TASK, PLUGINS, People, becoming
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]


class Sampler:
    """Record command lines and environments of all processes of this run, on both sides, while a play runs."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = [secret.encode() for secret in secrets]
        self._over = threading.Event()
        self.commands: set[bytes] = set()
        self.found: set[str] = set()

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.02):
            for process in init.family():
                for name in ("cmdline", "environ"):
                    self._look(process.pid, name)

    def _look(self, pid: int, name: str) -> None:
        try:
            text = Path(f"/proc/{pid}/{name}").read_bytes()
        except OSError:
            return
        if name == "cmdline":
            self.commands.add(text.split(b"\0")[0].rpartition(b"/")[2])
        for secret in self._secrets:
            if secret in text:
                self.found.add(f"{name} of {pid}: {text[:200]!r}")


def _files(*accounts: Account) -> Iterator[Path]:
    """Files that a run or its target side may have written, except the inventory, into which the test has put passwords."""
    directories = [
        session.directory,
        *(account.home for account in accounts),
        *owned_files({account.uid for account in accounts}),
    ]
    for directory in directories:
        for root, _, names in os.walk(directory):
            yield from (Path(root) / name for name in names if name != "hosts.json")
    yield from (account.sudo_log for account in accounts if account.sudo_log.exists())


@pytest.mark.newest_core
def test_no_become_password_is_readable_anywhere(ansible: Ansible, sshd: Sshd, people: People, short_path: Path) -> None:
    asked, other = people.password_sudo, people.others[0]
    assert asked.password and other.password
    secrets = {"login": asked.password, "su": other.password, "wrong": "n0t-th1s-0ne"}
    options = {
        "sudo": becoming("sudo", "root", asked.password),
        "su": becoming("su", other.name, other.password),
        "doas": becoming(DOAS, other.name, asked.password),
        "private": becoming("asking", other.name, other.password),
        "wrong": becoming("sudo", "root", secrets["wrong"]),
        "wrong-su": becoming("su", other.name, secrets["wrong"]),
    }
    by_password = {"ansible_password": asked.password, "ansible_ssh_private_key_file": "/nonexistent/key"}
    hosts = {name: ansible.target(sshd, asked, **variables, **by_password) for name, variables in options.items()}
    ours = "inventory_hostname == 'sudo'"  # on other hosts, Ansible itself may leave a directory
    tasks: list[dict[str, Any]] = [
        {"name": "who", **ID_TASK, "ignore_errors": True},
        {"name": "hidden", **ID_TASK, "no_log": True, "ignore_errors": True},
        {"name": "broken", "ansible.builtin.shell": "kill -9 $PPID", "ignore_errors": True, "when": ours},
        {"name": "raw", "ansible.builtin.raw": "env", "ignore_errors": True},
    ]
    log = short_path / "log"
    env = {"PMITOGEN_LOG": "trace", "PMITOGEN_LOG_FILE": str(log), "ANSIBLE_BECOME_PLUGINS": str(PLUGINS)}
    sampler = Sampler(secrets.values())
    with sampler.running():
        run = ansible.tasks(tasks, hosts, play={"become": True}, files=FILES, env=env, args=["-vvvvv", "-f", "6"])
    for name in ("sudo", "su", "doas", "private"):
        assert run.task("who", name).kind == "ok", run.task("who", name).message
    assert {b"sudo", b"su", b"doas"} <= sampler.commands, sampler.commands
    assert log.stat().st_size > 5000 and log.stat().st_mode & 0o777 == 0o600
    for secret in secrets.values():
        assert secret not in run.output
        assert secret not in sshd.log()
        assert not [path for path in _files(asked, other) if path.is_file() and secret.encode() in path.read_bytes()]
    assert not sampler.found
    hidden = run.task("hidden", "wrong")
    assert hidden.kind == "failed" and set(secrets.values()).isdisjoint(str(hidden.result).split())
    assert "Traceback (most recent" not in run.output + log.read_text()
