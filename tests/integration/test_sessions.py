"""Commands and files in separate sessions, without Python on the host."""

from __future__ import annotations

import io
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pmitogen.errors import ConnectError, ConnectionLost, RemoteError
from pmitogen.transport.connect import Connection
from pmitogen.transport.sessions import exec_command, file_transfer
from tests.support import processes
from tests.support.accounts import Account
from tests.support.links import linked
from tests.support.processes import wait_until
from tests.support.sshd import Sshd

pytestmark = pytest.mark.needs_sshd
MakeSshd = Callable[..., Sshd]


@pytest.fixture
def link(sshd: Sshd) -> Iterator[Connection]:
    with linked(sshd) as made:
        yield made


# -- commands ---------------------------------------------------------------------------------------------------------------


def test_a_command_has_two_streams_and_a_status(link: Connection) -> None:
    ended, out, err = exec_command.run(link, "echo out; echo err >&2; exit 3")
    assert (ended.status, ended.signal, ended.code, out, err) == (3, None, 3, b"out\n", b"err\n")


def test_the_end_by_a_signal_is_reported(link: Connection) -> None:
    ended, _, _ = exec_command.run(link, "kill -9 $$")
    assert ended.status is None and ended.signal is not None and ended.signal.name == "KILL"
    assert ended.code == 137


def test_input_may_be_bytes_pieces_or_none(link: Connection) -> None:
    blob = os.urandom(3_000_000)
    assert exec_command.run(link, "cat", stdin=blob)[1] == blob
    assert exec_command.run(link, "cat", stdin=(blob[at : at + 777_777] for at in range(0, len(blob), 777_777)))[1] == blob
    assert exec_command.run(link, "cat")[1] == b""


def test_unread_input_does_not_block(link: Connection) -> None:
    assert exec_command.run(link, "exec <&-; echo done", stdin=(bytes(1 << 20) for _ in range(50)))[1] == b"done\n"


def test_a_failing_input_fails_the_command(link: Connection) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise RemoteError("gone")

    with pytest.raises(RemoteError, match="gone"):
        exec_command.run(link, "cat", stdin=pieces())


def test_output_arrives_while_the_command_runs(link: Connection) -> None:
    times: list[float] = []
    exec_command.run(link, "echo 1; sleep 0.5; echo 2", on_output=lambda _out, _err: times.append(time.monotonic()))
    assert times[-1] - times[0] > 0.4


def test_input_and_output_can_alternate(link: Connection) -> None:
    with exec_command.Command(link, "read name; echo hello $name", stdin=None) as running:
        with pytest.raises(TimeoutError):
            running.read(0.1)
        running.send(b"you\n")
        assert running.read(5) == (b"hello you\n", b"")
        assert running.read(5) is None
        assert running.wait().status == 0


@pytest.mark.needs_terminals
def test_a_command_can_have_a_terminal(link: Connection) -> None:
    ended, out, err = exec_command.run(
        link, "tty; stty size; echo $TERM; echo err >&2", terminal=exec_command.Terminal("xterm", 132, 43)
    )
    assert out.splitlines()[1:] == [b"43 132", b"xterm", b"err"]
    assert out.startswith(b"/dev/pts/") and not err and b"\r" not in out and ended.status == 0


@pytest.mark.parametrize("terminal", [None, exec_command.Terminal("dumb", 80, 24)])
def test_timeout_ends_the_command(sshd: Sshd, account: Account, terminal: exec_command.Terminal | None) -> None:
    """Its child processes end too, which the leak check tests."""
    with linked(sshd, user=account.name) as link:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            exec_command.run(link, "sleep 60; sleep 61", timeout=0.5, terminal=terminal)
        assert time.monotonic() - began < 2


def test_large_output_takes_bounded_memory(link: Connection) -> None:
    """A reader that stops reading blocks the writer on the host, and at most one window is buffered here."""
    with exec_command.Command(link, "head -c 60000000 /dev/zero") as running:
        time.sleep(0.5)
        assert len(running._channel.in_buffer) <= 16 << 20
        total = 0
        while (piece := running.read(20)) is not None:
            total += len(piece[0])
        assert total == 60_000_000


def test_more_output_than_expected_ends_the_command(link: Connection) -> None:
    with pytest.raises(RemoteError, match="exceeds 1000 bytes"):
        exec_command.run(link, "yes", max_output=1000)
    assert exec_command.run(link, "echo alive")[1] == b"alive\n"


def test_a_lost_connection_is_not_an_exit(make_sshd: MakeSshd) -> None:
    server = make_sshd()
    with linked(server) as link:
        # Not the command itself, because sshd would have the time to report its death. sshd forks once more after the login.
        exec_command.run(link, "true")
        sessions = [each.pid for each in processes.descendants(server.pid)]
        timer = threading.Timer(0.5, lambda: [os.kill(pid, signal.SIGKILL) for pid in sessions])
        timer.start()
        with pytest.raises(ConnectionLost, match="the server closed the connection"):
            exec_command.run(link, "cat", stdin=(time.sleep(0.1) or b"x" for _ in range(50)))
        timer.join()


def test_the_status_of_a_forced_command_is_returned(make_sshd: MakeSshd) -> None:
    """The account may not run the requested command."""
    with linked(make_sshd(config=["ForceCommand echo no commands here; exit 9"])) as link:
        ended, out, _ = exec_command.run(link, "id")
        assert (ended.status, out) == (9, b"no commands here\n")


def test_several_commands_run_at_once(link: Connection) -> None:
    results: dict[int, bytes] = {}
    threads = [
        threading.Thread(target=lambda n=n: results.update({n: exec_command.run(link, f"sleep 0.1; echo {n}")[1]}))  # type: ignore[misc]
        for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {n: f"{n}\n".encode() for n in range(20)}


# -- files ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sftp", "cat"])
def files(request: pytest.FixtureRequest, make_sshd: MakeSshd) -> Iterator[file_transfer.FileTransfer]:
    # sshd uses the first value of a repeated option: this one names a missing program.
    server = make_sshd(config=[] if request.param == "sftp" else ["Subsystem sftp /nonexistent"])
    with linked(server) as link:
        made = file_transfer.FileTransfer(link)
        yield made
        assert made._has_sftp == (request.param == "sftp")
        made.close()


@pytest.mark.parametrize("size", [0, 1, 32 << 10, 5_000_001])
def test_a_file_is_copied_in_both_directions(files: file_transfer.FileTransfer, short_path: Path, size: int) -> None:
    blob = os.urandom(size)
    path = short_path / 'it\'s a "name" with $(echo) 語'
    files.put(io.BytesIO(blob), size, str(path), 0o640)
    assert path.read_bytes() == blob
    assert path.stat().st_mode & 0o7777 == 0o640
    back = io.BytesIO()
    assert files.fetch(str(path), back) == size
    assert back.getvalue() == blob
    assert [each.name for each in short_path.iterdir()] == [path.name]


def test_an_existing_file_is_replaced(files: file_transfer.FileTransfer, short_path: Path) -> None:
    path = short_path / "f"
    path.write_bytes(b"old and longer")
    files.put(io.BytesIO(b"new"), 3, str(path))
    assert path.read_bytes() == b"new"


def test_an_interrupted_source_leaves_the_old_file(files: file_transfer.FileTransfer, short_path: Path) -> None:
    path = short_path / "f"
    path.write_bytes(b"old")
    with pytest.raises(RemoteError):
        files.put(io.BytesIO(b"half"), 8, str(path))
    time.sleep(0.2)
    assert path.read_bytes() == b"old"


def test_a_missing_directory_and_a_missing_file_are_reported(files: file_transfer.FileTransfer, short_path: Path) -> None:
    with pytest.raises(RemoteError) as caught:
        files.put(io.BytesIO(b"x"), 1, str(short_path / "no" / "f"))
    assert caught.value.message == f"{short_path}/no/f: No such file or directory" and caught.value.code == "ENOENT"
    with pytest.raises(RemoteError) as caught:
        files.fetch(str(short_path / "no"), io.BytesIO(), "reading it")
    assert caught.value.message == "reading it: No such file or directory" and caught.value.code == "ENOENT"


def test_a_session_serves_many_transfers(files: file_transfer.FileTransfer, short_path: Path) -> None:
    """Failures between them have no effect on later ones."""
    for index in range(5):
        path = short_path / str(index)
        files.put(io.BytesIO(b"x" * index * 100_000), index * 100_000, str(path))
        with pytest.raises(RemoteError):
            files.fetch(str(path / "no"), io.BytesIO())
        with pytest.raises(RemoteError):
            files.put(io.BytesIO(b"half"), 8, str(path))
        with pytest.raises(RemoteError):
            files.fetch(str(short_path), io.BytesIO())  # a directory
        back = io.BytesIO()
        assert files.fetch(str(path), back) == index * 100_000 == len(back.getvalue())
    wait_until(lambda: not list(short_path.glob("*.part")))  # the shell removes it at the end of its input


@pytest.mark.parametrize("who", ["login", "root"])
@pytest.mark.parametrize("size", [8, None])
def test_an_interrupted_upload_by_cat_leaves_no_part(make_sshd: MakeSshd, account: Account, who: str, size: int | None) -> None:
    """sshd kills the shell of a cancelled command, but not in a root login."""

    class Interrupted(io.BytesIO):
        def read(self, count: int | None = -1) -> bytes:
            if piece := super().read(count):
                return piece
            wait_until(lambda: list(account.home.glob("f.*.part")))
            raise RemoteError("interrupted")

    path = account.home / "f"
    with linked(make_sshd(config=["Subsystem sftp /nonexistent"]), user=account.name if who == "login" else "root") as link:
        files = file_transfer.FileTransfer(link)
        with pytest.raises(RemoteError, match="interrupted"):
            files.put(Interrupted(b"half"), size, str(path))
        files.close()
        wait_until(lambda: not list(account.home.glob("f.*.part")))
    assert not path.exists()


def test_a_directory_is_not_replaced(files: file_transfer.FileTransfer, short_path: Path) -> None:
    (short_path / "d").mkdir()
    for name in ("d", "d/"):
        for size in (1, None):
            with pytest.raises(RemoteError, match="d/?: Is a directory") as caught:
                files.put(io.BytesIO(b"x"), size, f"{short_path}/{name}")
            assert caught.value.code == "EISDIR"
    assert [each.name for each in short_path.rglob("*")] == ["d"]


def test_a_growing_file_is_read_without_a_gap(files: file_transfer.FileTransfer, short_path: Path) -> None:
    """The data is the beginning of the file."""
    path = short_path / "f"
    path.write_bytes(bytes(100_000))
    grown = threading.Event()

    class Growing(io.BytesIO):
        def write(self, data: Any) -> int:
            if not grown.is_set():
                grown.set()
                with path.open("ab") as file:
                    file.write(b"x" * 100_000)
            return super().write(data)

    target = Growing()
    got = files.fetch(str(path), target)
    assert target.getvalue() == (bytes(100_000) + b"x" * 100_000)[:got] and got >= 100_000


def test_a_file_without_a_size_is_read(files: file_transfer.FileTransfer) -> None:
    got = io.BytesIO()
    assert files.fetch("/proc/self/status", got) == len(got.getvalue()) > 100


@pytest.mark.needs_root
def test_output_of_start_up_files_is_no_part_of_a_file(make_sshd: MakeSshd, make_account: Callable[..., Account]) -> None:
    account, server = make_account(), make_sshd(config=["Subsystem sftp /nonexistent"])
    account.write(".bashrc", "echo hello; printf title\n")
    account.write("f", "text\n")
    with linked(server, user=account.name) as link:
        got = io.BytesIO()
        assert file_transfer.FileTransfer(link).fetch("f", got) == 5 and got.getvalue() == b"text\n"


def test_a_connection_that_breaks_while_a_file_is_written_is_lost(sshd: Sshd, short_path: Path) -> None:
    """The write fails before the end of the connection has been read."""

    class Breaking(io.BytesIO):
        def read(self, count: int | None = -1) -> bytes:
            link._transport.sock.shutdown(socket.SHUT_WR)
            return bytes(100_000)

    for size in (None, 1_000_000):
        with linked(sshd) as link:
            files = file_transfer.FileTransfer(link)
            with pytest.raises(ConnectionLost, match="the server closed the connection"):
                files.put(Breaking(), size, str(short_path / "f"))
            files.close()


@pytest.mark.parametrize("command", ["echo hello", 'echo "$SSH_ORIGINAL_COMMAND"'])
def test_a_forced_command_transfers_no_file(make_sshd: MakeSshd, command: str) -> None:
    with linked(make_sshd(config=[f"ForceCommand {command}"])) as link:
        files = file_transfer.FileTransfer(link)
        with pytest.raises(RemoteError, match="^f: the login shell does not run commands"):
            files.fetch("f", io.BytesIO())
        for size in (4, None):
            with pytest.raises(RemoteError, match="^f: the login shell does not run commands"):
                files.put(io.BytesIO(b"data"), size, "f")


def test_a_session_begins_right_after_the_end_of_the_only_one(make_sshd: MakeSshd) -> None:
    """sshd counts a session until it has handled all messages that arrive with the close."""
    with linked(make_sshd(config=["MaxSessions 1"])) as link:
        for _ in range(40):
            with exec_command.Command(link, "true") as command:
                assert command.read() is None and command.wait().code == 0
                while link._transport.sessions:
                    pass
            link.open_session(10).close()


def test_a_server_without_sessions_is_reported(make_sshd: MakeSshd) -> None:
    with linked(make_sshd(config=["MaxSessions 0"])) as link, pytest.raises(ConnectError, match="MaxSessions"):
        file_transfer.FileTransfer(link).fetch("/etc/hostname", io.BytesIO())
