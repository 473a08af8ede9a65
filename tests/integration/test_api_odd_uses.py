"""Unusual uses of the library: expired time limits, wrong kinds of functions, forks, Control-C, hosts without a reference."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pmitogen
from pmitogen import aio
from pmitogen.api import Host
from tests.support import processes, session
from tests.support.accounts import Account
from tests.support.library import connect
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]


@pytest.fixture
def host(sshd: Sshd, account: Account) -> Iterator[Host]:
    with connect(sshd, account) as made:
        yield made


def with_tasks(sshd: Sshd, account: Account, work: Callable[[aio.Host], Any]) -> None:
    async def run() -> None:
        async with aio.connect(f"{account.name}@{sshd.host}", ssh_args=sshd.ssh_args(), timeout=30) as made:
            await work(made)

    asyncio.run(run())


# -- expired time limits ----------------------------------------------------------------------------------------------------


def test_a_call_with_an_expired_time_limit_fails_at_once(host: Host, sshd: Sshd, account: Account) -> None:
    with host.start("sleep 4760") as process:
        for call in (
            lambda: host.run("sleep 4760", timeout=0),
            lambda: host.call(time.sleep, 4760, timeout=0),
            lambda: process.wait(0),
            lambda: process.communicate(timeout=0),
        ):
            began = time.monotonic()
            with pytest.raises(pmitogen.TimeoutExpired, match="after 0 seconds"):
                call()  # type: ignore[no-untyped-call]
            assert time.monotonic() - began < 3
    slow = account.write("slow-sudo", '#!/bin/sh\nsleep 3\nexec sudo "$@"\n', 0o755)  # else the account may be entered already
    with pytest.raises(pmitogen.BecomeError) as caught:
        host.become(timeout=0, exe=str(slow)).run("true")
    assert caught.value.kind == "timeout"


def test_a_time_limit_holds_while_output_comes_faster_than_it_is_taken(host: Host, sshd: Sshd, account: Account) -> None:
    began = time.monotonic()

    def take_slowly(*_: object) -> None:
        time.sleep(0.05)
        assert time.monotonic() - began < 10, "the time limit was missed"

    with pytest.raises(pmitogen.TimeoutExpired):
        host.run("yes", timeout=0.5, on_output=take_slowly)

    async def work(task: aio.Host) -> None:
        with pytest.raises((TimeoutError, asyncio.TimeoutError)):
            await asyncio.wait_for(task.run("yes", on_output=take_slowly), 0.5)

        async def read() -> None:
            async with await task.start("yes") as process:
                while await process.stdout.read(1 << 20):
                    take_slowly()

        with pytest.raises((TimeoutError, asyncio.TimeoutError)):
            await asyncio.wait_for(read(), 0.5)

    with_tasks(sshd, account, work)


def test_a_login_with_an_expired_time_limit_fails_at_once(sshd: Sshd, account: Account) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for port in (sshd.port, silent.getsockname()[1]):
            began = time.monotonic()
            args = ["-F", "none", "-p", str(port), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=none"]
            with pytest.raises(pmitogen.ConnectError):
                pmitogen.connect(f"{account.name}@127.0.0.1", timeout=0, ssh_args=args)
            assert time.monotonic() - began < 3


# -- functions of the caller ------------------------------------------------------------------------------------------------


def test_a_coroutine_function_is_accepted_by_the_asyncio_library_only(
    host: Host, sshd: Sshd, account: Account, tmp_path: Path
) -> None:
    seen: list[object] = []
    (tmp_path / "file").write_text("x")

    async def note(*args: object) -> None:
        await asyncio.sleep(0.01)
        seen.append(args[-1])

    async def work(task: aio.Host) -> None:
        await task.run("echo 1; sleep 0.2; echo 2", text=True, on_output=note)
        await task.put(b"12345", "odd-use", progress=note)
        await task.get("odd-use", progress=note)
        await task.put_tree(tmp_path, "odd-tree", progress=note)
        await task.remove("odd-tree", recursive=True)

    with_tasks(sshd, account, work)
    assert seen == ["1\n", "2\n", 5, None, "file"]
    for call in (
        lambda: host.run("echo 1", on_output=note),
        lambda: host.put(b"12345", "odd-use", progress=note),
        lambda: host.get("odd-use", progress=note),
        lambda: host.put_tree(tmp_path, "odd-tree", progress=note),
    ):
        with pytest.raises(TypeError, match="returned a coroutine; use pmitogen.aio"):
            call()
    host.remove("odd-tree", recursive=True)
    host.remove("odd-use")


def _answer_bytes(prompt: str, echo: bool) -> Any:
    return b"yes"


def _end_of_input(prompt: str, echo: bool) -> Any:
    raise EOFError("EOF when reading a line")


def _exit(prompt: str, echo: bool) -> Any:
    sys.exit("given up")


async def _coroutine(prompt: str, echo: bool) -> str:
    return "yes"


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (_answer_bytes, "ask: expected it to return str or None, not bytes"),
        (_end_of_input, "ask: EOFError: EOF when reading a line"),
        (_exit, "ask: SystemExit: given up"),
        (_coroutine, "ask: expected it to return str or None, not coroutine"),
    ],
)
def test_a_failing_ask_function_fails_the_login_with_its_reason(
    ask: Any, message: str, sshd: Sshd, make_account: Callable[..., Account]
) -> None:
    account = make_account(password="p4ss-word")
    unknown = ["-F", "none", "-p", str(sshd.port), "-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile=none"]
    known = ["-F", "none", "-p", str(sshd.port), "-o", f"UserKnownHostsFile={sshd.known_hosts}"]
    for args in (unknown, known, [*known, "-o", "PreferredAuthentications=password"]):
        with pytest.raises(pmitogen.ConnectError) as caught:
            pmitogen.connect(f"{account.name}@127.0.0.1", ssh_args=args, ask=ask, timeout=30)
        assert message in str(caught.value), args


# -- unread input -----------------------------------------------------------------------------------------------------------


def test_writing_to_a_command_with_closed_input_does_not_block(host: Host) -> None:
    with host.start("exec 0<&-; echo closed; sleep 4761", text=True) as process:
        assert process.stdout.readline() == "closed\n"
        writer = threading.Thread(target=process.stdin.write, args=("x" * (20 << 20),), daemon=True)
        writer.start()
        writer.join(10)
        assert not writer.is_alive()
        assert process.poll() is None
    assert host.run("exec 0<&-; sleep 0.2; echo end", input=bytes(20 << 20), timeout=20).stdout == b"end\n"


# -- objects that outlive their host ----------------------------------------------------------------------------------------


def test_a_connection_lives_as_long_as_an_object_that_uses_it(sshd: Sshd, account: Account) -> None:
    before = threading.active_count()
    process = connect(sshd, account).start("echo one; sleep 1; echo two", text=True)
    stream = connect(sshd, account).open("/etc/passwd")
    forwarding = connect(sshd, account).forward_local(sshd.port)
    gc.collect()
    time.sleep(0.3)
    assert list(process.stdout) == ["one\n", "two\n"] and "root" in stream.read()
    with socket.create_connection(("127.0.0.1", forwarding.port), 10) as sock:
        assert sock.recv(4) == b"SSH-"
    stream.close()
    forwarding.close()
    del process, stream, forwarding
    gc.collect()
    processes.wait_until(lambda: threading.active_count() <= before)
    processes.wait_until(lambda: not [each for each in account.processes() if "python" in each.command])


# -- forks ------------------------------------------------------------------------------------------------------------------


def _use_in_a_fork(uses: list[Callable[[], object]], ends: list[Callable[[], object]], answers: Any) -> None:
    for use in uses:
        try:
            answers.put(f"{use()}")
        except pmitogen.UsageError as error:
            answers.put(str(error))
    for end in ends:  # as with blocks would
        end()


@pytest.mark.filterwarnings("ignore:This process")
def test_a_forked_process_can_neither_use_nor_end_objects_of_its_parent(sshd: Sshd, account: Account) -> None:
    with connect(sshd, account) as host:
        with (
            host.start("cat", text=True) as process,
            host.forward_local(sshd.port) as forwarding,
            host.open("forked", "w") as out,
        ):
            uses = [
                process.stdout.readline,
                process.poll,
                process.wait,
                process.communicate,
                process.kill,
                lambda: process.stdin.write("from the child\n"),
            ]
            context = multiprocessing.get_context("fork")
            answers = context.SimpleQueue()
            child = context.Process(
                target=_use_in_a_fork, args=(uses, [process.close, forwarding.close, process.stdin.close], answers)
            )
            child.start()
            child.join(20)
            assert child.exitcode == 0
            assert all(f"belongs to process {os.getpid()}" in answers.get() for _ in uses)
            with socket.create_connection(("127.0.0.1", forwarding.port), 10) as sock:
                assert sock.recv(4) == b"SSH-"
            assert process.communicate("from the parent\n") == ("from the parent\n", "")
            out.write("whole\n")
        assert host.get("forked") == b"whole\n"
        host.remove("forked")


# -- Control-C --------------------------------------------------------------------------------------------------------------

MAPS = """
import sys, pmitogen
def work(host):
    try:
        return host.run("sleep 4762; true")
    finally:
        host.run(["touch", sys.argv[2]], check=True)
with pmitogen.connect(sys.argv[1], ssh_args=sys.argv[3:], timeout=30) as host, pmitogen.Hub() as hub:
    host.ping()
    print("ready", flush=True)
    try:
        for outcome in hub.as_completed(work, [host] * 3, limit=2):
            print(outcome)
    except KeyboardInterrupt:
        print("interrupted", host.run("echo fine", text=True).stdout, flush=True)
        raise
"""


def test_control_c_interrupts_the_calls_of_a_map(sshd: Sshd, account: Account, tmp_path: Path) -> None:
    (tmp_path / "maps.py").write_text(MAPS)
    mark = account.home / "cleaned"
    args = [sys.executable, str(tmp_path / "maps.py"), f"{account.name}@{sshd.host}", str(mark), *sshd.ssh_args()]
    env = {**os.environ, "PYTHONPATH": str(session.repository)}
    with subprocess.Popen(args, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        assert program.stdout is not None and program.stdout.readline() == "ready\n"
        processes.wait_until(lambda: len([p for p in account.processes() if p.command.startswith("sleep 4762")]) == 2)
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=15)
    assert out == "interrupted fine\n\n" and err.rstrip().endswith("KeyboardInterrupt") and program.returncode == -signal.SIGINT
    assert mark.exists()
    mark.unlink()
    processes.wait_until(lambda: not [p for p in account.processes() if "4762" in p.command])


# -- the event loop ---------------------------------------------------------------------------------------------------------


def test_closing_a_forwarding_does_not_block_the_event_loop(make_sshd: Callable[..., Sshd], account: Account) -> None:
    server = make_sshd()

    async def work(task: aio.Host) -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.05)
                ticks += 1

        ticking = asyncio.create_task(tick())
        async with await task.forward_remote(1):
            server.freeze()
            resume = threading.Timer(1.0, server.thaw)
            resume.start()
        resume.join()
        ticking.cancel()
        assert ticks > 8

    with_tasks(server, account, work)
