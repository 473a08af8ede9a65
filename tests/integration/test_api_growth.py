"""Resources of a long-running program and its host do not grow with commands, cancellations or connections.

Each case is a separate process. It reports the resources of both ends after its first round and after the last one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest

from tests.support import session
from tests.support.accounts import Account
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.slow, pytest.mark.timeout(900)]

HEAD = """
import asyncio, contextlib, gc, json, os, sys, threading, time
from pathlib import Path
import pmitogen
from pmitogen import aio

target, uid, port, *args = sys.argv[1:]

def held(pid):
    text = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    memory = int(fields.get("VmRSS", "0 kB").split()[0])
    if fields["State"].split()[0] == "Z" and fields["PPid"].strip() == "1":
        raise ValueError("only this machine's init has not collected it yet")
    return memory, int(fields["Threads"]), len(os.listdir(f"/proc/{pid}/fd"))

def there():
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError, KeyError, ValueError):
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == int(uid):
                found.append(held(name))
    return [len(found), *(sum(each) for each in zip(*found))] if found else [0, 0, 0, 0]

def tell():
    gc.collect()
    deadline, before, calm = time.monotonic() + 60, None, 0
    while calm < 4 and time.monotonic() < deadline:  # until what was closed or killed last has ended
        time.sleep(1)
        now = there()[0], threading.active_count()
        before, calm = now, calm + 1 if now == before else 0
    print(json.dumps({"here": held(os.getpid()), "there": there()}), flush=True)

def in_rounds(work, rounds=5):
    for number in range(rounds):
        asyncio.run(work()) if asyncio.iscoroutinefunction(work) else work()
        if number in (0, rounds - 1):
            tell()

async def each(count, at_once, work):
    places = iter(range(count))
    async def take():
        for _ in places:
            await work()
    await asyncio.gather(*(take() for _ in range(at_once)))
"""

COMMANDS = """
with pmitogen.Hub() as hub, hub.connect(target, ssh_args=args, timeout=60) as host:
    host.ping()
    def work():
        for _ in range(200):
            assert host.run("echo x").stdout == b"x\\n"
        hub.map(lambda number: host.run(["echo", str(number)], check=True), range(1800), limit=16)
    in_rounds(work)
"""

TASKS = """
async def main():
    async with aio.Hub() as hub:
        host = await hub.connect(target, ssh_args=args, timeout=60)
        await host.ping()
        async def command():
            assert (await host.run("echo x", input=b"y" * 100)).stdout == b"x\\n"
        for number in range(5):
            await each(2000, 16, command)
            if number in (0, 4):
                tell()
asyncio.run(main())
"""

CANCELLATIONS = """
async def main():
    async with aio.Hub() as hub:
        host = await hub.connect(target, ssh_args=args, timeout=60)
        await host.ping()
        turn = iter(range(1 << 30))
        async def one():
            number = next(turn)
            work = host.run("sleep 4713") if number % 2 else host.run("while :; do echo x; done", on_output=lambda *_: None)
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(work, 0.002 * (number % 50))
        for number in range(5):
            await each(200, 8, one)
            if number in (0, 4):
                tell()
asyncio.run(main())
"""

CONNECTIONS = """
async def own():
    async with aio.connect(target, ssh_args=args, timeout=60) as host:
        assert (await host.run("echo x")).stdout == b"x\\n"
    with pmitogen.Hub() as hub:
        await asyncio.to_thread(hub.connect(target, ssh_args=args, timeout=60).run, "true")

async def work():
    await each(25, 4, own)  # two connections each
    async with aio.Hub() as hub:
        async def shared():
            host = await hub.connect(target, ssh_args=[*args, "-o", f"SetEnv=N={next(turn)}"], timeout=60)
            assert (await host.run("echo x")).stdout == b"x\\n"
            await host.close()
        await each(150, 4, shared)

turn = iter(range(1 << 30))
in_rounds(work)
"""

MAX_CONCURRENT = """
def own_part():
    text = Path("/proc/self/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(("Private_", "Shared_Dirty")))

hosts = [f"{target.partition('@')[0]}@127.0.{2 + number // 250}.{1 + number % 250}" for number in range(int(port))]
with pmitogen.Hub() as hub:
    hub.connect_all(hosts[:20], limit=20, ssh_args=args, timeout=200)
    gc.collect()
    before = held(os.getpid())
    made = hub.connect_all(hosts, limit=20, ssh_args=args, timeout=200)
    gc.collect()
    time.sleep(1)
    now = held(os.getpid())
    print(json.dumps({"more": [b - a for a, b in zip(before, now)], "count": len(made) - 20}), flush=True)
deadline = time.monotonic() + 10  # threads wait for more work before they end
while held(os.getpid())[1] >= 10 and time.monotonic() < deadline:
    time.sleep(0.2)
print(json.dumps({"left": held(os.getpid())}), flush=True)
"""


def _run(program: str, sshd: Sshd, account: Account, extra: str = "0", args: Sequence[str] = ()) -> list[dict[str, list[int]]]:
    argv = [sys.executable, "-c", HEAD + program, f"{account.name}@{sshd.host}", str(account.uid), extra]
    argv += args or sshd.ssh_args()
    env = {**os.environ, "MALLOC_ARENA_MAX": "1"}  # one arena for all threads: several arenas grow by their fragments for a while
    done = subprocess.run(
        argv, cwd=session.repository, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=850
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("program", "memory"),  # allowed growth of either end, in MiB
    [
        pytest.param(COMMANDS, 4, id="10000 commands"),
        pytest.param(TASKS, 4, id="10000 commands of tasks"),
        pytest.param(CANCELLATIONS, 24, id="1000 cancellations"),  # of commands with up to 16 MiB in transit
        pytest.param(CONNECTIONS, 24, id="1000 connections one after another"),  # the heap has gaps after each group of four
    ],
)
def test_resources_do_not_grow(
    program: str, memory: int, make_sshd: Callable[..., Sshd], make_account: Callable[..., Account]
) -> None:
    sshd = make_sshd(log_level="INFO")
    first, last = _run(program, sshd, make_account())
    print(first, last)
    more = {end: [b - a for a, b in zip(first[end], last[end], strict=True)] for end in first}
    # Buffers vary, and a thread may end late; a leak in each use would be hundreds of these, and many MiB.
    assert more["here"][0] < memory << 10 and more["there"][1] < memory << 10, (first, last)
    assert max(more["here"][1:]) <= 2, (first, last)  # threads, descriptors
    assert more["there"][0] <= 1 and max(more["there"][2:]) <= 4, (first, last)  # processes, threads, descriptors


def test_a_thousand_hosts_at_once(make_sshd: Callable[..., Sshd], account: Account) -> None:
    count = 1000
    sshd = make_sshd(addresses=["0.0.0.0"], log_level="INFO")
    checked = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes"]
    args = ["-F", "none", "-p", str(sshd.port), "-i", str(sshd.key.path), *checked]
    made, left = _run(MAX_CONCURRENT, sshd, account, str(count), args)
    print(made, left)
    hosts = made["count"]
    assert isinstance(hosts, int)
    memory, threads, descriptors = made["more"]
    assert memory / hosts < 256, made  # KiB for each host
    assert threads <= hosts + 10, made  # one Paramiko thread for each host
    assert descriptors <= hosts + 10, made
    assert left["left"][1] < 10 and left["left"][2] < 30, left
