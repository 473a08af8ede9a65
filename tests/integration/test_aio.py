"""The library for asyncio against a real sshd: the same operations, and the effects of cancellation."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import pmitogen
from pmitogen import aio
from tests.support import processes
from tests.support.accounts import Account
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]
Use = Callable[[Callable[[aio.Host], Coroutine[Any, Any, Any]]], Any]


@pytest.fixture
def use(sshd: Sshd, account: Account) -> Use:
    """Call a function with a connected host in an event loop, and return its result."""

    async def connected(work: Callable[[aio.Host], Coroutine[Any, Any, Any]]) -> Any:
        async with aio.connect(f"{account.name}@{sshd.host}", ssh_args=sshd.ssh_args(), timeout=30) as host:
            return await work(host)

    return lambda work: asyncio.run(connected(work))


def left(account: Account, word: str) -> list[processes.Process]:
    return [process for process in account.processes() if word in process.command]


def test_operations_have_the_results_of_the_blocking_library(use: Use, account: Account, tmp_path: Path) -> None:
    async def work(host: aio.Host) -> None:
        await host.ping()
        done = await host.run("cat; echo err >&2; exit 3", stdin="größer", text=True)
        assert done == pmitogen.Completed(3, "größer", "err\n")
        with pytest.raises(pmitogen.RemoteError, match="status 4"):
            await host.run("exit 4", check=True)
        with pytest.raises(TypeError, match="cwd"):
            await host.run("pwd", cwd=3)  # type: ignore[call-overload]
        data = os.urandom(3 << 20)
        assert (await host.run(["cat"], stdin=data)).stdout == data
        path = f"{account.home}/aio"
        seen: list[int] = []
        await host.put(data, path, progress=lambda sent, size: seen.append(sent))
        assert seen[-1] == len(data) and sorted(seen) == seen
        assert await host.get(path) == data
        await host.get(path, tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == data
        await host.run(["rm", path], check=True)
        assert len(await host.call(os.getloadavg)) == 3
        assert (await host.become().run("id -u")).stdout == b"0\n"
        assert (await host.info())["user"] == account.name

    use(work)


def test_a_process_streams_its_output_and_input(use: Use) -> None:
    async def work(host: aio.Host) -> None:
        async with await host.start('while read line; do echo "got $line"; done; printf end', text=True) as process:
            for word in ("one", "two"):
                await process.stdin.write(word + "\n")
                assert await process.stdout.readline() == f"got {word}\n"
            process.stdin.close()
            assert [line async for line in process.stdout] == ["end"]
            assert await process.wait(5) == process.returncode == 0
        async with await host.start(["cat"]) as raw:
            assert await raw.communicate(b"x" * (9 << 20)) == (b"x" * (9 << 20), b"")
        async with await host.start("sleep 100") as sleeping:
            with pytest.raises(TimeoutError):
                await sleeping.wait(0.1)
            sleeping.terminate()
            assert await sleeping.wait(5) == 128 + 15

    use(work)


def test_cancelling_a_task_ends_the_remote_process(use: Use, account: Account) -> None:
    async def work(host: aio.Host) -> None:
        task = asyncio.create_task(host.run("sleep 4750 & sleep 4750"))
        await asyncio.to_thread(processes.wait_until, lambda: len(left(account, "sleep 4750")) >= 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(processes.wait_until, lambda: not left(account, "4750"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(host.run("sleep 4751"), 0.5)
        await asyncio.to_thread(processes.wait_until, lambda: not left(account, "4751"))
        with pytest.raises(TimeoutError, match="timed out after"):
            await host.run("sleep 4752", timeout=0.5)

        async def reads() -> None:
            async with await host.start("echo x; sleep 4753") as process:
                async for _ in process.stdout:
                    started.set()

        started = asyncio.Event()
        reading = asyncio.create_task(reads())
        await started.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await asyncio.to_thread(processes.wait_until, lambda: not left(account, "475"))
        assert (await host.run("echo alive")).stdout == b"alive\n"

    use(work)


def test_concurrent_commands_need_no_thread_each(use: Use) -> None:
    async def work(host: aio.Host) -> None:
        await host.ping()  # each first command of a host has a thread, up to four
        before = threading.active_count()
        began = time.monotonic()
        tasks = [asyncio.create_task(host.run(f"sleep 1; echo {index}")) for index in range(50)]
        await asyncio.sleep(0.5)
        assert threading.active_count() <= before
        found = await asyncio.gather(*tasks)
        assert [done.stdout for done in found] == [f"{index}\n".encode() for index in range(50)]
        assert time.monotonic() - began < 20

    use(work)


def test_failed_connections_raise_the_errors_of_the_blocking_library(sshd: Sshd, account: Account) -> None:
    async def work() -> None:
        with pytest.raises(pmitogen.ConnectError) as caught:
            async with aio.connect("127.0.0.1", ssh_args=["-F", "/dev/null", "-p", "1"]):
                pass
        assert caught.value.stage == "tcp"
        with pytest.raises(TypeError, match="unexpected keyword argument 'pasword'"):
            aio.connect("x", pasword="y")  # type: ignore[call-arg]
        host = await aio.connect(f"{account.name}@{sshd.host}", ssh_args=sshd.ssh_args(), timeout=30)
        await host.close()
        await host.close()
        with pytest.raises(pmitogen.ConnectionLost):
            await host.run("true")

    asyncio.run(work())


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.3])
def test_cancelling_a_login_ends_the_connection(seconds: float, sshd: Sshd, account: Account) -> None:
    async def work() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_connect_and_wait(sshd, account), seconds)

    asyncio.run(work())
    processes.wait_until(lambda: not left(account, "python"))


async def _connect_and_wait(sshd: Sshd, account: Account) -> None:
    async with aio.connect(f"{account.name}@{sshd.host}", ssh_args=sshd.ssh_args(), timeout=30):
        await asyncio.sleep(10)


def test_an_open_file_is_read_and_written_in_pieces(use: Use, account: Account) -> None:
    path = f"{account.home}/opened"

    async def work(host: aio.Host) -> None:
        async with host.open(path, "w") as out:
            await out.write("größer\n")
            await out.write("line\n" * 200_000)
            assert not await host.exists(path)
        async with host.open(path) as lines:
            assert await lines.readline() == "größer\n"
            assert sum([1 async for _ in lines]) == 200_000
        with pytest.raises(KeyError):
            async with host.open(path, "wb") as binary:
                await binary.write(bytes(1 << 20))
                raise KeyError
        async with host.open(path, "rb") as raw:
            assert await raw.read(8) == "größer".encode()
        with pytest.raises(FileNotFoundError) as caught:
            async with host.open(f"{path}-not") as lines:
                await lines.read()
        assert isinstance(caught.value, pmitogen.RemoteError) and caught.value.filename == f"{path}-not"
        with pytest.raises(PermissionError):
            async with host.open("/etc/pmitogen-cannot", "w") as out:
                await out.write("x")
        with pytest.raises(pmitogen.UsageError, match="open: mode"):
            host.open(path, "a")  # type: ignore[call-overload]
        await host.remove(path)

    use(work)


def test_as_completed_yields_results_in_the_order_of_completion(sshd: Sshd, account: Account) -> None:
    async def work() -> None:
        async with aio.Hub() as hub:
            host = await hub.connect(f"{account.name}@{sshd.host}", ssh_args=sshd.ssh_args(), timeout=30)

            async def take(seconds: float) -> float:
                if seconds == 0.1:
                    raise KeyError(seconds)
                await host.run(f"sleep {seconds}")
                return seconds

            found = [outcome async for outcome in hub.as_completed(take, [1.2, 0.1, 0.4], limit=3)]
            assert [(outcome.host, outcome.ok) for outcome in found] == [(0.1, False), (0.4, True), (1.2, True)]
            results = hub.as_completed(take, [0.2, 4242, 4243], limit=2)
            async for outcome in results:
                assert outcome.result() == 0.2
                break
            assert await finish_soon(lambda: bool(left(account, "4242")))
            await results.aclose()
            assert await finish_soon(lambda: not left(account, "sleep 42"))

    asyncio.run(work())


async def finish_soon(condition: Callable[[], bool]) -> bool:
    """Wait at most ten seconds for *condition*."""
    for _ in range(100):
        if condition():
            return True
        await asyncio.sleep(0.1)
    return False


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup needs Python 3.11")
def test_a_failing_task_group_ends_its_remote_processes(use: Use, account: Account) -> None:
    async def work(host: aio.Host) -> None:
        async def fail() -> None:
            assert await finish_soon(lambda: len(left(account, "sleep 43")) >= 2)
            raise KeyError

        failed = False
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(host.run("sleep 4301; true"))
                group.create_task(host.run(["sleep", "4302"]))
                group.create_task(fail())
        except BaseException as exc:
            failed = type(exc).__name__ == "ExceptionGroup"
        assert failed and await finish_soon(lambda: not left(account, "sleep 43"))
        assert (await host.run("echo fine", text=True)).stdout == "fine\n"

    use(work)
