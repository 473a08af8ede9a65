"""The demo server with Paramiko's client and with OpenSSH's."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paramiko
import pytest

from pmitogen.cli.demo.server import DemoServer
from tests.support import processes
from tests.support.keys import KeyFile

PASSWORD = "correct horse"


@pytest.fixture
def server(client_key: KeyFile) -> Iterator[DemoServer]:
    user_key = paramiko.Ed25519Key.from_private_key_file(str(client_key.path))
    with DemoServer(paramiko.ECDSAKey.generate(), user_key, PASSWORD) as running:
        yield running


def _transport(server: DemoServer) -> paramiko.Transport:
    transport = paramiko.Transport((server.address, server.port))
    transport.start_client(timeout=10)
    return transport


@pytest.fixture
def client(server: DemoServer) -> Iterator[paramiko.Transport]:
    transport = _transport(server)
    transport.auth_publickey("anyone", server.user_key)
    yield transport
    transport.close()
    transport.join(5)


def _run(client: paramiko.Transport, command: str, data: bytes = b"") -> tuple[int, bytes, bytes]:
    with client.open_session(timeout=10) as channel:
        channel.exec_command(command)
        with ThreadPoolExecutor(1) as pool:
            sent = pool.submit(lambda: (channel.sendall(data), channel.shutdown_write()))
            out = channel.makefile("rb").read()
            err = channel.makefile_stderr("rb").read()
            sent.result(20)
        return channel.recv_exit_status(), out, err


def test_a_command_has_three_streams_and_a_status(client: paramiko.Transport) -> None:
    assert _run(client, "cat; echo oops >&2; exit 7", b"in") == (7, b"in", b"oops\n")


def test_four_megabytes_of_every_byte_pass_unchanged(client: paramiko.Transport) -> None:
    data = bytes(range(256)) * 16384
    assert _run(client, "cat", data) == (0, data, b"")


def test_the_environment_is_that_of_a_login(client: paramiko.Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "x")
    with client.open_session() as channel:
        channel.set_environment_variable("LC_TEST", "wörd")
        channel.exec_command("env; pwd")
        out = channel.makefile("r").read().decode()
    assert "LC_TEST=wörd\n" in out and "SECRET" not in out and out.endswith(pwd.getpwuid(os.getuid()).pw_dir + "\n")


def test_the_end_by_a_signal_is_reported(client: paramiko.Transport) -> None:
    for _ in range(20):  # always after the answer to the command
        assert _run(client, "kill -TERM $$")[0] == -1  # Paramiko's client reports exit-signal so


def test_a_pty_is_a_terminal_of_the_requested_size(client: paramiko.Transport) -> None:
    with client.open_session() as channel:
        channel.get_pty("dumb", width=91, height=17)
        channel.exec_command("tty && stty size && echo $TERM && echo err >&2 && exec 3<>/dev/tty && read x && echo got $x")
        channel.sendall(b"word\n")
        out = channel.makefile("r").read().decode()
        assert channel.recv_exit_status() == 0
    assert "/dev/pts/" in out and "17 91\r\n" in out and "dumb\r\nerr\r\n" in out and out.endswith("got word\r\n")


def test_several_channels_and_connections_work_at_once(server: DemoServer, client: paramiko.Transport) -> None:
    other = _transport(server)
    other.auth_password("anyone", PASSWORD)
    start = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: _run((client, other)[n % 2], f"sleep 0.5; echo {n}"), range(8)))
    other.close()
    other.join(5)
    assert [out for _, out, _ in results] == [b"%d\n" % n for n in range(8)]
    assert time.monotonic() - start < 3
    assert (server.connections, server.sessions) == (2, 8)


@pytest.mark.parametrize("how", ["channel", "connection"])
def test_processes_that_a_client_leaves_running_are_killed(server: DemoServer, how: str) -> None:
    client = _transport(server)
    client.auth_publickey("anyone", server.user_key)
    channel = client.open_session()
    channel.exec_command("echo $$; trap '' HUP TERM PIPE; sleep 60; sleep 60")
    pid = int(channel.recv(100))
    assert processes.is_alive(pid)
    (channel if how == "channel" else client).close()
    assert not processes.wait_gone(pid, timeout=5)
    client.close()
    client.join(5)


def test_other_users_and_keys_are_refused(server: DemoServer) -> None:
    client = _transport(server)
    with pytest.raises(paramiko.AuthenticationException):
        client.auth_publickey("anyone", paramiko.ECDSAKey.generate())
    with pytest.raises(paramiko.AuthenticationException):
        client.auth_password("anyone", "wrong")
    client.close()
    client.join(5)


def test_data_that_is_not_ssh_affects_no_other_client(server: DemoServer, client: paramiko.Transport) -> None:
    import socket

    with socket.create_connection((server.address, server.port)) as link:
        link.sendall(b"GET / HTTP/1.0\r\n\r\n" * 200)
    assert _run(client, "echo fine")[1] == b"fine\n"


def test_files_are_copied_in_both_directions(client: paramiko.Transport, tmp_path: Path) -> None:
    sftp = paramiko.SFTPClient.from_transport(client)
    assert sftp is not None
    with sftp:
        source = tmp_path / "source"
        source.write_bytes(os.urandom(300_000))
        remote = str(tmp_path / "there")
        sftp.put(str(source), remote)
        sftp.chmod(remote, 0o640)
        sftp.get(remote, str(tmp_path / "back"))
        assert (tmp_path / "back").read_bytes() == source.read_bytes()
        assert stat.S_IMODE(os.stat(remote).st_mode) == 0o640 and sftp.stat(remote).st_size == 300_000
        with pytest.raises(OSError):
            sftp.rename(remote, str(source))
        sftp.posix_rename(remote, str(source))
        sftp.mkdir(str(tmp_path / "folder"))
        sftp.symlink("nowhere", str(tmp_path / "link"))
        assert sftp.readlink(str(tmp_path / "link")) == "nowhere"
        assert sorted(sftp.listdir(str(tmp_path))) == ["back", "folder", "link", "source"]
        sftp.rmdir(str(tmp_path / "folder"))
        with pytest.raises(FileNotFoundError):
            sftp.stat(str(tmp_path / "folder"))


@pytest.mark.needs_program("ssh")
def test_the_client_of_openssh_works(server: DemoServer, client_key: KeyFile) -> None:
    args = ["ssh", "-F", "none", "-i", str(client_key), "-p", str(server.port), "-o", "StrictHostKeyChecking=no"]
    args += ["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", server.address, "cat; exit 3"]
    done = subprocess.run(args, input=b"\0\xff" * 50_000, capture_output=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"\0\xff" * 50_000, b"")
