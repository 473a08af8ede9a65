"""Commands that do not wait for Python on the host: they have the same results and ends as those of the agent."""

from __future__ import annotations

import gc
import re
import threading
import time
from collections.abc import Callable

import pytest

import pmitogen
from pmitogen.hub.login import Login
from pmitogen.hub.without_python import simple_commands
from tests.support import processes
from tests.support.accounts import Account
from tests.support.library import connect
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]

COMMANDS = [
    "hostname",
    "exit 7",
    "kill -KILL $$",
    "kill -TERM $$",
    "echo out; echo err >&2; false",
    "echo 'single' \"double $HOME\" \\\\ back ! größer",
    "printf 'two\\nlines\\n'\nexit 3",
    "cat",
    "umask; id -un; pwd; echo $0 $#; ulimit -n; ulimit -c",
    "sleep 0.3 & echo background",
    "if",
    "; true",
    "nothing-of-this-name",
    "head -c 3000000 /dev/zero | tr '\\0' x; echo end >&2",
    "trap 'exit 9' TERM; kill -TERM $$; sleep 5",
    "yes | head -n 1",
    "exec 1>&-; echo x",
    "# nothing",
    "",
    "test -t 0 || test -t 1 || test -t 2 || echo none",
    "echo a \\\n",
    "cat <<E\nfoo\n\n\n",
    f"echo {'long ' * 3000}",
]


PROGRAMS = [
    ["id", "-u"],
    ["printf", "%s|", "a b", "it's", "two\nlines", "größer", "", "$HOME", "\\", "!", "-n", "~"],
    ["/bin/sh", "-c", "exit 126", "name"],
    ["cat"],
    ["nothing-of-this-name"],
    ["/etc/passwd"],
    ["/etc"],
    ["./missing/program", "argument"],
    ["-n"],
    ["A=b"],
    ["./no-interpreter", "an argument"],
    ["sh", "-c", "kill -KILL $$"],
    ["sh", "-c", "umask; pwd; ulimit -n; echo $0; test $$ = $(ps -o pgid= -p $$) && echo leader"],
    ["head", "-c", "300000", "/dev/zero"],
]


def has_python(account: Account) -> bool:
    return any("python" in process.command for process in account.processes())


def gone(condition: Callable[[], bool]) -> bool:
    """Wait at most ten seconds until *condition* is false."""
    deadline = time.monotonic() + 10
    while condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not condition()


@pytest.mark.parametrize("shell", ["/bin/bash", "/usr/bin/fish", "/usr/bin/tcsh"])
def test_results_are_those_of_the_agent(shell: str, sshd: Sshd, make_account: Callable[..., Account]) -> None:
    account = make_account(shell=shell)
    noise = {"/bin/bash": ".bashrc", "/usr/bin/tcsh": ".cshrc"}.get(shell)
    if noise:
        (account.home / noise).write_text("echo noise of the shell\n")
    simple, agent = [], []
    few = simple_commands.MIN_COUNT - 1  # after more commands Python starts
    for index in range(0, len(COMMANDS), few):
        with connect(sshd, account) as host:
            simple += [host.run(command, stdin="input") for command in COMMANDS[index : index + few]]
    with connect(sshd, account) as host:
        host.ping()
        agent = [host.run(command, stdin="input") for command in COMMANDS]
    for command, one, other in zip(COMMANDS, simple, agent, strict=True):
        assert one == other, command


@pytest.mark.parametrize("shell", ["/bin/bash", "/usr/bin/fish", "/usr/bin/tcsh"])
def test_programs_and_their_failures_are_those_of_the_agent(shell: str, sshd: Sshd, make_account: Callable[..., Account]) -> None:
    account = make_account(shell=shell)
    account.write("no-interpreter", "echo $0 $#\n", 0o755)
    simple = []
    for number, program in enumerate(PROGRAMS):
        with connect(sshd, account) as host:
            simple.append(host.run(program, stdin="input"))
            assert number or not has_python(account)
    with connect(sshd, account) as host:
        host.ping()
        agent = [host.run(program, stdin="input") for program in PROGRAMS]
    for program, one, other in zip(PROGRAMS, simple, agent, strict=True):
        assert one == other, program


def test_the_environment_is_that_of_the_agent(sshd: Sshd, account: Account) -> None:
    def environment(host: pmitogen.Host) -> list[str]:
        lines = host.run("env", text=True, check=True).stdout.splitlines()
        return sorted(line for line in lines if not re.match(r"SSH_(CLIENT|CONNECTION)=|_=|SHLVL=", line))

    with connect(sshd, account) as host:
        simple = environment(host)
        assert not has_python(account)
        host.ping()
        assert has_python(account) and environment(host) == simple


def test_python_starts_after_some_commands(sshd: Sshd, account: Account) -> None:
    with connect(sshd, account) as host:
        for number in range(1, simple_commands.MIN_COUNT + 1):
            assert not has_python(account)
            assert host.run("echo x").stdout == b"x\n", number
        processes.wait_until(lambda: has_python(account), 10)
        assert host.run("echo x").stdout == b"x\n"
        assert host.info()["python"]


def test_with_many_hosts_python_starts_later() -> None:
    def commands(host_count: int) -> int:
        first = simple_commands.FirstCommands()
        for number in range(1, 100):
            first.check({"op": "exec", "argv": [], "simple": True}, False, 0)
            if first.are_many(host_count):
                assert not first.are_many(host_count)  # only once
                return number
        return 0

    assert [commands(count) for count in (1, 2, 5, 100)] == [
        simple_commands.MIN_COUNT,
        simple_commands.MIN_COUNT + 1,
        simple_commands.MIN_COUNT + 4,
        simple_commands.MAX_COUNT,
    ]


@pytest.mark.parametrize("start", ["sleep 2\nexec python3", "sleep 60", "exit 3", "exit 99"])
def test_no_command_waits_for_python(start: str, sshd: Sshd, account: Account) -> None:
    """Neither for a slow start nor for a failed one."""
    python = account.write("python", f'#!/bin/sh\n{start} "$@"\n', 0o755)
    with connect(sshd, account, python=str(python)) as host:
        began = time.monotonic()
        while time.monotonic() < began + 3:
            before = time.monotonic()
            assert host.run("echo x; exit 3") == pmitogen.Completed(3, b"x\n", b"")
            assert time.monotonic() < before + 1
            time.sleep(0.05)
        if "sleep 60" not in start:
            assert ("python3" in start) == bool(host.info()["python"])
    assert gone(lambda: any("sleep" in process.command for process in account.processes()))


def test_python_starts_when_something_needs_it(sshd: Sshd, account: Account) -> None:
    for work in (
        lambda host: host.stat("/"),
        lambda host: host.run("echo $A", env={"A": "secret"}),
        lambda host: host.run("pwd", cwd="/tmp"),
        lambda host: host.become().run("id -u"),
        lambda host: host.info()["python"],
    ):
        with connect(sshd, account) as host:
            host.run("true")
            assert gone(lambda: has_python(account))
            assert work(host) and has_python(account)


def test_a_later_start_of_python_has_the_full_timeout(sshd: Sshd, account: Account) -> None:
    with connect(sshd, account, timeout=2) as host:
        time.sleep(2.2)
        assert host.info()["python"]


def test_a_login_shell_that_runs_no_command_has_the_same_result(sshd: Sshd, make_account: Callable[..., Account]) -> None:
    account = make_account(shell="/usr/sbin/nologin")
    with connect(sshd, account) as host:
        done = host.run("echo x", text=True)
        assert done.rc and "not available" in done.stdout + done.stderr
        assert host.run("echo x", text=True) == done  # now the shell is known to run nothing


def test_several_commands_run_at_once(sshd: Sshd, account: Account) -> None:
    with pmitogen.Hub() as hub:
        host = connect(sshd, account, hub)
        found = hub.map(lambda index: host.run(f"echo {index}", text=True).stdout, range(40), limit=20)
        assert found == [f"{index}\n" for index in range(40)]


@pytest.mark.parametrize("text", ["hostname", "it's", "a\nb", "größer!", "\\", "echo a \\\n", "cat <<E\nfoo\n\n\n"])
def test_the_command_line_can_be_read_by_a_simulated_shell(text: str) -> None:
    wire = text.encode().decode("latin-1")
    for executes in (False, True):
        command = simple_commands.Text(wire, executes)
        assert simple_commands.parse(simple_commands.line("00ff", command)) == ("PMITOGEN-00ff run", text)


def test_markers_are_found_in_pieces_of_output() -> None:
    started = simple_commands.Started("00ff")
    got = b"".join(started.output(0, bytes([byte])) for byte in b"noise\nPMITOGEN-00ff run\nPMITOGEN-00ff run\nout")
    assert got == b"PMITOGEN-00ff run\nout" and started.has_run
    assert started.output(1, b"x" * 100_000 + b"\nPMITOGEN-00ff run 1") == b"" and started.process is None
    assert started.output(1, b"23\nerr") == b"err" and started.process == 123


@pytest.mark.parametrize(
    ("shell_reads", "out", "err"),
    [
        ("set -x", b"out\n", b"err\n"),
        ("exec 2>&1", b"out\nerr\n", b""),
        (r"printf '\033]0;title\007'; printf title >&2", b"out\n", b"err\n"),
        ("exec 2>&1; printf title", b"out\nerr\n", b""),
        ("exec > >(sed s/^/_/)", None, b"err\n"),
        ("exec >/dev/null", b"", b"err\n"),
        ("exec >/dev/null 2>&1", b"", b""),
    ],
)
def test_no_command_runs_twice(
    shell_reads: str, out: bytes | None, err: bytes, sshd: Sshd, make_account: Callable[..., Account]
) -> None:
    """Whatever start-up files do to the markers; and no marker appears in the output."""
    account = make_account()
    account.write(".bashrc", f"{shell_reads}\n")
    with connect(sshd, account) as host:
        done = host.run("echo ran >> ran; echo out; echo err >&2")
    assert done.rc == 0 and (out is None or done.stdout == out) and done.stderr == err
    assert (account.home / "ran").read_text() == "ran\n"


def test_a_program_that_cannot_run_is_reported_where_both_streams_are_one(
    sshd: Sshd, make_account: Callable[..., Account]
) -> None:
    account = make_account()
    account.write(".bashrc", "exec 2>&1\n")
    with connect(sshd, account) as host:
        done = host.run(["no such program"])
    assert (done.rc, done.stdout, done.stderr) == (127, b"", b"no such program: No such file or directory\n")


def test_a_session_recorder_that_writes_crlf_does_not_repeat_the_command(
    make_sshd: Callable[..., Sshd], make_account: Callable[..., Account]
) -> None:
    account, server = make_account(), make_sshd(config=['ForceCommand script -q -e -c "$SSH_ORIGINAL_COMMAND" /dev/null'])
    with connect(server, account) as host:
        done = host.run("echo ran >> ran; echo out")
    assert (done.rc, done.stdout) == (0, b"out\r\n") and (account.home / "ran").read_text() == "ran\n"


def test_consecutive_commands_need_one_session_at_a_time(make_sshd: Callable[..., Sshd], account: Account) -> None:
    server = make_sshd(config=["MaxSessions 1"])
    with connect(server, account) as host:
        began = time.monotonic()
        for number in range(20):
            assert host.run(f"echo {number}", text=True).stdout == f"{number}\n"
        assert server.connections() == 1 and time.monotonic() < began + 3


def test_output_arrives_in_pieces_under_credit(sshd: Sshd, account: Account) -> None:
    """The server waits for the client's credit."""
    pieces: list[bytes] = []
    times: list[float] = []

    def take(stream: str, data: bytes) -> None:
        times.append(time.monotonic())
        pieces.append(data)

    with connect(sshd, account) as host:
        done = host.run("echo a; sleep 0.5; echo b", on_output=take)
        assert b"".join(pieces) == done.stdout == b"a\nb\n" and times[-1] - times[0] > 0.3
        size = 0

        def count(stream: str, data: bytes) -> None:
            nonlocal size
            size += len(data)
            time.sleep(0.002)

        assert host.run("head -c 20000000 /dev/zero", on_output=count, capture=False).rc == 0 and size == 20_000_000
        assert not has_python(account)


def test_a_second_command_makes_a_second_connection_if_needed(make_sshd: Callable[..., Sshd], account: Account) -> None:
    """As with ssh; the first command goes on, and its connection then ends."""
    server, slow = make_sshd(config=["MaxSessions 1"]), []
    with connect(server, account) as host:
        waiting = threading.Thread(target=lambda: slow.append(host.run("sleep 5; echo slow").stdout))
        waiting.start()
        processes.wait_until(lambda: any("sleep" in process.command for process in account.processes()), 5)
        assert host.run("echo quick").stdout == b"quick\n" and not slow
        assert host.run("echo again").stdout == b"again\n" and not slow and server.connections() == 2
        waiting.join()
        assert slow == [b"slow\n"]
        processes.wait_until(lambda: len([each for each in account.processes() if "sshd" in each.command]) == 1, 5)
        assert host.run("echo last").stdout == b"last\n"

        def is_forgotten() -> bool:
            gc.collect()
            found = [each for each in gc.get_objects() if isinstance(each, Login) and each.peer.startswith(f"{account.name}@")]
            return len(found) == 1

        processes.wait_until(is_forgotten, 5)  # the first login, with its options; a thread may still be closing it
