"""Many hosts of the library: connecting, calling functions, and unreachable hosts."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

import pmitogen
from pmitogen import aio
from pmitogen.api import Host, Hub
from pmitogen.util import threads
from tests.support.accounts import Account
from tests.support.library import connect
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]
DEAD = "127.0.0.1:1"


def targets(sshd: Sshd, account: Account) -> list[str]:
    """Return three targets: a host, a closed port, and another host."""
    return [f"ssh://{account.name}@{sshd.host}:{port}" for port in (sshd.port, 1, sshd.port)]


def arguments(sshd: Sshd) -> list[str]:
    args = sshd.ssh_args()
    at = args.index("-p")
    return args[:at] + args[at + 2 :]


@pytest.mark.parametrize("limit", [1, 2, 64])
def test_an_unreachable_host_does_not_delay_the_others(limit: int, sshd: Sshd, account: Account) -> None:
    with Hub() as hub:
        found = hub.connect_all(targets(sshd, account), limit=limit, return_exceptions=True, ssh_args=arguments(sshd), timeout=30)
        one, dead, two = found
        assert isinstance(one, Host) and isinstance(two, Host) and isinstance(dead, pmitogen.ConnectError)
        assert dead.stage == "tcp" and one.run("echo a").stdout == two.run("echo a").stdout == b"a\n"
        with pytest.raises(pmitogen.ConnectError):
            hub.connect_all(targets(sshd, account), ssh_args=arguments(sshd), timeout=30)
        with pytest.raises(TypeError):
            hub.connect_all("host")


def test_outcomes_have_results_and_errors(sshd: Sshd, account: Account) -> None:
    with connect(sshd, account) as host, Hub() as hub:

        def work(number: int) -> bytes:
            if number == 1:
                raise ValueError("mine")
            return host.run(f"echo {number}").stdout

        found = hub.map(work, range(3), return_exceptions=True)
        assert found[0] == b"0\n" and isinstance(found[1], ValueError) and found[2] == b"2\n"
        with pytest.raises(ValueError, match="mine"):
            hub.map(work, range(3))


def test_as_completed_respects_the_limit_and_the_order_of_completion(sshd: Sshd, account: Account) -> None:
    with connect(sshd, account) as host, Hub() as hub:
        lock, now, most = threading.Lock(), 0, 0

        def work(seconds: float) -> float:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            host.run(f"sleep {seconds}")
            with lock:
                now -= 1
            return seconds

        order = [outcome.result() for outcome in hub.as_completed(work, [1.2, 0.1, 0.5, 0.1], limit=2)]
        assert most == 2 and order[-1] == 1.2 and sorted(order) == [0.1, 0.1, 0.5, 1.2]
        began = time.monotonic()
        for outcome in hub.as_completed(work, [0.1] * 50, limit=1):
            assert outcome.ok
            break
        assert time.monotonic() - began < 3


def test_running_functions_continue_if_no_further_thread_can_start(
    sshd: Sshd, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, done = threads.start, []

    def start_one(target: Callable[..., object], name: str, *args: object) -> threading.Thread:
        if name == "pmitogen map 1":
            raise pmitogen.ConnectError(threads.EXHAUSTED_MESSAGE, "local")
        return start(target, name, *args)

    monkeypatch.setattr(threads, "start", start_one)
    with connect(sshd, account) as host, Hub() as hub:
        with pytest.raises(pmitogen.ConnectError, match="can't start new thread"):
            hub.map(lambda number: done.append(host.run(f"sleep 0.5; echo {number}").stdout), range(3))
    assert done == [b"0\n"]


def test_the_asyncio_library_connects_many_hosts(sshd: Sshd, account: Account) -> None:
    async def work() -> None:
        async with aio.Hub() as hub:
            options = {"ssh_args": arguments(sshd), "timeout": 30}
            found = await hub.connect_all(targets(sshd, account), return_exceptions=True, **options)  # type: ignore[arg-type]
            assert isinstance(found[1], pmitogen.ConnectError)
            hosts = [host for host in found if isinstance(host, aio.Host)]

            async def run(host: aio.Host) -> bytes:
                return (await host.run("echo a", check=True)).stdout

            assert [outcome.result() for outcome in await hub.map(run, hosts)] == [b"a\n"] * 2

    asyncio.run(work())


def test_connections_share_the_threads_that_log_in_and_close(
    sshd: Sshd, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        started.append(thread.name)
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with Hub() as hub:
        for number in range(10):
            hub.connect(f"{account.name}@{sshd.host}", ssh_args=[*sshd.ssh_args(), "-o", f"SetEnv=N={number}"])
    assert not any(name.startswith("ssh ") for name in started)
    assert sum(name.startswith("pmitogen ") for name in started) <= 8, started


def test_a_source_of_a_few_bytes_at_a_time_does_not_delay_another_host(sshd: Sshd, make_account: Callable[..., Account]) -> None:
    """Each of its pieces would otherwise be work for the I/O thread, and the source is faster."""
    feeding, count = threading.Event(), 200_000

    class Pieces:
        left = count

        def read(self, size: int = -1) -> bytes:
            self.left -= 1
            if self.left == count - 2000:
                feeding.set()
            return b"abc" if self.left >= 0 else b""

    one, two = make_account(), make_account()
    with Hub() as hub:
        host, other = connect(sshd, one, hub), connect(sshd, two, hub)
        host.ping()
        other.ping()
        source = threading.Thread(target=host.put, args=(Pieces(), "file"))
        source.start()
        assert feeding.wait(30)
        began = time.monotonic()
        for _ in range(3):
            assert other.run("echo x").stdout == b"x\n"
        took = time.monotonic() - began
        source.join(60)
    assert (one.home / "file").read_bytes() == b"abc" * count
    assert took < 2
