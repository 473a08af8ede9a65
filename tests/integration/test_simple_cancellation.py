"""Commands that wait for no Python on the host, and are cancelled, killed, or end with their connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

import pmitogen
from pmitogen.transport.login_limits import SLOT_TIMEOUT
from pmitogen.util import threads
from tests.support import processes
from tests.support.accounts import Account
from tests.support.library import connect
from tests.support.sshd import Sshd, free_port

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]


def runs(text: str) -> bool:
    return any(text in process.command for process in processes.all_processes())


@pytest.mark.parametrize("sessions", [10, 1])
@pytest.mark.parametrize("who", ["login", "root"])
@pytest.mark.parametrize("forwards", [False, True])
def test_a_timeout_kills_the_process_group(
    forwards: bool, who: str, sessions: int, make_sshd: Callable[..., Sshd], account: Account
) -> None:
    """By another session; if the server allows none, by another connection, which does not listen on forwarded ports again."""
    name, sshd = account.name if who == "login" else "root", make_sshd(config=[f"MaxSessions {sessions}"])
    options = ["-L", f"{free_port(['127.0.0.1'])}:127.0.0.1:{sshd.port}"] if forwards else []
    with connect(sshd, name, ssh_args=[*sshd.ssh_args(), *options]) as host:
        with pytest.raises(TimeoutError):
            host.run("trap '' TERM; sleep 47111 & sleep 47112; sleep 47113", timeout=0.5)
        processes.wait_until(lambda: not runs("4711"), 10)
        assert host.run("echo fine").stdout == b"fine\n"


@pytest.mark.parametrize("end", ["host", "hub"])
def test_closing_ends_running_commands(end: str, sshd: Sshd, account: Account) -> None:
    hub = pmitogen.Hub()
    host = connect(sshd, account, hub)
    caught: list[BaseException] = []

    def run() -> None:
        try:
            host.run("sleep 48111 & sleep 48112")
        except pmitogen.Error as exc:
            caught.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    processes.wait_until(lambda: runs("4811"), 10)
    (host if end == "host" else hub).close()
    thread.join(10)
    assert isinstance(caught[0], pmitogen.ConnectionLost)
    processes.wait_until(lambda: not runs("4811"), 10)
    hub.close()


def test_a_command_cancelled_while_it_waits_for_a_session_never_runs(make_sshd: Callable[..., Sshd], account: Account) -> None:
    server = make_sshd(config=["MaxSessions 1"])
    with connect(server, account) as host:
        first = threading.Thread(target=host.run, args=("sleep 3.4911",))
        first.start()
        processes.wait_until(lambda: runs("sleep 3.4911"), 10)
        with pytest.raises(TimeoutError):
            host.run("echo ran >> ran", timeout=SLOT_TIMEOUT / 3)
        first.join()
        assert host.info()["python"] and host.run("echo other >> other").ok  # Python would have run the cancelled one by now
    assert (account.home / "other").exists() and not (account.home / "ran").exists()


def test_a_timeout_ends_a_command_without_a_thread(sshd: Sshd, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal is sent if no thread can be started, and other commands go on."""
    start = threads.start

    def refuse(target: Callable[..., object], name: str, *args: object) -> threading.Thread:
        if name == "pmitogen cancel":
            raise pmitogen.ConnectError(threads.EXHAUSTED_MESSAGE, "local")
        return start(target, name, *args)

    with connect(sshd, account) as host:
        host.run("true")
        monkeypatch.setattr(threads, "start", refuse)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            host.run("exec sleep 49111", timeout=0.5)
        assert host.run("echo fine").stdout == b"fine\n" and time.monotonic() < began + 10
        processes.wait_until(lambda: not runs("sleep 49111"), 10)


def test_an_end_by_sigterm_just_before_the_connection_ends_is_a_lost_connection(sshd: Sshd, account: Account) -> None:
    """A host that shuts down kills its processes first; that is not the result of a command."""
    end = "P=$(ps -o ppid= -p $$); (sleep 0.3; kill -KILL $P) </dev/null >/dev/null 2>&1 & "
    end += "head -c 300000 /dev/zero; kill -TERM $$"
    with connect(sshd, account) as host:
        with pytest.raises(pmitogen.ConnectionLost):
            host.run(end, on_output=lambda stream, data: time.sleep(0.01))  # credit follows the end
        assert host.run("kill -TERM $$").rc == 143


@pytest.mark.parametrize("before", ["", "echo noise; "])
def test_a_forced_command_that_takes_long_ends_with_the_timeout(
    before: str, make_sshd: Callable[..., Sshd], account: Account
) -> None:
    """It has not begun the command, and Python would not start either."""
    with connect(make_sshd(config=[f"ForceCommand {before}exec sleep 4.9111"]), account, timeout=1.5) as host:
        for work in (lambda: host.get("/etc/hostname"), lambda: host.run("true"), lambda: host.run(["true"])):
            began = time.monotonic()
            with pytest.raises(pmitogen.ConnectError, match="the login shell did not begin a command within 1.5 seconds"):
                work()
            assert time.monotonic() < began + 3
    processes.wait_until(lambda: not runs("sleep 4.9111"), 10)


def test_the_timeout_of_the_login_is_none_of_a_command(sshd: Sshd, account: Account) -> None:
    with connect(sshd, account, timeout=1.5) as host:
        assert host.run("sleep 2; echo done").stdout == b"done\n"
        assert host.run(["sh", "-c", "exec 2>&-; sleep 2; echo done"]).stdout == b"done\n"
