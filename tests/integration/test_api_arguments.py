"""Arguments of the library: all that subprocess accepts are accepted, and invalid ones affect the caller only."""

from __future__ import annotations

import io
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

import pmitogen
from pmitogen.api import Host, Hub
from tests.support.accounts import Account
from tests.support.library import connect
from tests.support.session import repository
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]


@pytest.fixture
def host(sshd: Sshd, account: Account) -> Iterator[Host]:
    with connect(sshd, account) as made:
        yield made


def test_paths_and_texts_are_accepted_as_by_subprocess(host: Host, account: Account) -> None:
    assert host.run("pwd", cwd=pathlib.Path("/tmp")).stdout == host.run(b"pwd", cwd=b"/tmp").stdout == b"/tmp\n"
    assert host.run(["echo", pathlib.Path("/a b"), b"c"]).stdout == b"/a b c\n"
    assert host.run(["cat"], stdin="größer").stdout == "größer".encode()
    assert host.run(["cat"], stdin=io.StringIO("text")).stdout == b"text"
    assert host.run(["cat"], stdin=bytearray(b"array")).stdout == b"array"
    path = pathlib.PurePosixPath(str(account.home)) / "given"
    host.put(io.BytesIO(b"x"), path)
    assert host.get(path) == host.get(os.fsencode(str(path))) == b"x"
    host.put(io.StringIO("text"), str(path))  # type: ignore[arg-type]
    assert host.get(path) == b"text"
    host.run(["rm", path], check=True)
    assert host.run("echo $A", env={"A": pathlib.Path("/p")}).stdout == b"/p\n"  # type: ignore[dict-item]


def test_match_tests_the_session_of_the_library(sshd: Sshd, account: Account, tmp_path: pathlib.Path) -> None:
    config = tmp_path / "config"
    config.write_text(f'Match sessiontype exec command "/bin/sh *"\nPort {sshd.port}\nMatch all\nPort 1\n')
    with connect(sshd, account, ssh_args=[*sshd.ssh_args()[4:], "-F", str(config)]) as made:
        assert made.run("echo up").stdout == b"up\n"


WRONG: list[Any] = [
    lambda host: host.run("pwd", cwd=3),
    lambda host: host.run("pwd", tty=object()),
    lambda host: host.run("pwd", stdin=3),
    lambda host: host.run("pwd", env={"A": 1}),
    lambda host: host.run("pwd", env=["A"]),
    lambda host: host.run("pwd", timeout="x"),
    lambda host: host.run("pwd", check="yes"),
    lambda host: host.run("pwd", text="yes"),
    lambda host: host.run("pwd", encoding=3),
    lambda host: host.run("pwd", on_output=3),
    lambda host: host.run(["echo", 3]),
    lambda host: host.run(3),
    lambda host: host.run(None),
    lambda host: host.start("pwd", cwd=3),
    lambda host: host.start("cat").send_signal("x"),
    lambda host: host.put(3, "/tmp/x"),
    lambda host: host.put(object(), "/tmp/x"),
    lambda host: host.put(None, "/tmp/x"),
    lambda host: host.put(subprocess.DEVNULL, "/tmp/x"),
    lambda host: host.put(b"", 3),
    lambda host: host.put(b"", "/tmp/x", mode="644"),
    lambda host: host.get(3),
    lambda host: host.get("/etc/passwd", 3),
    lambda host: host.become(timeout="x"),
    lambda host: host.become(flags=["-H"]),
    lambda host: host.become(password=3),
    lambda host: host.become(3),
    lambda host: host.become(exe=3),
    lambda host: host.call(os.getloadavg, timeout="x"),
    lambda host: host.call("os.getloadavg"),
    lambda host: host.call(None),
    lambda host: host._hub.connect(3),
    lambda host: host._hub.connect("h", python=3),
    lambda host: host._hub.connect("h", password=3),
    lambda host: host._hub.connect("h", private_key=3),
    lambda host: host._hub.connect("h", ssh_args="-p 22"),
    lambda host: host._hub.connect("h", ssh_args=[22]),
    lambda host: host._hub.connect("h", timeout="x"),
    lambda host: host._hub.connect("h", ask="x"),
    lambda host: host._hub.connect("h", pasword="x"),
    lambda host: host._hub.connect("h", host_key_checking="no"),
    lambda host: host._hub.connect("h", jump_credentials=["x"]),
    lambda host: host._hub.connect("h", jump_credentials={"j": {"password": 3}}),
    lambda host: host._hub.connect_all(3),
    lambda host: host._hub.connect_all("h"),
    lambda host: host._hub.map(3, []),
    lambda host: host._hub.map(print, 3),
    lambda host: host._hub.as_completed(3, []),
    lambda host: host._hub.as_completed(print, [], limit="x"),
    lambda host: host.put(b"", "/tmp/x", progress=3),
    lambda host: host.get("/etc/passwd", progress=3),
    lambda host: host.put_tree("/etc", "/tmp/x", exclude="*.pyc"),
    lambda host: host.put_tree("/etc", "/tmp/x", exclude=None),
    lambda host: host.put_tree("/etc", "/tmp/x", exclude=[3]),
    lambda host: host.put_tree("/etc", "/tmp/x", progress=3),
    lambda host: host.put_tree(3, "/tmp/x"),
    lambda host: host.get_tree("/etc", "/tmp/x", exclude=b"*.pyc"),
    lambda host: host.get_tree("/etc", "/tmp/x", delete="yes"),
    lambda host: host.get_tree("/etc", 3),
    lambda host: host.mkdir("/tmp/x", "755"),
    lambda host: host.glob("*", recursive=1),
    lambda host: host.open("/tmp/x", 3),
    lambda host: host.open("/tmp/x", encoding=3),
    lambda host: host.open("/tmp/x", "w", permissions="644"),
    lambda host: host.rename("/tmp/x", None),
    lambda host: host.forward_local(("a", "b")),
    lambda host: host.start("cat").communicate(3),
    lambda host: host.start("cat").wait("x"),
    lambda host: host.start("cat", tty=True).resize("x", 3),
]


def test_a_wrong_type_is_a_type_error_and_affects_no_other_call(sshd: Sshd, account: Account) -> None:
    with Hub() as hub:
        one, other = connect(sshd, account, hub), connect(sshd, account, hub, timeout=31)
        for index, wrong in enumerate(WRONG):
            with pytest.raises(TypeError) as caught:
                wrong(one)
            assert ": expected " in str(caught.value) or "unexpected keyword argument" in str(caught.value), index
        for each in (one, other):
            assert each.run("echo alive").stdout == b"alive\n"


REFUSED: list[Any] = [
    lambda host: host.run("a\0b"),
    lambda host: host.run(["a", "\0"]),
    lambda host: host.run(["a", "\ud800"]),
    lambda host: host.become("\ud800"),
    lambda host: host.become("root", flags="\ud800"),
    lambda host: host.become("root", password="\ud800"),
    lambda host: pmitogen.connect("\ud800"),
    lambda host: pmitogen.connect("h", ssh_args=["-l", "\ud800"]),
    lambda host: pmitogen.connect("h", password="\ud800"),
    lambda host: pmitogen.ConnectOptions(user="\ud800"),
    lambda host: host.run("true", encoding=""),
    lambda host: host.run("true", encoding="\udcff"),
    lambda host: host.run("true", errors="\udcff"),
    lambda host: host.open("/tmp/x", encoding=""),
    lambda host: host.run([]),
    lambda host: host.run([""]),
    lambda host: host.run("a", env={"A=B": "c"}),
    lambda host: host.run("a", env={"": "c"}),
    lambda host: host.run("a", cwd=""),
    lambda host: host.run("a", timeout=-1),
    lambda host: host.run("a", timeout=float("nan")),
    lambda host: host.run("a", encoding="no-such"),
    lambda host: host.run("a", encoding="rot13"),
    lambda host: host.run("a", encoding="hex"),
    lambda host: host.start("a", encoding="idna"),
    lambda host: host.run("a", stdin=b"", input=b""),
    lambda host: host.put(b"", ""),
    lambda host: host.put(b"", "/tmp/x", mode=0o10000),
    lambda host: host.become(""),
    lambda host: host.become(method="suda"),
    lambda host: host._hub.connect(""),
    lambda host: host._hub.connect("h", jump_credentials={"j": {"pasword": "x"}}),
]


def test_a_wrong_value_is_a_usage_error(host: Host) -> None:
    for index, wrong in enumerate(REFUSED):
        with pytest.raises(pmitogen.UsageError):
            wrong(host)
            pytest.fail(f"{index} was accepted")
    assert host.run("echo alive", timeout=10**400).stdout == b"alive\n"


def test_an_internal_failure_ends_only_its_call(sshd: Sshd, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    from pmitogen.hub.host.host import Host as HubHost

    with Hub() as hub:
        one, other = connect(sshd, account, hub), connect(sshd, account, hub, timeout=31)
        with monkeypatch.context() as patch:
            patch.setattr(HubHost, "submit", lambda self, request: 1 / 0)
            with pytest.raises(pmitogen.UsageError, match="internal error: ZeroDivisionError"):
                one.run("true")
        for each in (one, other):
            assert each.run("echo alive").stdout == b"alive\n"


def test_a_missing_directory_is_named(host: Host) -> None:
    done = host.run("pwd", cwd="/nowhere/at all")
    assert (done.rc, done.stderr) == (127, b"/nowhere/at all: No such file or directory\n")
    with pytest.raises(pmitogen.RemoteError, match="/nowhere/at all: No such file"):
        host.run("pwd", cwd="/nowhere/at all", check=True)


def test_a_failed_check_has_the_result(host: Host) -> None:
    with pytest.raises(pmitogen.RemoteError) as caught:
        host.run("echo out; echo err >&2; exit 3", check=True)
    assert caught.value.result == pmitogen.Completed(3, b"out\n", b"err\n")


def test_text_decodes_output(host: Host) -> None:
    assert host.run(r"printf 'a\r\nb\377'", text=True).stdout == "a\nb\ufffd"
    assert host.run(r"printf '\344'", encoding="latin-1").stdout == "ä"
    assert host.run(["cat"], input="ä", encoding="latin-1").stdout == "ä"
    pieces: list[tuple[str, str]] = []
    command = "echo 1; sleep 0.2; echo 2 >&2; printf 3"
    done = host.run(command, text=True, capture=False, on_output=lambda *piece: pieces.append(piece))
    assert sorted(pieces) == [("stderr", "2\n"), ("stdout", "1\n"), ("stdout", "3")] and done.stdout == ""


def test_a_callback_gets_the_lines_that_iterating_yields(host: Host) -> None:
    data = b"1\r2\r\n\n3\xc3\xa4\r"
    lines: list[str] = []
    host.run(["cat"], input=data, text=True, on_output=lambda _, line: lines.append(line))
    with host.start(["cat"], text=True) as process:
        process.stdin.buffer.write(data)  # type: ignore[attr-defined]
        process.stdin.close()
        assert lines == list(process.stdout) == ["1\n", "2\n", "\n", "3ä\n"]
    times: list[float] = []
    command = "printf '1%%\\r'; sleep 0.5; printf '2%%\\r'; sleep 0.5; printf x"
    host.run(command, text=True, on_output=lambda *_: times.append(time.monotonic()))
    assert len(times) == 3 and times[1] - times[0] > 0.3  # progress on one line is reported as it comes


def test_a_downloads_stream_may_take_less_than_it_is_given(host: Host) -> None:
    taken = bytearray()

    class Slow:
        def write(self, data: bytes) -> int:
            taken.extend(data[:1000])
            return min(len(data), 1000)

    class Asynchronous:
        async def write(self, data: bytes) -> int:
            return len(data)

    stream: Any = Slow()
    data = os.urandom(300_000)
    host.put(data, "slow")
    host.get("slow", stream)
    assert taken == data
    stream = Asynchronous()
    with pytest.raises(TypeError, match="write.. returned a coroutine"):
        host.get("slow", stream)
    host.remove("slow")


def test_a_failure_of_the_callers_own_function_ends_the_command(host: Host, account: Account) -> None:
    from tests.support import processes

    with pytest.raises(ZeroDivisionError):
        host.run("echo x; sleep 4720", on_output=lambda stream, data: 1 / 0)
    processes.wait_until(lambda: not [p for p in account.processes() if "4720" in p.command])


def test_a_blocking_input_stream_delays_neither_output_nor_the_timeout(host: Host) -> None:
    read_fd, write_fd = os.pipe()
    seen: list[bytes] = []
    with os.fdopen(read_fd, "rb") as stream, os.fdopen(write_fd, "wb"):
        with pytest.raises(TimeoutError, match="timed out after 1 seconds"):
            host.run("echo here; cat", stdin=stream, timeout=1, on_output=lambda name, data: seen.append(data))
    assert seen == [b"here\n"]


def test_a_failing_input_stream_fails_the_command(host: Host) -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(5, "broken")

    with pytest.raises(OSError, match="broken"):
        host.run(["cat"], stdin=Broken())  # type: ignore[arg-type]
    assert host.run("echo alive").stdout == b"alive\n"


def test_an_open_that_is_refused_prints_nothing(sshd: Sshd, account: Account) -> None:
    """In its development mode Python prints what closing an object raises whose ``__init__`` has failed."""
    program = f"""
import pmitogen
with pmitogen.connect("{account.name}@{sshd.host}", ssh_args={sshd.ssh_args()!r}, timeout=30) as host:
    for wrong in (lambda: host.open("", "wb"), lambda: host.open("", "r"), lambda: host.open("/x", "w", permissions=-1)):
        try:
            wrong()
        except pmitogen.UsageError as error:
            print(error)
"""
    args = [sys.executable, "-X", "dev", "-W", "ignore", "-c", program]
    done = subprocess.run(args, capture_output=True, text=True, timeout=60, cwd=repository, check=True)
    assert done.stderr == "" and done.stdout.splitlines() == [
        "open: path: empty path",
        "open: path: empty path",
        "open: permissions: -1: expected 0 to 4095",
    ]
