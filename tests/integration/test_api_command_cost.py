"""Cost of a command of the library on an open connection: one round trip, few bytes, and no growth."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.environment import Relay
from pmitogen import aio
from tests.support import processes
from tests.support.accounts import Account
from tests.support.library import connect
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]

DELAY = 0.005  # seconds in each direction; data that one end sends within it counts as one turn
COUNT = 20


@pytest.fixture
def relay(sshd: Sshd) -> Iterator[Relay]:
    made = Relay([sshd.host], sshd.port, DELAY)
    yield made
    made.close()


def test_a_command_is_one_round_trip_of_few_bytes(relay: Relay, sshd: Sshd, account: Account) -> None:
    args = ["-o", f"UserKnownHostsFile={sshd.known_hosts}", "-o", f"HostKeyAlias=[{sshd.host}]:{sshd.port}"]
    args += ["-F", "none", "-p", str(relay.port), "-i", str(sshd.key.path)]
    with connect(sshd, account, ssh_args=args) as host:
        host.ping()  # until Python has started, each command has a channel of its own
        assert host.run("echo x").stdout == b"x\n"
        relay.counts()
        for _ in range(COUNT):
            assert host.run("echo x").stdout == b"x\n"
        counts = relay.counts()
    assert counts["direction_changes"] <= 2 * COUNT + 1
    assert counts["up"] <= 100 * COUNT and counts["down"] <= 100 * COUNT, counts


def _usage(process: processes.Process) -> tuple[int, int]:
    """Return the number of descriptors, and the private memory in KiB."""
    own = [
        line for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines() if line.startswith("Private_Dirty")
    ]
    return len(os.listdir(f"/proc/{process.pid}/fd")), int(own[0].split()[1])


@pytest.mark.slow
def test_memory_and_descriptors_do_not_grow_with_commands(sshd: Sshd, account: Account) -> None:
    async def commands(host: aio.Host, count: int) -> None:
        for index in range(count):
            assert (await host.run(["printf", "%s", str(index)])).stdout == b"%d" % index

    async def work() -> None:
        async with await aio.connect(f"{account.name}@{sshd.host}", ssh_args=sshd.ssh_args()) as host:
            await commands(host, 500)
            gc.collect()
            pythons = [process for process in account.processes() if "python" in process.command]
            mine = processes.read(os.getpid())
            assert mine is not None
            before = [_usage(process) for process in (*pythons, mine)]
            threads = threading.active_count()
            await asyncio.gather(*(commands(host, 1000) for _ in range(10)))
            gc.collect()
            after = [_usage(process) for process in (*pythons, mine)]
            assert [process for process in account.processes() if "python" in process.command] == pythons and pythons
            assert threading.active_count() <= threads
            for (files, memory), (files_then, memory_then) in zip(before, after, strict=True):
                assert files_then <= files and memory_then < memory + 2048, (before, after)

    asyncio.run(work())
