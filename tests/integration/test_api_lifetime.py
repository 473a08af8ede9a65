"""The library's connections end with the program, and belong to one process."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import pmitogen
from tests.support import processes, session
from tests.support.accounts import Account
from tests.support.library import connect
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]

FORGETS = """
import sys, threading, time, pmitogen
host = pmitogen.connect(sys.argv[1], ssh_args=sys.argv[3:], timeout=30)
def run():
    try:
        host.run("sleep 4730")
    except pmitogen.Error:
        pass
threading.Thread(target=run, daemon=True).start()
process = host.start("sleep 4730")
time.sleep(0.5)
if sys.argv[2] == "raises":
    raise ValueError("mine")
if sys.argv[2] == "exits":
    sys.exit(3)
"""


@pytest.mark.parametrize(("way", "status"), [("returns", 0), ("raises", 1), ("exits", 3)])
def test_connections_that_were_not_closed_end_with_the_program(
    way: str, status: int, sshd: Sshd, account: Account, tmp_path: Path
) -> None:
    (tmp_path / "forgets.py").write_text(FORGETS)
    command = [sys.executable, "-W", "error", str(tmp_path / "forgets.py"), f"{account.name}@{sshd.host}", way, *sshd.ssh_args()]
    env = {**os.environ, "PYTHONPATH": str(session.repository)}
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=env, cwd=tmp_path)
    assert done.returncode == status and time.monotonic() - began < 15, done.stderr
    assert done.stderr.count("Traceback") == (way == "raises"), done.stderr
    processes.wait_until(lambda: not [p for p in account.processes() if "4730" in p.command or "python" in p.command])


def test_an_unreferenced_hub_is_closed(sshd: Sshd, account: Account) -> None:
    before = threading.active_count()
    host = connect(sshd, account)
    assert host.run("true").ok
    del host
    gc.collect()  # a request and its object in the library refer to each other
    processes.wait_until(lambda: threading.active_count() <= before)
    processes.wait_until(lambda: not [p for p in account.processes() if "python" in p.command])


def _in_a_fork(host: pmitogen.Host, answers: multiprocessing.SimpleQueue[str]) -> None:
    for use in (lambda: host.run("true"), host.ping, host.info, lambda: host.start("true"), lambda: host.get("/x")):
        try:
            use()
            answers.put("done")
        except pmitogen.UsageError as error:
            answers.put(str(error))
    host.close()  # as a with block would; the host is the parent's and stays open


@pytest.mark.filterwarnings("ignore:This process")
def test_using_a_host_in_a_forked_process_is_an_error(sshd: Sshd, account: Account) -> None:
    with connect(sshd, account) as host:
        context = multiprocessing.get_context("fork")
        answers = context.SimpleQueue()
        child = context.Process(target=_in_a_fork, args=(host, answers))
        child.start()
        found = [answers.get() for _ in range(5)]
        child.join(10)
        assert child.exitcode == 0
        assert all(f"belongs to process {os.getpid()}" in line for line in found), found
        assert host.run("echo alive").stdout == b"alive\n"


def test_pickling_a_host_is_an_error_with_advice(sshd: Sshd, account: Account) -> None:
    with connect(sshd, account) as host:
        things = [host, host._hub, host.become(), host.start("cat"), host.forward_local(1)]
        for thing in things:
            with pytest.raises(TypeError, match="cannot be pickled: it belongs to this process"):
                pickle.dumps(thing)


@pytest.mark.parametrize("way", ["-oProxyCommand={}", "-oProxyJump=hop"])
def test_closing_a_hub_ends_the_proxycommand_of_a_login(way: str, home: Path) -> None:
    """The program reads no standard input, so it does not notice the end of its pipe."""
    program = f"sh -c 'echo $$ > {home}/pid.new; mv {home}/pid.new {home}/pid; exec sleep 4731'"
    (home / "config").write_text(f"Host hop\n ConnectTimeout 60\n ProxyCommand {program}\n")
    failures: list[pmitogen.Error] = []
    hub = pmitogen.Hub()

    def log_in() -> None:
        try:
            hub.connect("h", ssh_args=["-F", str(home / "config"), way.format(program)], timeout=60)
        except pmitogen.Error as error:
            failures.append(error)

    thread = threading.Thread(target=log_in)
    thread.start()
    processes.wait_until((home / "pid").exists)
    pid = int((home / "pid").read_text())
    assert processes.read(pid)
    hub.close()
    processes.wait_until(lambda: not processes.read(pid))
    thread.join(10)
    assert len(failures) == 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="older Pythons start threads until their end")
def test_a_thread_that_outlives_the_main_thread_is_told_so(sshd: Sshd, account: Account) -> None:
    script = (
        "import sys, threading, time, pmitogen\n"
        "def late():\n"
        "    threading.main_thread().join()\n"
        "    try: pmitogen.connect(sys.argv[1], ssh_args=sys.argv[2:], timeout=20)\n"
        "    except pmitogen.Error as error: print(error)\n"
        "threading.Thread(target=late).start()\n"
    )
    args = [sys.executable, "-c", script, f"{account.name}@{sshd.host}", *sshd.ssh_args()]
    done = subprocess.run(args, cwd=session.repository, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert "the program is ending" in done.stdout, done
