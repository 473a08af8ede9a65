"""The library against a real sshd: connections, commands, files and failures; nothing remains after close()."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pmitogen
from pmitogen.api import Host, Hub
from pmitogen.api.waiting import Blocking, finish
from tests.support import processes
from tests.support.accounts import Account
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]


def connect(sshd: Sshd, account: Account | str, hub: Hub | None = None, **options: Any) -> Host:
    """Connect with the run's key, through the given hub or one of its own."""
    name = account if isinstance(account, str) else account.name
    made = pmitogen.connect if hub is None else hub.connect
    return made(f"{name}@{sshd.host}", **{"ssh_args": sshd.ssh_args(), "timeout": 30, **options})


@pytest.fixture
def host(sshd: Sshd, account: Account) -> Iterator[Host]:
    with connect(sshd, account) as made:
        yield made


def no_key(sshd: Sshd) -> list[str]:
    """Return ssh arguments for this server without a key."""
    args = sshd.ssh_args()
    at = args.index("-i")
    return args[:at] + args[at + 2 :] + ["-o", "IdentityFile=none"]


def test_the_directory_and_environment_at_connect_count(
    sshd: Sshd, account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """connect() records them; a reconnection uses the recorded values even if both have changed."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/id").write_text(sshd.key.path.read_text())
    (tmp_path / "keys/id").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLACE", "keys")
    with connect(sshd, account, ssh_args=[*no_key(sshd)[:-2], "-o", "IdentityFile=${PLACE}/id"]) as host:
        monkeypatch.chdir("/")
        monkeypatch.delenv("PLACE")
        finish(host._account.close(Blocking()))
        assert host.run("id -un").stdout == f"{account.name}\n".encode()


# -- logging in -------------------------------------------------------------------------------------------------------------


def test_a_key_file_and_a_key_text_log_in(sshd: Sshd, account: Account) -> None:
    mark = sshd.mark()
    text = sshd.key.path.read_text()
    with connect(sshd, account) as one, connect(sshd, account, ssh_args=no_key(sshd), private_key=text) as two:
        assert one.run("id -un").stdout == two.run("id -un").stdout == f"{account.name}\n".encode()
    assert sshd.accepted(mark) == [("publickey", account.name)] * 2


def test_a_password_logs_in(sshd: Sshd, account: Account) -> None:
    with connect(sshd, account, ssh_args=no_key(sshd), password=account.password) as host:
        assert host.run(["id", "-un"]).stdout.decode().strip() == account.name


def test_a_key_with_a_passphrase_logs_in(sshd: Sshd, account: Account, make_key: Any) -> None:
    key = make_key("ed25519", passphrase="open sesame")
    sshd.authorize(key.public)
    with connect(sshd, account, ssh_args=no_key(sshd), private_key=key.path.read_text(), passphrase="open sesame") as host:
        assert host.run("true").ok


def test_a_url_is_accepted_as_an_address(sshd: Sshd, account: Account) -> None:
    args = [word for word in sshd.ssh_args() if word not in ("-p", str(sshd.port))]
    with pmitogen.connect(f"ssh://{account.name}@{sshd.host}:{sshd.port}", ssh_args=args) as host:
        assert host.run("true").ok


def test_a_refused_login_is_an_authentication_error(sshd: Sshd, account: Account) -> None:
    with pytest.raises(pmitogen.AuthenticationError, match="authentication failed") as caught:
        connect(sshd, account, ssh_args=no_key(sshd), password="not that one")
    assert caught.value.stage == "auth" and "not that one" not in str(caught.value)


def test_a_closed_port_is_an_error_of_the_tcp_stage(sshd: Sshd) -> None:
    with pytest.raises(pmitogen.ConnectError) as caught:
        pmitogen.connect("127.0.0.1", ssh_args=["-F", "/dev/null", "-p", "1"])
    assert caught.value.stage == "tcp"


def test_an_unknown_host_key_is_an_error_of_the_hostkey_stage(sshd: Sshd, account: Account) -> None:
    args = [*sshd.ssh_args()[:6], "-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile=/dev/null"]
    with pytest.raises(pmitogen.ConnectError) as caught:
        connect(sshd, account, ssh_args=args)
    assert caught.value.stage == "hostkey"
    with connect(sshd, account, ssh_args=args, host_key_checking=False) as host:
        assert host.run("true").ok


def test_unsupported_options_are_a_usage_error() -> None:
    with pytest.raises(pmitogen.UsageError, match="-w"):
        pmitogen.connect("127.0.0.1", ssh_args=["-w", "any"])


def test_the_interpreter_can_be_chosen(sshd: Sshd, account: Account, pythons: dict[str, str]) -> None:
    usable = [path for path in pythons.values() if account.run(path, "-c", "0").returncode == 0]
    for path in usable[:3]:
        with connect(sshd, account, python=path) as host:
            assert host.info()["exe"] == path
    with connect(sshd, account, python="/nowhere/python") as host:
        assert host.info()["exe"] != "/nowhere/python"


# -- commands ---------------------------------------------------------------------------------------------------------------


def test_a_command_gets_its_arguments_input_environment_and_directory(host: Host) -> None:
    args = ["sh", "-c", 'cat; echo "$0 $A"; pwd; echo bad >&2; exit 3', "a  b"]
    done = host.run(args, stdin=b"in\n", env={"A": "x y"}, cwd="/")
    assert (done.rc, done.stdout, done.stderr, done.ok) == (3, b"in\na  b x y\n/\n", b"bad\n", False)
    assert host.run("kill -9 $$").rc == 128 + 9
    assert host.run(["nowhere-at-all"]).rc == 127


def test_a_command_can_have_a_terminal(host: Host) -> None:
    done = host.run("test -t 0 && test -t 1 && echo yes; echo err >&2", tty=True)
    assert done.stdout.split() == [b"yes", b"err"] and done.stderr == b""


def test_check_raises_for_a_nonzero_exit_status(host: Host) -> None:
    with pytest.raises(pmitogen.RemoteError, match="ended with status 4: so it is"):
        host.run("echo so it is >&2; exit 4", check=True)


def test_an_empty_command_is_refused(host: Host) -> None:
    with pytest.raises(pmitogen.UsageError):
        host.run([])


def test_a_timeout_ends_the_whole_process_group(host: Host, account: Account) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"timed out after 0\.5 seconds"):
        host.run("sleep 4711 & sleep 4711", timeout=0.5)
    assert time.monotonic() - began < 5
    processes.wait_until(lambda: not [p for p in account.processes() if "4711" in p.command])
    with pytest.raises(TimeoutError):  # even if it produces much output
        host.run("while :; do echo; sleep 0.1; done", timeout=0.5)
    processes.wait_until(lambda: not [p for p in account.processes() if "while" in p.command])


def test_an_endless_command_ends_if_its_output_cannot_be_written(host: Host, account: Account) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "no room")

    with pytest.raises(OSError, match="no room"):
        host.get("/dev/zero", Full())
    assert host.run("true").ok


def test_large_output_and_input_pass(host: Host) -> None:
    data = os.urandom(3 << 20)
    done = host.run(["cat"], stdin=data)
    assert done.stdout == data


# -- files ------------------------------------------------------------------------------------------------------------------


def test_files_are_copied_in_both_directions(host: Host, account: Account, tmp_path: Path) -> None:
    host.put(b"text\n", f"{account.home}/a", mode=0o640)
    state = (account.home / "a").stat()
    assert (state.st_mode & 0o777, state.st_uid, host.get(f"{account.home}/a")) == (0o640, account.uid, b"text\n")
    (tmp_path / "here").write_bytes(b"x" * 300_000)
    host.put(tmp_path / "here", f"{account.home}/b")
    assert host.get(f"{account.home}/b", tmp_path / "back") == b""
    assert (tmp_path / "back").read_bytes() == b"x" * 300_000
    assert (tmp_path / "back").stat().st_mode & 0o777 == (tmp_path / "here").stat().st_mode & 0o777
    out = io.BytesIO()
    host.put(io.BytesIO(b"open file"), f"{account.home}/c")
    host.get(f"{account.home}/c", out)
    assert out.getvalue() == b"open file"
    host.run(["rm", *(f"{account.home}/{name}" for name in "abc")], check=True)


def test_unreadable_and_missing_files_raise_oserror(host: Host, account: Account, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("kept")
    with pytest.raises(pmitogen.RemoteError, match="/nowhere/at/all") as caught:
        host.get("/nowhere/at/all", tmp_path / "old")
    assert isinstance(caught.value, FileNotFoundError)
    assert (caught.value.errno, caught.value.filename) == (2, "/nowhere/at/all")
    for action in (lambda: host.get("/etc/shadow"), lambda: host.put(b"", "/etc/pmitogen-cannot")):
        with pytest.raises(PermissionError):
            action()
    for action in (lambda: host.get("/etc"), lambda: host.put(b"", "/etc")):
        with pytest.raises(IsADirectoryError):
            action()
    with pytest.raises(NotADirectoryError):
        host.get("/etc/passwd/x")
    assert [path.name for path in tmp_path.iterdir()] == ["old"] and (tmp_path / "old").read_text() == "kept"
    with pytest.raises(pmitogen.RemoteError, match="[Pp]ermission"):
        host.put(b"", "/etc/pmitogen-cannot")
    with pytest.raises(FileNotFoundError):
        host.put(tmp_path / "missing", f"{account.home}/x")


def test_a_large_file_takes_constant_memory(host: Host, account: Account, tmp_path: Path) -> None:
    size = 96 << 20
    with open(tmp_path / "large", "wb") as stream:
        stream.truncate(size)
        stream.write(b"head")
    host.put(b"warm", f"{account.home}/large")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    host.put(tmp_path / "large", f"{account.home}/large")
    host.get(f"{account.home}/large", tmp_path / "back")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert (tmp_path / "back").stat().st_size == size
    with open(tmp_path / "back", "rb") as stream:
        assert stream.read(6) == b"head\0\0"
    host.run(["rm", f"{account.home}/large"], check=True)
    assert grown < 48 << 10, f"memory grew by {grown} KiB"
    assert max(rss(process) for process in account.processes()) < 64 << 20


# -- many at once -----------------------------------------------------------------------------------------------------------


def test_many_threads_share_one_connection(sshd: Sshd, account: Account) -> None:
    mark = sshd.mark()
    with Hub() as hub:
        hosts = [connect(sshd, account, hub) for _ in range(3)]
        hosts[0].ping()  # the first commands would have sessions of their own
        found = hub.map(lambda item: item[0].run(f"echo {item[1]}").stdout, [(hosts[n % 3], n) for n in range(24)])  # type: ignore
        assert found == [f"{n}\n".encode() for n in range(24)]
    assert (sshd.connections(mark), sshd.sessions(mark)) == (1, 1)


def test_different_hosts_connect_at_once(sshd: Sshd, account: Account, make_account: Any) -> None:
    other = make_account()
    with Hub() as hub:
        hosts = [connect(sshd, each, hub) for each in (account, other)]
        assert hub.map(lambda host: host.run("id -un").stdout.decode().strip(), hosts) == [account.name, other.name]

        def fail(host: Host) -> None:
            raise ValueError("mine")

        with pytest.raises(ValueError, match="mine"):
            hub.map(fail, hosts)
        hosts[0].close()
        assert hosts[1].run("true").ok
        assert hosts[0].run("true").ok  # a closed host reconnects


def test_using_a_closed_object_is_an_error(sshd: Sshd, account: Account) -> None:
    host = connect(sshd, account)
    host.close()
    host.close()
    for use in (lambda: host.run("true"), lambda: host.get("/etc/passwd"), lambda: host.call(os.getuid), host.info, host.ping):
        with pytest.raises(pmitogen.ConnectionLost, match="closed"):
            use()


def test_closing_ends_running_commands(sshd: Sshd, account: Account) -> None:
    host = connect(sshd, account)
    failures: list[BaseException] = []

    def run() -> None:
        with contextlib.suppress(AssertionError):
            try:
                host.run("sleep 4712")
            except pmitogen.Error as error:
                failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    processes.wait_until(lambda: [p for p in account.processes() if "sleep 4712" in p.command])
    host.close()
    thread.join(10)
    assert not thread.is_alive() and isinstance(failures[0], (pmitogen.ConnectionLost, pmitogen.ConnectError))
    processes.wait_until(lambda: not [p for p in account.processes() if "4712" in p.command])


def test_a_lost_connection_is_an_error_and_the_next_call_reconnects(make_sshd: Any, account: Account) -> None:
    server = make_sshd()
    with connect(server, account) as host:
        timer = threading.Timer(0.5, server.kill_sessions)
        timer.start()
        with pytest.raises(pmitogen.ConnectionLost):
            host.run("sleep 4713")
        timer.join()
        assert host.run("echo again").stdout == b"again\n"


def test_a_command_killed_during_a_shutdown_is_reported_as_lost(host: Host) -> None:
    """A shutdown kills processes one by one before it ends the connection; otherwise a killed command has its exit status."""
    with pytest.raises(pmitogen.ConnectionLost):
        host.run("(sleep 0.1; pkill -KILL -x -u $(id -u) sshd) < /dev/null > /dev/null 2>&1 & kill -KILL $$")
    assert host.run("kill -KILL $$").rc == 128 + 9


def rss(process: processes.Process) -> int:
    """Return a process's resident memory, in bytes."""
    try:
        return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


NAMELESS = """
import os, sys, pmitogen
assert os.getuid() == 54321 and not os.access(os.environ["HOME"], os.W_OK)
with pmitogen.connect(sys.argv[1], ssh_args=sys.argv[2:], private_key=sys.stdin.read(), timeout=30) as host:
    host.put(b"x", "nameless")
    print(host.run("id -un").stdout.decode().strip(), host.get("nameless"), host.become().run("id -u").stdout)
    host.run("rm nameless", check=True)
"""


@pytest.mark.needs_program("setpriv")
def test_the_library_works_without_a_passwd_entry_and_a_writable_home(sshd: Sshd, account: Account, short_path: Path) -> None:
    known = short_path / "known"
    known.write_text(sshd.known_hosts.read_text())
    options = (f"UserKnownHostsFile={known}", "GlobalKnownHostsFile=none", "IdentitiesOnly=yes", "IdentityFile=none")
    args = ["-p", str(sshd.port), *(word for option in options for word in ("-o", option))]
    # May read all files, because this interpreter may be in root's home, but write none.
    keep = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]
    command = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", *keep, sys.executable, "-B", "-c", NAMELESS]
    env = {name: value for name, value in os.environ.items() if name not in ("TMPDIR", "XDG_RUNTIME_DIR", "USER", "LOGNAME")}
    done = subprocess.run(
        [*command, f"{account.name}@{sshd.host}", *args],
        input=sshd.key.path.read_text(),
        capture_output=True,
        text=True,
        timeout=60,
        env={**env, "HOME": str(short_path)},
        cwd="/",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{account.name} b'x' b'0\\n'\n"
