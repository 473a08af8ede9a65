"""Requests to a host without Python that are given up, or whose host ends: threads and processes end with them."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pmitogen
from pmitogen.api import Host
from pmitogen.hub.without_python import shell_lines
from pmitogen.hub.without_python.process_line import ProcessLine
from tests.support import processes
from tests.support.accounts import Account
from tests.support.library import connect
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]
MakeSshd = Callable[..., Sshd]
NOWHERE = "/nonexistent/python"
THREADS = ("pmitogen shell", "pmitogen feed", "pmitogen cancel", "command stdin")


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(THREADS)]


def runs(text: str) -> bool:
    return any(text in process.command for process in processes.all_processes())


class Stalled(io.RawIOBase):
    """A source of an upload that gives one piece, and the next one when it is told to."""

    def __init__(self) -> None:
        self.may_end = threading.Event()
        self._has_begun = False

    def read(self, size: int = -1) -> bytes:
        if self._has_begun:
            self.may_end.wait(30)
            return b""
        self._has_begun = True
        return b"x" * 100


def upload(host: Host, path: Path) -> Callable[[], None]:
    source = Stalled()

    def put() -> None:
        try:
            host.put(source, path)
        except pmitogen.Error:
            return

    thread = threading.Thread(target=put)
    thread.start()
    processes.wait_until(lambda: bool(list(path.parent.iterdir())), 10)

    def finish() -> None:
        source.may_end.set()
        thread.join(10)

    return finish


def download(host: Host, path: Path) -> Callable[[], None]:
    stream = host.open("/dev/zero", "rb")
    assert stream.read(10) == bytes(10)

    def finish() -> None:
        try:
            stream.close()
        except pmitogen.Error:
            return

    return finish


def unread_output(host: Host, path: Path) -> Callable[[], None]:
    process = host.start("yes")
    assert process.stdout.read(2) == b"y\n"
    return process.close


def unread_input(host: Host, path: Path) -> Callable[[], None]:
    process = host.start("cat")
    process.stdin.write(b"a")
    assert process.stdout.read(1) == b"a"
    return process.close


@pytest.mark.parametrize("end", ["close", "lost"])
@pytest.mark.parametrize("config", [(), ("Subsystem sftp /nonexistent",)], ids=["sftp", "cat"])
@pytest.mark.parametrize("begin", [upload, download, unread_output, unread_input])
def test_no_thread_outlives_the_host(
    begin: Callable[[Host, Path], Callable[[], None]],
    config: tuple[str, ...],
    end: str,
    make_sshd: MakeSshd,
    account: Account,
    short_path: Path,
) -> None:
    """The client goes on waiting: for its source, or for its reader."""
    os.chown(short_path, account.uid, account.gid)
    server = make_sshd(config=list(config))
    with connect(server, account, python=NOWHERE) as host:
        finish = begin(host, short_path / "f")
        assert names()
        if end == "close":
            host.close()
        else:
            server.kill_sessions()
        processes.wait_until(lambda: not names(), 10)
        finish()


def test_no_thread_outlives_a_command_whose_input_stays_open(sshd: Sshd, account: Account) -> None:
    with connect(sshd, account, python=NOWHERE) as host, host.start("exit 3") as process:
        assert process.wait(10) == 3
        processes.wait_until(lambda: not names(), 5)


def timed_out(host: Host, command: str, **options: Any) -> None:
    with pytest.raises(TimeoutError):
        host.run(command, timeout=0.5, **options)


def left(host: Host, command: str, **options: Any) -> None:
    with host.start(command, **options) as process:
        time.sleep(0.5)
    assert process.returncode is not None


def killed(host: Host, command: str, **options: Any) -> None:
    process = host.start(command, **options)
    processes.wait_until(lambda: runs("4731"), 10)
    process.kill()
    assert process.wait(10) == 128 + signal.SIGKILL
    processes.wait_until(lambda: not runs("4731"), 2)


def closed(host: Host, command: str, **options: Any) -> None:
    process = host.start(command, **options)
    processes.wait_until(lambda: runs("4731"), 10)
    host.close()
    with pytest.raises(pmitogen.ConnectionLost):
        process.wait(10)


@pytest.mark.parametrize(
    ("options", "who", "sessions"),
    [
        ({"env": {"A": "it's"}}, "root", 10),
        ({"cwd": "/tmp"}, "root", 1),
        ({"tty": True}, "root", 10),
        ({"tty": True}, "login", 10),
    ],
    ids=["root", "one session", "root's terminal", "login's terminal"],
)
@pytest.mark.parametrize("end", [timed_out, left, killed, closed])
def test_the_whole_process_group_ends(
    end: Callable[..., None], options: dict[str, Any], who: str, sessions: int, make_sshd: MakeSshd, account: Account
) -> None:
    """Also that of root, to whose processes sshd sends no signal, and what ignores SIGTERM or SIGHUP."""
    name, server = account.name if who == "login" else "root", make_sshd(config=[f"MaxSessions {sessions}"])
    with connect(server, name, python=NOWHERE) as host:
        end(host, "trap '' TERM HUP; sleep 47311 & sleep 47312; sleep 47313", **options)
        processes.wait_until(lambda: not runs("4731"), 10)
        assert end is closed or host.run("echo fine").stdout == b"fine\n"
    processes.wait_until(lambda: not names(), 10)


def test_an_end_by_sigterm_just_before_the_connection_ends_is_a_lost_connection(sshd: Sshd, account: Account) -> None:
    """As of a simple command."""
    end = "P=$(ps -o ppid= -p $$); (sleep 0.2; kill -KILL $P) </dev/null >/dev/null 2>&1 & kill -TERM $$"
    with connect(sshd, account, python=NOWHERE) as host:
        with pytest.raises(pmitogen.ConnectionLost):
            host.run(end, env={"A": "1"})
        assert host.run("kill -TERM $$", env={"A": "1"}).rc == 143


def test_a_command_that_closes_its_output_has_its_status_and_can_be_killed(sshd: Sshd, account: Account) -> None:
    with connect(sshd, account, python=NOWHERE) as host:
        assert host.run("exec >&- 2>&-; sleep 5.4; exit 3", env={"A": "1"}).rc == 3
        timed_out(host, "exec >&- 2>&-; sleep 47351", env={"A": "1"})
        processes.wait_until(lambda: not runs("4735"), 5)


def test_a_shell_on_a_terminal_ends_with_its_jobs(sshd: Sshd) -> None:
    """It ignores SIGTERM, and passes on to its jobs only the hang-up."""
    with connect(sshd, "root", python=NOWHERE) as host:
        with host.start(["bash", "-i"], tty=True) as process:
            process.stdin.write(b"sleep 47361 &\n")
            processes.wait_until(lambda: runs("sleep 47361"), 10)
        processes.wait_until(lambda: not runs("sleep 47361"), 5)


@pytest.mark.parametrize("command", ["cat", "exec sleep 47341", "internal-sftp"])
def test_a_closed_host_is_no_result_of_a_request(command: str, sshd: Sshd, account: Account) -> None:
    """It may end before its connection, as its input ends, or it is killed."""
    with connect(sshd, account, python=NOWHERE) as host:
        if command == "internal-sftp":
            stream = host.open("written", "wb")
            stream.write(b"a")
            stream.flush()
            wait: Callable[[], object] = stream.close
        else:
            wait = host.start(command).wait
        processes.wait_until(lambda: any(command.split()[-1] in each.command for each in account.processes()), 10)
        host.close()
        with pytest.raises(pmitogen.ConnectionLost):
            wait()


@pytest.mark.parametrize("sessions", [10, 1])
@pytest.mark.parametrize("who", ["login", "root"])
def test_signals_reach_the_process_group_once_and_in_their_order(
    who: str, sessions: int, make_sshd: MakeSshd, account: Account
) -> None:
    name, server = account.name if who == "login" else "root", make_sshd(config=[f"MaxSessions {sessions}"])
    text = "trap 'echo hup' HUP; trap 'echo winch' WINCH; trap 'echo usr1' USR1; trap 'echo term; exit 3' TERM; echo ready; "
    with connect(server, name, python=NOWHERE) as host, host.start(f"{text} while :; do sleep 0.05; done", text=True) as process:
        assert process.stdout.readline() == "ready\n"
        for each in (signal.SIGUSR1, signal.SIGWINCH, signal.SIGHUP, signal.SIGUSR1):  # WINCH is none of SSH's
            process.send_signal(each)
            name = each.name.removeprefix("SIG").lower()
            assert process.stdout.readline() == f"{name}\n"
        process.terminate()
        assert (process.stdout.read(), process.wait(10)) == ("term\n", 3)
        process.kill()  # it has ended


@pytest.mark.parametrize("who", ["login", "root"])
def test_a_lost_channel_leaves_no_process(who: str, sshd: Sshd, account: Account) -> None:
    args = [*sshd.ssh_args(), "-o", "ChannelTimeout=session=1"]
    with connect(sshd, account.name if who == "login" else "root", python=NOWHERE, ssh_args=args) as host:
        with pytest.raises(pmitogen.ConnectionLost, match="ChannelTimeout session=1"):
            host.run("trap '' TERM; sleep 47321; sleep 47322", env={"A": "1"})
    processes.wait_until(lambda: not runs("4732"), 4)


def test_a_command_cancelled_while_it_waits_for_a_session_never_runs(make_sshd: MakeSshd, account: Account) -> None:
    with connect(make_sshd(config=["MaxSessions 1"]), account, python=NOWHERE) as host:
        with host.start("sleep 2; echo first", text=True) as first:
            processes.wait_until(lambda: runs("sleep 2"), 10)
            timed_out(host, "echo ran >> ran", env={"A": "1"})
            assert first.stdout.read() == "first\n"
        processes.wait_until(lambda: not names(), 10)
        assert host.run("echo other >> other", env={"A": "1"}).ok
    assert (account.home / "other").exists() and not (account.home / "ran").exists()


OUTPUTS = [
    "echo out; echo err >&2; exit 3",
    "kill -KILL $$",
    "printf '\\r\\n\\nP'; printf 'PMITOGEN-' >&2; printf '\\tx\\r' ",
    "head -c 300000 /dev/zero | tr '\\0' P",
    "stty -a 2>&1; test -t 2; echo $?; ps -o pid= -p $$ | wc -l; umask; ulimit -n; pwd; echo $0 $#",
    "test -t 0 || cat; sleep 0.3 & echo background",
    'echo "a\n\\ ! größer" $A',
    ["printf", "%s|", "a b", "it's", "two\nlines", "größer", "", "$HOME", "\\", "!", "-n"],
]


@pytest.mark.parametrize("tty", [False, True], ids=["pipes", "tty"])
@pytest.mark.parametrize(
    "noise",
    ["", "echo noise; echo noise >&2\n", "printf title; printf title >&2\n", "exec 2>&1\n", "exec 2>/dev/null\n", "set -x\n"],
)
def test_the_line_that_tells_the_process_changes_no_output(
    noise: str, tty: bool, sshd: Sshd, make_account: Callable[..., Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    account = make_account()
    account.write(".bashrc", noise)

    def results(host: Host) -> list[Any]:
        commands = [(each, options) for each in OUTPUTS for options in ({"env": {"A": "1"}}, {"cwd": "/tmp", "env": {"A": "2"}})]
        return [host.run(each, stdin=None if tty else io.BytesIO(b"in"), tty=tty, **options) for each, options in commands]

    with connect(sshd, account, python=NOWHERE) as host:
        telling = results(host)
        monkeypatch.setattr(shell_lines, "telling_line", lambda token, header: None)
        usual = results(host)
    if "set -x" in noise:  # the trace has the line itself, and that of the usual one
        telling, usual = [(each.rc, each.stdout) for each in telling], [(each.rc, each.stdout) for each in usual]
        if tty:
            return
    assert telling == usual


@pytest.mark.parametrize("shell", ["/usr/bin/fish", "/usr/bin/tcsh", "/bin/dash"])
def test_any_login_shell_runs_the_line_that_tells_the_process(
    shell: str, sshd: Sshd, make_account: Callable[..., Account]
) -> None:
    with connect(sshd, make_account(shell=shell), python=NOWHERE) as host:
        done = host.run('echo "a\n\\ ! größer" $A; pwd; cat; exit 3', env={"A": "it's !"}, cwd="/tmp", input=io.BytesIO(b"in\n"))
        assert (done.rc, done.stdout.decode(), done.stderr) == (3, "a\n\\ ! größer it's !\n/tmp\nin\n", b"")
        assert host.run("pwd", cwd="/nowhere/at all").rc == 1 and host.run(["nothing-of-this-name"], cwd="/").rc == 127
        timed_out(host, "sleep 47331 & sleep 47332", env={"A": "1"})
        processes.wait_until(lambda: not runs("4733"), 10)


def test_a_login_shell_that_runs_no_sh_gets_the_command_itself(make_sshd: MakeSshd, account: Account) -> None:
    """As an appliance that knows its own commands only; they end with their session."""
    known = '"show version" | "env TERM=xterm show version"'
    script = account.write("cli", f'case "$SSH_ORIGINAL_COMMAND" in {known}) echo 1.0; cat;; *) echo unknown; exit 1; esac\n')
    with connect(make_sshd(config=[f"ForceCommand /bin/sh {script}"]), account, python=NOWHERE) as host:
        assert host.run(["show", "version"]).stdout == b"1.0\n"
        with host.start(["show", "version"], tty=True) as process:
            assert process.stdout.readline() == b"1.0\r\n"
            process.stdin.write(b"more\n")
            assert process.stdout.readline() == b"more\r\n"
        processes.wait_until(lambda: not [each for each in account.processes() if "cat" in each.command], 10)


def test_the_process_is_found_in_pieces_of_output() -> None:
    for line in (b"PMITOGEN-00ff run 123\n", b"PMITOGEN-00ff run 123\r\n"):
        for before in (b"", b"P\nPMI", b"+ PMITOGEN-00ff run $$ PMITOGEN-0"):
            output = before + line + b"\r\n\nPMITOGEN-00ff run 7\nP"
            for size in range(1, 40):
                found, got = ProcessLine("00ff"), b""
                for at in range(0, len(output), size):
                    got += found.output(1, output[at : at + size])
                assert got + found.rest(1) == before + b"\r\n\nPMITOGEN-00ff run 7\nP" and found.process == 123
    silent = ProcessLine("00ff")
    assert [silent.output(0, piece) for piece in (b"prompt> ", b"a\nP", b"M", b"x")] == [b"prompt> ", b"a\n", b"", b"PMx"]
    assert silent.output(0, b"P") == b"" and silent.rest(0) == b"P" and not silent.has_come
    none = ProcessLine("00ff")
    assert none.output(1, b"PMITOGEN-00ff run 0\n") == b"" and none.has_come and none.process is None
