"""Files that the library reads before Python is needed: content, errors and ends are those of the agent."""

from __future__ import annotations

import asyncio
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import pmitogen
from pmitogen import aio
from pmitogen.hub.without_python import simple_commands
from tests.support import processes
from tests.support.accounts import Account
from tests.support.library import connect
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]

NAMES = [
    b"small",
    b"empty",
    b"large",
    b"-n",
    b"a b",
    b'it\'s "$HOME" \\ !',
    b"two\nlines",
    "größer".encode(),
    b"no \xff\xfe text",
    b"link",
    b"missing",
    b"directory",
    b"pipe",
    b"closed",
    b"~/small",
    b"~",
    b"directory/../small",
    b"small/below",
    b"/dev/null",
    b"/proc/self/limits",
    b"n" * 300,
    b"d/" * 2000,
]


def has_python(account: Account) -> bool:
    return any("python" in process.command for process in account.processes())


def cat_processes(account: Account) -> list[processes.Process]:
    return [process for process in account.processes() if process.command.startswith("cat ")]


@pytest.fixture
def files(make_account: Callable[..., Account]) -> Account:
    """An account with a file for each of NAMES that can have one."""
    account = make_account()
    home = os.fsencode(account.home)
    for name in NAMES[1:9]:
        size = {b"empty": 0, b"large": 3_000_000}.get(name, 9)
        Path(os.fsdecode(home + b"/" + name)).write_bytes(os.urandom(size))
    account.write("small", "text\n")
    account.write("closed", "secret\n", 0)
    os.chown(account.home / "closed", 0, 0)
    (account.home / "link").symlink_to("small")
    (account.home / "directory").mkdir()
    os.mkfifo(account.home / "pipe")
    return account


def outcome(host: pmitogen.Host, name: bytes) -> object:
    """What a program sees: the content, or the exception with its text and errno."""
    try:
        return host.get(name)
    except pmitogen.Error as error:
        return type(error), str(error), getattr(error, "errno", None)


@pytest.mark.parametrize(
    "noise", ["", "echo noise; echo noise >&2\n", "printf title; printf title >&2\n", "exec 2>&1\n", "set -x\n"]
)
def test_results_are_those_of_the_agent(noise: str, sshd: Sshd, files: Account) -> None:
    files.write(".bashrc", noise)
    simple = []
    for name in NAMES:
        with connect(sshd, files) as host:
            simple.append(outcome(host, name))
    with connect(sshd, files) as host:
        host.ping()
        agent = [outcome(host, name) for name in NAMES]
    for name, one, other in zip(NAMES, simple, agent, strict=True):
        assert one == other, name
    assert agent[0] == b"text\n" and agent[10][0] is not bytes


RECORDER = 'script -q -e -c "$SSH_ORIGINAL_COMMAND" /dev/null'


@pytest.mark.parametrize("command", ["true", "echo no file", "cat", RECORDER])
def test_the_output_of_another_command_is_no_file(command: str, make_sshd: Callable[..., Sshd], files: Account) -> None:
    """Nor is what a terminal or a filter has changed."""
    server = make_sshd(config=[f"ForceCommand {command}"])
    with connect(server, files, timeout=5) as host:
        seen = outcome(host, b"small")
    assert seen == b"text\n" or isinstance(seen, tuple), seen


@pytest.mark.parametrize("shell_reads", ["exec >/dev/null", "exec > >(sed s/^/_/)"])
def test_what_start_up_files_do_to_stdout_changes_no_file(shell_reads: str, sshd: Sshd, files: Account) -> None:
    files.write(".bashrc", f"{shell_reads}\n")
    with connect(sshd, files, timeout=5) as host:
        assert outcome(host, b"small") != b""  # an error: Python cannot be started either


def test_no_python_is_started_for_files(sshd: Sshd, files: Account, tmp_path: Path) -> None:
    seen: list[int] = []
    with connect(sshd, files) as host:
        assert host.get("small") == b"text\n"
        host.get("large", tmp_path / "large", progress=lambda count, _total: seen.append(count))
        assert not has_python(files)
    assert (tmp_path / "large").read_bytes() == (files.home / "large").read_bytes()
    assert seen[-1] == 3_000_000 and seen == sorted(set(seen))


def test_python_starts_after_some_files(sshd: Sshd, files: Account) -> None:
    with connect(sshd, files) as host:
        for number in range(1, simple_commands.MIN_COUNT + 1):
            assert not has_python(files)
            assert host.get("small") == b"text\n", number
        processes.wait_until(lambda: has_python(files), 10)
        assert host.get("small") == b"text\n"


def test_an_error_after_a_part_of_the_file_is_one(sshd: Sshd, files: Account, tmp_path: Path) -> None:
    """As of a disk that cannot be read to its end: no other attempt may follow, and no half of a file may be left."""
    files.write(
        "bin/cat", "#!/bin/sh\necho attempt >> attempts; head -c 900000 /dev/zero; echo cannot read on >&2; exit 1\n", 0o755
    )
    files.write(".bashrc", 'PATH="$HOME/bin:$PATH"\n')
    with connect(sshd, files) as host, pytest.raises(pmitogen.RemoteError, match="small: cannot read on"):
        host.get("small", tmp_path / "copy")
    assert (files.home / "attempts").read_text() == "attempt\n" and not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", ["exit 1", "head -c 100 /dev/zero; exit 1", "exit 127"])
def test_python_reads_what_cat_cannot(script: str, sshd: Sshd, files: Account) -> None:
    files.write("bin/cat", f"#!/bin/sh\n{script}\n", 0o755)
    files.write(".bashrc", 'PATH="$HOME/bin:$PATH"\n')
    with connect(sshd, files) as host:
        assert host.get("small") == b"text\n" and has_python(files)


def test_the_host_waits_for_a_slow_reader(sshd: Sshd, account: Account) -> None:
    with open(account.home / "huge", "wb") as huge:
        huge.truncate(200 << 20)
    blocked, go_on = threading.Event(), threading.Event()

    class Slow(io.RawIOBase):
        size = 0

        def write(self, data: object) -> int:
            blocked.set()
            assert go_on.wait(30)
            self.size += len(memoryview(data))  # type: ignore[arg-type]
            return len(memoryview(data))  # type: ignore[arg-type]

    target = Slow()
    with connect(sshd, account) as host:
        reader = threading.Thread(target=host.get, args=("huge", target))
        reader.start()
        assert blocked.wait(30)
        (cat,) = cat_processes(account)

        def position() -> int:
            return int(Path(f"/proc/{cat.pid}/fdinfo/3").read_text().split()[1])

        before = -1
        while before != (before := position()):
            threading.Event().wait(0.5)
        assert 0 < before < 24 << 20  # the windows of SSH and of the request, and the pipes
        go_on.set()
        reader.join()
    assert target.size == 200 << 20


def test_a_cancelled_read_leaves_nothing(sshd: Sshd, account: Account, tmp_path: Path) -> None:
    with open(account.home / "huge", "wb") as huge:
        huge.truncate(100 << 30)

    async def main() -> None:
        name = f"{account.name}@{sshd.host}"
        async with await aio.connect(name, ssh_args=sshd.ssh_args(), timeout=30) as host:
            reading = asyncio.create_task(host.get("huge", tmp_path / "copy"))
            await asyncio.to_thread(processes.wait_until, lambda: bool(cat_processes(account)), 10)
            await asyncio.sleep(0.2)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            await asyncio.to_thread(processes.wait_until, lambda: not cat_processes(account), 10)
            assert (await host.run("echo x", check=True)).stdout == b"x\n"

    asyncio.run(main())
    assert not list(tmp_path.iterdir())


def test_a_lost_connection_ends_the_read(make_sshd: Callable[..., Sshd], account: Account, tmp_path: Path) -> None:
    server = make_sshd()
    with open(account.home / "huge", "wb") as huge:
        huge.truncate(100 << 30)
    with connect(server, account) as host:
        failures: list[BaseException] = []

        def read() -> None:
            try:
                host.get("huge", tmp_path / "copy")
            except pmitogen.Error as error:
                failures.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        processes.wait_until(lambda: bool(cat_processes(account)), 10)
        server.kill_sessions()
        reader.join(20)
        assert [type(each) for each in failures] == [pmitogen.ConnectionLost] and not list(tmp_path.iterdir())
