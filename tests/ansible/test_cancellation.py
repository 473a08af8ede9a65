"""Within seconds after a run, a task or a worker ends, none of its processes is left on the controller or the target."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import init, processes
from tests.support.accounts import Account
from tests.support.ansible import Ansible, Running
from tests.support.processes import Process
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.one_core]

GRACE = 5.0  # seconds
IGNORES_SIGNALS = "trap '' TERM INT HUP; sleep 61; sleep 62"  # the shell and its children ignore these signals


def _running(account: Account, text: str) -> list[Process]:
    return [process for process in account.processes() if process.command.startswith(text)]


def _hubs() -> list[Process]:
    return [process for process in init.family() if "pmitogen.hub.daemon.main" in process.command]


def _workers(running: Running) -> list[Process]:
    found = processes.descendants(running.pid)
    return [each for each in found if "ansible" in each.command and "pmitogen.hub.daemon.main" not in each.command]


def _private_files() -> list[Path]:
    return list(Path(os.environ["XDG_RUNTIME_DIR"]).iterdir())


def _start(
    ansible: Ansible, server: Sshd, account: Account, tasks: Iterable[dict[str, Any]], forks: int = 3, **more: Any
) -> Running:
    hosts = {f"h{index}": ansible.target(server, account) for index in range(forks)}
    return ansible.start([{"hosts": "all", "gather_facts": False, "tasks": list(tasks)}], hosts, args=["-f", str(forks)], **more)


def _assert_gone(before: set[Process], account: Account) -> None:
    """A run that has ended leaves no process after the grace period."""
    until = time.monotonic() + GRACE

    def left() -> list[object]:
        known = {(process.pid, process.start) for process in before}
        return [*account.processes(), *_private_files(), *(p for p in init.family() if (p.pid, p.start) not in known)]

    while left() and time.monotonic() < until:
        time.sleep(0.05)
    assert not [str(each) for each in left()]


@pytest.fixture
def server_and_account(
    make_sshd: Callable[..., Sshd], make_account: Callable[..., Account]
) -> Iterator[tuple[Sshd, Account, set[Process]]]:
    """A server, an account server_and_account, and the processes that run already."""
    server, account = make_sshd(), make_account(sudo="nopasswd")
    yield server, account, init.family()
    for directory in Path(os.environ["TMPDIR"]).glob("pymp-*"):
        shutil.rmtree(directory)  # of multiprocessing in a killed process, which could not remove it


SLEEP = [{"name": "long", "ansible.builtin.command": "sleep 61"}]


def test_a_run_that_ends_normally_leaves_no_process(
    ansible: Ansible, server_and_account: tuple[Sshd, Account, set[Process]]
) -> None:
    server, account, before = server_and_account
    tasks = [{"ansible.builtin.ping": {}}, {"ansible.builtin.ping": {}, "become": True}]
    running = _start(ansible, server, account, tasks)
    processes.wait_until(lambda: len(running.tasks()) >= 3, 20)
    assert len(_hubs()) == 1 and account.processes() and _private_files()
    running.finish().check()
    _assert_gone(before, account)


@pytest.mark.parametrize(
    "how", ["ctrl-c", "kill -9", *(pytest.param(how, marks=pytest.mark.slow) for how in ("kill -9 all", "term"))]
)
def test_an_interrupted_or_killed_run_leaves_no_process(
    ansible: Ansible, server_and_account: tuple[Sshd, Account, set[Process]], how: str
) -> None:
    server, account, before = server_and_account
    tasks = [{"name": "long", "ansible.builtin.shell": IGNORES_SIGNALS}]
    running = _start(ansible, server, account, tasks)
    processes.wait_until(lambda: len(_running(account, "sleep 61")) == 3, 20)
    signum, group = {
        "ctrl-c": (signal.SIGINT, True),
        "kill -9": (signal.SIGKILL, False),
        "kill -9 all": (signal.SIGKILL, True),
        "term": (signal.SIGTERM, False),
    }[how]
    running.signal(signum, group=group)
    running.finish(GRACE)
    _assert_gone(before, account)


def test_ctrl_c_during_connecting_leaves_no_process(
    ansible: Ansible, server_and_account: tuple[Sshd, Account, set[Process]]
) -> None:
    server, account, before = server_and_account
    server.freeze()
    try:
        running = _start(ansible, server, account, SLEEP)
        # Python discards an exception that a handler raises during a fork, and Ansible then loses the interrupt.
        processes.wait_until(lambda: _hubs() and len(_workers(running)) == 3, 20)
        time.sleep(0.5)
        running.signal(signal.SIGINT)
        running.finish(GRACE)
        _assert_gone(before, account)
    finally:
        server.thaw()


def test_task_timeout_ends_the_process_group(ansible: Ansible, server_and_account: tuple[Sshd, Account, set[Process]]) -> None:
    server, account, _ = server_and_account
    tasks = [
        {"name": "long", "ansible.builtin.shell": IGNORES_SIGNALS, "timeout": 2, "ignore_errors": True},
        {"name": "raw", "ansible.builtin.raw": "sleep 63", "timeout": 2, "ignore_errors": True},
        {"name": "root", "ansible.builtin.command": "sleep 64", "timeout": 2, "ignore_errors": True, "become": True},
        {"name": "after", "ansible.builtin.command": "id -un"},
    ]
    running = _start(ansible, server, account, tasks, forks=1)
    processes.wait_until(lambda: len(running.tasks()) >= 3, 20)
    processes.wait_until(lambda: not any(p.command.startswith("sleep 6") for p in processes.descendants(server.pid)), GRACE)
    run = running.finish()
    for name in ("long", "raw", "root"):
        assert run.task(name).kind == "failed", run.output
        assert re.search(r"2 second|time frame \(2\)", run.task(name).message), run.output  # the second before ansible-core 2.19
    assert run.task("after")["stdout"] == account.name
    assert server.connections() == 1


def test_the_command_of_a_killed_worker_is_ended(
    ansible: Ansible, server_and_account: tuple[Sshd, Account, set[Process]]
) -> None:
    server, account, before = server_and_account
    running = _start(ansible, server, account, SLEEP, forks=2)
    processes.wait_until(lambda: len(_running(account, "sleep 61")) == 2, 20)
    workers = _workers(running)
    assert len(workers) == 2
    os.kill(workers[0].pid, signal.SIGKILL)
    processes.wait_until(lambda: len(_running(account, "sleep 61")) <= 1, GRACE)
    running.signal(signal.SIGINT)
    running.finish(10)
    _assert_gone(before, account)
