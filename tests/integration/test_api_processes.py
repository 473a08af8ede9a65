"""Running commands of the library: streams, signals, terminals, and their end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import pytest

import pmitogen
from pmitogen.api import Host, Terminal
from tests.support import processes
from tests.support.accounts import Account
from tests.support.library import connect
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]


@pytest.fixture
def host(sshd: Sshd, account: Account) -> Iterator[Host]:
    with connect(sshd, account) as made:
        yield made


def test_output_lines_arrive_while_the_process_runs(host: Host) -> None:
    with host.start("echo one; echo two; sleep 3; echo three", text=True) as process:
        began = time.monotonic()
        assert [process.stdout.readline(), process.stdout.readline()] == ["one\n", "two\n"]
        assert time.monotonic() - began < 2 and process.poll() is None and process.returncode is None
        assert list(process.stdout) == ["three\n"]
        assert process.wait() == process.poll() == process.returncode == 0


def test_input_and_output_can_alternate(host: Host) -> None:
    with host.start(["cat"]) as process:
        for word in (b"one\n", b"two\n"):
            process.stdin.write(word)
            assert process.stdout.readline() == word
        process.stdin.close()
        assert (process.stdout.read(), process.stderr.read(), process.wait(10)) == (b"", b"", 0)
    with host.start("cat; exit 3", text=True) as args:
        assert args.communicate("größer\n") == ("größer\n", "") and args.returncode == 3


def test_communicate_passes_large_input_and_output(host: Host) -> None:
    data = b"0123456789abcdef" * (12 << 16)
    with host.start("tee /dev/stderr") as process:
        assert process.communicate(data, timeout=60) == (data, data)


def test_signals_and_exit_statuses_are_those_of_subprocess(host: Host) -> None:
    with host.start("trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done", text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == "usr1\n"
        process.terminate()
        assert process.wait(10) == 128 + signal.SIGTERM
        process.kill()  # the process has already ended
    with host.start("trap '' TERM; echo ready; sleep 4740 & sleep 4740", text=True) as process:
        process.stdout.readline()
        process.kill()
        assert process.wait(10) == 128 + signal.SIGKILL


def test_leaving_the_block_ends_the_whole_process_group(host: Host, account: Account) -> None:
    def left() -> list[processes.Process]:
        return [p for p in account.processes() if "4741" in p.command]

    with pytest.raises(KeyError), host.start("trap '' TERM; sleep 4741 & sleep 4741 & wait") as process:
        processes.wait_until(lambda: len(left()) == 3)
        raise KeyError
    processes.wait_until(lambda: not left())
    assert process.returncode is not None
    loose = host.start("exec sleep 4741")
    processes.wait_until(left)
    del loose
    processes.wait_until(lambda: not left())


def test_wait_has_a_time_limit_and_does_not_end_the_process(host: Host) -> None:
    with host.start("cat") as process:
        with pytest.raises(TimeoutError, match=r"timed out after 0\.2 seconds"):
            process.wait(0.2)
        assert process.communicate(b"still here", timeout=10)[0] == b"still here"


def test_an_unread_output_stream_blocks_the_process(host: Host, account: Account) -> None:
    with host.start("yes") as process:
        time.sleep(1)
        held = sum(map(len, process._running.exchange._output[0]))
        assert 1 << 20 < held <= 5 << 20
        assert process.stdout.read(4) == b"y\ny\n"


def test_unread_input_blocks_the_writer(host: Host) -> None:
    with host.start("sleep 1; wc -c") as process:
        began = time.monotonic()
        process.stdin.write(bytes(12 << 20))
        assert time.monotonic() - began > 0.5
        process.stdin.close()
        assert int(process.stdout.read()) == 12 << 20


def test_writing_to_an_ended_process_is_a_broken_pipe(host: Host) -> None:
    with host.start("exec true") as process:
        process.wait(10)
        with pytest.raises(BrokenPipeError):
            process.stdin.write(b"x")


def test_a_process_can_have_a_terminal_whose_size_changes(host: Host) -> None:
    with host.start(
        "stty size; read line; stty size; echo $TERM; read line", tty=Terminal("vt100", 100, 40), text=True
    ) as process:
        assert process.stdout.readline() == "40 100\n"
        process.resize(70, 20)
        process.stdin.write("go\n")
        assert [process.stdout.readline() for _ in range(3)] == ["go\n", "20 70\n", "vt100\n"]
        process.stdin.write("\x03")
        assert process.wait(10) == 128 + signal.SIGINT
    with host.start("cat") as process, pytest.raises(pmitogen.UsageError, match="no terminal"):
        process.resize(1, 1)


def test_several_threads_use_one_process(host: Host) -> None:
    with host.start(["cat"]) as process:
        found: list[bytes] = []
        reader = threading.Thread(target=lambda: found.append(process.stdout.read()))
        reader.start()
        for _ in range(100):
            process.stdin.write(bytes(100_000))
        process.stdin.close()
        reader.join(30)
        assert found == [bytes(10_000_000)]


def test_streams_raise_an_error_at_the_end_of_the_connection(make_sshd: object, account: Account) -> None:
    server = make_sshd()  # type: ignore[operator]
    with connect(server, account) as host:
        process = host.start("sleep 4742")
        threading.Timer(0.5, server.kill_sessions).start()
        with pytest.raises(pmitogen.ConnectionLost):
            process.stdout.read()
        with pytest.raises(pmitogen.ConnectionLost):
            process.wait()
        process.close()


def test_a_process_runs_as_another_account(host: Host) -> None:
    with host.become().start("id -u; cat", text=True) as process:
        assert process.communicate("x") == ("0\nx", "")


def test_a_command_with_a_failing_output_function_leaves_nothing(host: Host, account: Account) -> None:
    host.ping()
    before = {process.pid for process in processes.all_processes(zombies=True) if process.uid == account.uid}

    def refuse(*_: object) -> None:
        time.sleep(0.7)  # until no more output can be in transit
        raise KeyError

    with pytest.raises(KeyError):
        host.run("exec yes", on_output=refuse)
    del refuse

    def left() -> set[int]:
        return {process.pid for process in processes.all_processes(zombies=True) if process.uid == account.uid} - before

    processes.wait_until(lambda: not left())
    assert not left()
