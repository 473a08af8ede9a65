"""Large files and output: the memory of the hub and of the target stays constant, and other hosts go on."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import init
from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.one_core]

MIB = 1 << 20
GROWTH = 60 * MIB  # allowed growth of each process of pmitogen since the first small file
SIZES = [pytest.param(2048, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]


class Sizes:
    """Record the largest resident size of the hub, and of each process of an account on the target."""

    def __init__(self, account: Account) -> None:
        self.peaks: dict[str, int] = {}
        self._account, self._done = account, threading.Event()

    def _look(self) -> None:
        while not self._done.wait(0.05):
            for process in init.family():
                if "pmitogen.hub.daemon.main" in process.command:
                    self._note("hub", process.pid)
            for process in self._account.processes():
                self._note("target", process.pid)

    def _note(self, name: str, pid: int) -> None:
        with contextlib.suppress(OSError, IndexError):
            size = int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0]) << 10
            self.peaks[name] = max(self.peaks.get(name, 0), size)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        thread = threading.Thread(target=self._look)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()


def measured(ansible: Ansible, hosts: dict[str, Any], account: Account, play: dict[str, Any]) -> tuple[Any, dict[str, int]]:
    """Run *play*; return its run and the largest size of each process."""
    sizes = Sizes(account)
    with sizes.watched():
        run = ansible.playbook([play], hosts, timeout=800, args=["-f", "4"]).check()
    return run, sizes.peaks


def baseline(ansible: Ansible, hosts: dict[str, Any], account: Account) -> dict[str, int]:
    tasks = [{"ansible.builtin.copy": {"content": "x", "dest": "~/small"}}, {"ansible.builtin.stat": {"path": "~/small"}}]
    return measured(ansible, hosts, account, {"hosts": "h", "gather_facts": False, "tasks": tasks})[1]


def grown(before: dict[str, int], after: dict[str, int], what: str) -> list[str]:
    """Print the sizes, and return the processes that grew more than GROWTH."""
    for name, size in after.items():
        print(f"{what}: {name} {size / MIB:.0f} MiB, {before[name] / MIB:.0f} MiB with small files")
    return [name for name, size in after.items() if size - before[name] > GROWTH]


def make_file(path: Path, mebibytes: int) -> None:
    block = os.urandom(MIB)
    with path.open("wb") as stream:
        for index in range(mebibytes):
            stream.write(index.to_bytes(4, "big") + block[4:])


@pytest.mark.parametrize("size", SIZES)
def test_files_are_copied_and_fetched_in_constant_memory(
    size: int, ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account], tmp_path: Path
) -> None:
    """Meanwhile another worker runs tasks on the same host."""
    account = make_account()
    target = ansible.target(sshd, account, ansible_python_interpreter="/usr/bin/python3")
    hosts = {"h": target, "beside": target}
    make_file(tmp_path / "large", size)
    before = baseline(ansible, hosts, account)
    large = [
        {"name": "copy", "ansible.builtin.copy": {"src": str(tmp_path / "large"), "dest": "~/large"}},
        {"name": "fetch", "ansible.builtin.fetch": {"src": "~/large", "dest": f"{tmp_path}/back", "flat": True}},
    ]
    small = [{"name": f"small {index}", "ansible.builtin.command": f"echo {index}"} for index in range(10)]
    tasks = [{"when": "inventory_hostname == 'h'", "block": large}, {"when": "inventory_hostname == 'beside'", "block": small}]
    play = {"hosts": "all", "gather_facts": False, "strategy": "free", "tasks": tasks}
    mark = sshd.mark()
    run, after = measured(ansible, hosts, account, play)
    assert sshd.connections(mark) <= 1  # none if the connection of the run before is still open (ControlPersist)
    done = [(task.host, task.task) for task in run.tasks if task.kind == "ok"]
    assert done.index(("beside", "small 9")) < done.index(("h", "fetch")), done
    assert run.task("copy", "h")["size"] == size * MIB
    assert run.task("copy", "h")["checksum"] == run.task("fetch", "h")["remote_checksum"] == run.task("fetch", "h")["checksum"]
    assert grown(before, after, f"{size} MiB there and back") == []


@pytest.mark.slow
@pytest.mark.parametrize("way", ["copy", "fetch"])
@pytest.mark.parametrize("victim", ["connection", "run"])
def test_an_interrupted_transfer_leaves_the_old_file(
    way: str, victim: str, ansible: Ansible, make_sshd: Callable[..., Sshd], make_account: Callable[..., Account], tmp_path: Path
) -> None:
    """Either the connection or the whole run ends in the middle of a transfer."""
    server, account = make_sshd(), make_account()
    here, there = tmp_path / "here", account.write("there", "old\n")
    make_file(tmp_path / "large", 512)
    here.write_text("old\n")
    if way == "fetch":
        (tmp_path / "large").rename(there)
        task = {"ansible.builtin.fetch": {"src": "~/there", "dest": str(here), "flat": True}}
        pieces, replaced = tmp_path, here
    else:
        task = {"ansible.builtin.copy": {"src": str(tmp_path / "large"), "dest": "~/there"}}
        pieces, replaced = account.home / ".ansible/tmp", there
    target = ansible.target(server, account, ansible_python_interpreter="/usr/bin/python3")
    running = ansible.start([{"hosts": "all", "gather_facts": False, "tasks": [{"name": "cut", **task}]}], {"h": target})

    def arriving() -> bool:
        found = [path for path in pieces.rglob("*") if path.name.startswith((".here.", ".pmitogen", ".source"))]
        return any(10 * MIB < path.stat().st_size < 450 * MIB for path in found)

    until = time.monotonic() + 60
    while not arriving():
        assert time.monotonic() < until and running.process.poll() is None, "the transfer was not seen in progress"
    if victim == "connection":
        server.kill_sessions()
    else:
        running.signal(9)
    run = running.finish()
    for directory in Path(os.environ["TMPDIR"]).glob("pymp-*"):
        shutil.rmtree(directory)  # of multiprocessing in a killed process, which could not remove it
    assert replaced.read_text() == "old\n"
    if victim == "connection":
        assert run.task("cut").kind == "unreachable", run.output
        assert sorted(path.name for path in tmp_path.iterdir()) == (["here"] if way == "fetch" else ["here", "large"])


OUTPUT, INPUT = 200 * 1000 * 1000, 100 * 1000 * 1000  # bytes


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_large_output_and_input_take_constant_memory(
    ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account], tmp_path: Path
) -> None:
    """Ansible itself holds a task's output in memory, whatever the connection; the hub and the agent do not."""
    account = make_account()
    hosts = {"h": ansible.target(sshd, account, ansible_python_interpreter="/usr/bin/python3")}
    before = baseline(ansible, hosts, account)
    out = f"head -c {OUTPUT} /dev/zero | tr '\\0' x"
    measure: dict[str, Any] = {"ansible.builtin.debug": {"msg": "{{ [large.stdout | length, large.rc] }}"}}
    tasks = [
        {"name": "raw", "ansible.builtin.raw": out, "register": "large", "no_log": True},
        {"name": "raw length", **measure},
        {"name": "shell into nothing", "ansible.builtin.shell": f"{out} > ~/large"},
        {"name": "file", "ansible.builtin.raw": "cat ~/large", "register": "large", "no_log": True},
        {"name": "file length", **measure},
    ]
    run, after = measured(ansible, hosts, account, {"hosts": "all", "gather_facts": False, "tasks": tasks})
    for name in ("raw", "file"):
        assert run.task(f"{name} length")["msg"] == [OUTPUT, 0]
    assert grown(before, after, "200 MB of output") == []
    (tmp_path / "words").write_bytes(b"x" * INPUT)
    options = {
        "cmd": "wc -c",
        "stdin": f"{{{{ lookup('ansible.builtin.file', '{tmp_path}/words') }}}}",
        "stdin_add_newline": False,
    }
    tasks = [
        {"name": "input", "ansible.builtin.command": options, "register": "large", "no_log": True},
        {"name": "length", "ansible.builtin.debug": {"msg": "{{ large.stdout }}"}},
    ]
    run, after = measured(ansible, hosts, account, {"hosts": "all", "gather_facts": False, "tasks": tasks})
    assert run.task("length")["msg"] == str(INPUT)
    assert "hub" not in grown(before, after, "100 MB of input"), "the module itself holds its parameters"
