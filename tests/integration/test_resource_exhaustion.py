"""A controller that can start no further thread or open no further file, and a hub whose I/O thread ends: no caller hangs,
and nothing is left.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import pmitogen
from pmitogen.cli import main as cli
from pmitogen.errors import ConnectError, ConnectionLost, HubError
from pmitogen.hub import client as hub_client
from pmitogen.hub.daemon import start_or_adopt
from pmitogen.util import limits, threads
from tests.support import processes
from tests.support.accounts import Account
from tests.support.sshd import Sshd, find_sshd

from .test_transfers import WorkerConnection, options

__all__ = ["options"]  # the fixture
pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]

# Behaves as Thread.start after EAGAIN of clone(2); a limit of the kernel would count for root, or for the whole container.
LIMITED = """
import threading
started, real = [], threading.Thread.start
def start(thread):
    if len(started) >= {limit}:
        raise RuntimeError("can't start new thread")
    started.append(thread)
    real(thread)
threading.Thread.start = start
"""
FEW_FILES = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30));"
FAULTY = """
from pmitogen.hub.host.host import Host
from pmitogen.hub.scheduler import Guard
Host.on_channel = lambda *args: 1 / 0
Guard.run = lambda guard, work, *args: work(*args)
"""


@pytest.fixture(autouse=True)
def _no_hub() -> Iterator[None]:
    yield
    hub_client.stop_hubs(everything=True)


def _hub_pids() -> list[int]:
    return [process.pid for process in processes.descendants(os.getpid()) if "pmitogen.hub.daemon.main" in process.command]


def _ask(options: dict[str, Any]) -> str:
    """Return the outcome of a command: "in", or the error."""
    worker = WorkerConnection(options)
    try:
        header, body = worker.final(worker.request({"op": "exec", "argv": ["echo", "in"]}))
        return body.decode().strip() if header["op"] == "exit" else f"{header.get('kind')}: {header['msg']}"
    except HubError as error:
        return error.message
    finally:
        worker.client.close()


def test_a_missing_thread_of_the_hub_is_reported(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread that a connection needs is the one that cannot start."""
    main, answers = start_or_adopt.HUB_COMMAND, []
    for limit in range(12):
        monkeypatch.setattr(start_or_adopt, "HUB_COMMAND", LIMITED.format(limit=limit) + main)
        began = time.monotonic()
        answers.append(_ask(options))
        assert time.monotonic() - began < 8, answers
        hub_client.stop_hubs(everything=True)
        processes.wait_until(lambda: not _hub_pids(), 8)
        if answers[-1] == "in":
            break
    assert answers[0] == f"the hub cannot start: {threads.EXHAUSTED_MESSAGE}"
    assert 3 <= len(answers) < 10 and answers[-1] == "in"
    assert all(answer.endswith(threads.EXHAUSTED_MESSAGE) for answer in answers[:-1]), answers


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (
            "import pmitogen.hub.trace as changed; changed.make_trace = lambda *args: 1 / 0",
            "the hub cannot start: internal error",
        ),
        (
            "import pmitogen.hub.sharing.ssh_clients as module; module.SSHClients = lambda *args: 1 / 0",
            "the hub of this run has ended",
        ),
        (
            "import time, pmitogen.hub.daemon.lifecycle as changed\n"
            "changed.HubLifecycle.wait = lambda *args: time.sleep(1) or 1 / 0",
            "the hub of this run has ended: internal error (ZeroDivisionError",
        ),
    ],
)
def test_a_hub_with_an_internal_error_ends(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, fault: str, reason: str
) -> None:
    """At its start, with its sockets half ready, and during a request: the process ends, and its clients get the reason."""
    monkeypatch.setattr(start_or_adopt, "HUB_COMMAND", f"{fault}\n{start_or_adopt.HUB_COMMAND}")
    worker = WorkerConnection(options)
    try:
        header, _ = worker.final(worker.request({"op": "exec", "argv": ["sleep", "20"]}))
        answer = header["msg"]
    except HubError as error:
        answer = error.message
    finally:
        worker.client.close()
    assert reason in answer
    processes.wait_until(lambda: not _hub_pids(), 8)


def test_hosts_beyond_the_limit_of_open_files_are_unreachable(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Connected hosts stay connected; both one after the other and all at once."""
    monkeypatch.setattr(start_or_adopt, "HUB_COMMAND", FEW_FILES + start_or_adopt.HUB_COMMAND)
    answers = [_ask({**options, "ssh_extra_args": f"-o ServerAliveInterval={60 + index}"}) for index in range(24)]
    most = answers.count("in")
    assert 10 < most < 24 and set(answers[most:]) == {f"unreachable: {limits.EXHAUSTED_MESSAGE}"}
    assert _ask({**options, "ssh_extra_args": "-o ServerAliveInterval=60"}) == "in"
    with ThreadPoolExecutor(30) as pool:
        answers = list(
            pool.map(lambda index: _ask({**options, "ssh_extra_args": f"-o ServerAliveInterval={60 + index}"}), range(30))
        )
    assert answers[:most].count("in") >= most - 1 and set(answers) == {"in", f"unreachable: {limits.EXHAUSTED_MESSAGE}"}


def test_a_hub_without_a_free_descriptor_for_a_client_does_not_spin(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start_or_adopt, "HUB_COMMAND", FEW_FILES + start_or_adopt.HUB_COMMAND)
    assert _ask(options) == "in"
    (pid,) = _hub_pids()
    workers = [WorkerConnection(options) for _ in range(40)]
    try:
        for worker in workers:
            worker.client.send({"op": "status", "id": 1})
        time.sleep(0.5)
        before = processes.cpu(pid)
        time.sleep(1)
        assert processes.cpu(pid) - before < 0.3
        for worker in workers:
            assert worker.client.receive(10)[0]["op"] == "ok"
            worker.client.close()
    finally:
        for worker in workers:
            worker.client.close()


def test_a_hub_whose_io_thread_has_ended_ends(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(start_or_adopt, "HUB_COMMAND", FAULTY + start_or_adopt.HUB_COMMAND)
        began = time.monotonic()
        assert _ask(options) == "lost: 127.0.0.1: internal error; PMITOGEN_LOG=debug shows more"
        assert time.monotonic() - began < 15
        processes.wait_until(lambda: not _hub_pids(), 8)
    assert _ask(options) == "in"  # the next command starts another hub


def _limit_threads(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Prevent the start of threads whose names begin with *names*."""
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if any(name in thread.name for name in names):
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)


Connect = Callable[..., pmitogen.Host]


@pytest.fixture
def connect(sshd: Sshd, account: Account) -> Connect:
    def made(*args: str) -> pmitogen.Host:
        known = ["-F", "none", "-o", f"UserKnownHostsFile={sshd.known_hosts}", "-p", str(sshd.port), "-i", str(sshd.key.path)]
        return pmitogen.connect(f"{account.name}@{sshd.host}", ssh_args=[*known, *args])

    return made


@pytest.mark.parametrize("name", ["mitogen.broker", "pmitogen host", "ssh ", "pmitogen write", "proxy "])
def test_a_missing_thread_of_the_library_is_reported(
    connect: Connect, sshd: Sshd, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    command = f"{find_sshd()} -i -f {sshd.directory / 'config'} -E /dev/null"
    args = ["-o", f"ProxyCommand={command}"] if name in ("proxy ", "ssh ") else []
    _limit_threads(monkeypatch, name, "pmitogen close")
    with pytest.raises(ConnectError) as caught, connect(*args) as host:
        host.exists("/")  # starts Python
    assert caught.value.message == threads.EXHAUSTED_MESSAGE


def test_an_open_connection_works_and_ends_without_further_threads(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect() as host:
        assert host.exists("/")  # starts Python
        _limit_threads(monkeypatch, "pmitogen ")
        assert host.run("echo in").stdout == b"in\n"
        with pytest.raises(ConnectError, match="can.t start new thread"):
            host._hub.map(lambda each: each.run("true"), [host])


def _end_of_a_call(host: pmitogen.Host, cause: Callable[[], object]) -> BaseException:
    """Return the error of a call during which *cause* is called."""
    seen: list[BaseException] = []

    def wait() -> None:
        try:
            host.run("sleep 60")
        except BaseException as error:
            seen.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    processes.wait_until(lambda: host._hub._core.calls, 5)
    cause()
    waiting.join(15)
    return seen[0]


def test_a_lost_connection_is_cleaned_up_without_a_thread(connect: Connect, sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    with connect() as host:
        _limit_threads(monkeypatch, "pmitogen close", "pmitogen write")
        error = _end_of_a_call(host, sshd.kill_sessions)
        assert isinstance(error, ConnectionLost) and "internal" not in error.message
        assert host.run("echo in").stdout == b"in\n"


def test_calls_end_with_the_io_thread_of_their_hub(connect: Connect) -> None:
    with connect() as host:
        assert host.exists("/")  # so that Python runs the command, which ends with it
        error = _end_of_a_call(host, lambda: host._hub._core.registry.broker.defer(lambda: 1 / 0))
        assert isinstance(error, ConnectionLost) and "internal error" in error.message
        with pytest.raises(ConnectionLost):
            host.run("true")


def test_a_call_that_did_not_reach_the_io_thread_ends(connect: Connect) -> None:
    with connect() as host:
        contexts = host._hub._core.registry
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(contexts.broker, "defer", lambda *args: None)
            error = _end_of_a_call(host, lambda: contexts.on_stopped())
        assert isinstance(error, ConnectionLost)


def test_keyscan_uses_as_many_threads_as_can_start(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, started, most = threading.Thread.start, [], 0

    def start(thread: threading.Thread) -> None:
        if thread.name == "keyscan" and len(started) >= most:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    for code in (0, 1):
        started.clear()
        most = 1 - code
        assert cli(["keyscan", "-p", str(sshd.port), "127.0.0.1", "localhost"]) == code
    shown = capsys.readouterr()
    assert "[localhost]" in shown.out and threads.EXHAUSTED_MESSAGE in shown.err
