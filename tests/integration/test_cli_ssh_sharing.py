"""One connection for several ``pmitogen ssh`` (ControlMaster, ControlPersist, -O) and ``-f``, beside OpenSSH's client."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_cli_ssh import BINARY, OURS, ssh
from tests.support.accounts import Account
from tests.support.processes import wait_until
from tests.support.sshd import Sshd, free_port

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]
AUTO = ("-o", "ControlMaster=auto", "-o", "ControlPersist=30")


class Shared:
    """A server, an account there, and a path for the control socket."""

    def __init__(self, sshd: Sshd, account: Account, path: Path) -> None:
        self.sshd = sshd
        self.path = path
        self.mark = sshd.mark()
        self.host = (*sshd.ssh_args(), "-o", f"ControlPath={path}", f"{account.name}@{sshd.host}")

    def run(self, *argv: str, stdin: bytes = b"", program: tuple[str, ...] = OURS) -> subprocess.CompletedProcess[bytes]:
        *options, command = argv
        return ssh(*options, *self.host, command, stdin=stdin, program=program)

    def control(self, order: str, program: tuple[str, ...] = OURS) -> tuple[int, str]:
        done = ssh("-O", order, *self.host, program=program)
        return done.returncode, done.stderr.decode()

    @property
    def logins(self) -> int:
        return self.sshd.connections(self.mark)


@pytest.fixture
def shared(sshd: Sshd, account: Account, short_path: Path) -> Iterator[Shared]:
    made = Shared(sshd, account, short_path / "cm")
    yield made
    made.control("exit")


def test_later_commands_share_the_connection(shared: Shared, account: Account) -> None:
    absent = (255, f"Control socket connect({shared.path}): No such file or directory\n")
    assert shared.control("check") == absent
    first = shared.run(*AUTO, "echo out; echo err >&2; exit 3")
    assert (first.returncode, first.stdout, first.stderr) == (3, b"out\n", b"err\n")
    status, text = shared.control("check")
    pid = re.fullmatch(r"Master running \(pid=(\d+)\)\r\n", text)
    assert status == 0 and pid and shared.path.stat().st_mode & 0o777 == 0o600
    lines = set(re.findall(r"^debug(\d): ", shared.run("-vvv", "true").stderr.decode(), re.M))
    assert lines == {"1", "2", "3"}, "debug lines of each level, which Ansible's tests search for, also with a shared connection"
    done = shared.run("cat; exit 4", stdin=BINARY)
    assert (done.returncode, done.stdout) == (4, BINARY)
    assert shared.run("kill -9 $$").returncode == 255
    with subprocess.Popen([*OURS, *shared.host, "yes"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as client:
        assert client.stdout is not None and client.stdout.read(2) == b"y\n"
        client.kill()
    assert shared.logins == 1
    assert shared.run("-o", "Compression=yes", "echo own").stdout == b"own\n" and shared.logins == 2, "with other options"
    assert shared.run("-S", "none", "echo own").stdout == b"own\n" and shared.logins == 3
    assert shared.control("exit") == (0, "Exit request sent.\r\n")
    wait_until(lambda: not shared.path.exists() and not Path(f"/proc/{pid[1]}").exists())
    assert shared.control("check") == absent


@pytest.mark.parametrize("program", [OURS, pytest.param(("ssh",), marks=pytest.mark.needs_program("ssh"))])
def test_a_session_that_needs_the_connection_of_a_master(shared: Shared, program: tuple[str, ...]) -> None:
    """-O proxy: with other options too, and never on another connection."""
    done = shared.run("-O", "proxy", "true")
    assert (done.returncode, done.stdout) == (255, b"") and b"No such file or directory" in done.stderr
    shared.run(*AUTO, "true", program=program)
    done = shared.run("-O", "proxy", "-o", "Compression=yes", "cat; echo err >&2; exit 5", stdin=BINARY)
    assert (done.returncode, done.stdout, done.stderr) == (5, BINARY, b"err\n")
    assert shared.logins == 1
    done = ssh("-N", "-O", "proxy", *shared.host)
    assert done.returncode == 255 and b"cannot be combined with -N" in done.stderr


@pytest.mark.parametrize("program", [OURS, pytest.param(("ssh",), marks=pytest.mark.needs_program("ssh"))])
def test_scp_and_sftp_use_the_connection(shared: Shared, account: Account, tmp_path: Path, program: tuple[str, ...]) -> None:
    """With a master they need no login, and they never become a master."""
    *options, destination = shared.host
    options[options.index("-p")] = "-P"
    (tmp_path / "file").write_bytes(BINARY)
    (tmp_path / "batch").write_text(f"get there {tmp_path}/back\n")
    copy = (*OURS[:-1], "cp", *options, *AUTO, tmp_path / "file", f"{destination}:there")
    subprocess.run(copy, check=True, timeout=60)
    assert shared.logins == 1 and not shared.path.exists()
    shared.run(*AUTO, "true", program=program)
    assert shared.logins == 2
    subprocess.run(copy, check=True, timeout=60)
    fetch = (*OURS[:-1], "sftp", *options, *AUTO, "-b", tmp_path / "batch", destination)
    subprocess.run(fetch, check=True, timeout=60, stdout=subprocess.DEVNULL)
    assert (tmp_path / "back").read_bytes() == (account.home / "there").read_bytes() == BINARY
    assert shared.logins == 2
    done = subprocess.run((*copy[:-2], f"{destination}:absent/file", tmp_path), capture_output=True, timeout=60)
    assert done.returncode == 1 and b"No such file" in done.stderr and shared.logins == 2
    subprocess.run((*copy[:4], "-o", "ControlPath=none", *copy[4:]), check=True, timeout=60)
    assert shared.logins == 3


@pytest.mark.parametrize("program", [OURS, pytest.param(("ssh",), marks=pytest.mark.needs_program("ssh"))])
def test_quiet_orders_print_nothing(shared: Shared, program: tuple[str, ...]) -> None:
    for order in ("stop", "exit"):
        shared.run(*AUTO, "true")
        done = ssh("-q", "-O", order, *shared.host, program=program)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        wait_until(lambda: not shared.path.exists())


@pytest.mark.parametrize("program", [OURS, pytest.param(("ssh",), marks=pytest.mark.needs_program("ssh"))])
def test_a_stopped_master_without_a_command_ends_with_its_last_client(shared: Shared, program: tuple[str, ...]) -> None:
    with subprocess.Popen([*program, "-N", "-M", *shared.host], stdin=subprocess.DEVNULL) as master:
        wait_until(shared.path.exists)
        with subprocess.Popen([*OURS, *shared.host, "echo in; read x"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
            assert client.stdout is not None and client.stdout.readline() == b"in\n"
            assert shared.control("stop")[0] == 0
            time.sleep(0.3)
            assert master.poll() is None and not shared.path.exists()
        assert master.wait(10) == 255


def test_a_killed_client_with_a_full_output_pipe_ends_its_session(shared: Shared, account: Account) -> None:
    """The session and the master end while the client's output pipe is still open and full."""
    shared.run(*AUTO, "true")
    _, text = shared.control("check")
    master = Path(f"/proc/{re.findall(r'[0-9]+', text)[0]}")
    with subprocess.Popen([*OURS, *shared.host, "yes"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as client:
        assert client.stdout is not None
        pipe = client.stdout.fileno()
        wait_until(lambda: _bytes_in(pipe) > 60_000)
        client.kill()
        client.wait(20)
        wait_until(lambda: not any(process.command.startswith("yes") for process in account.processes()))
        assert shared.control("stop")[0] == 0
        wait_until(lambda: not master.exists())


def test_the_master_ends_after_its_last_client(shared: Shared) -> None:
    shared.run("-o", "ControlMaster=auto", "-o", "ControlPersist=5", "true")
    assert shared.control("check")[0] == 0
    wait_until(lambda: not shared.path.exists(), 20)
    shared.run(*AUTO, "true")
    with subprocess.Popen([*OURS, *shared.host, "cat"], stdout=subprocess.PIPE, stdin=subprocess.PIPE) as client:
        assert client.stdin is not None and client.stdout is not None
        client.stdin.write(b"x\n")
        client.stdin.flush()
        assert client.stdout.readline() == b"x\n"
        assert shared.control("stop") == (0, "Stop listening request sent.\r\n") and not shared.path.exists()
        client.stdin.close()
        assert client.wait(20) == 0


@pytest.mark.needs_program("ssh")
def test_master_and_client_work_with_those_of_openssh(shared: Shared) -> None:
    shared.run(*AUTO, "true")
    done = shared.run("cat; exit 5", stdin=BINARY, program=("ssh",))
    assert (done.returncode, done.stdout) == (5, BINARY)
    assert shared.control("check", ("ssh",))[0] == 0 and shared.control("exit", ("ssh",))[0] == 0
    wait_until(lambda: not shared.path.exists())
    shared.run(*AUTO, "true", program=("ssh",))
    done = shared.run("cat; exit 6", stdin=BINARY)
    assert (done.returncode, done.stdout) == (6, BINARY)
    assert shared.control("check")[0] == 0 and shared.logins == 2


@pytest.mark.needs_program("rsync")
def test_rsync_uses_the_shared_connection(shared: Shared, account: Account, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(BINARY)
    command = " ".join((*OURS, *AUTO, *shared.host[:-1]))
    for target in ("one", "two"):
        subprocess.run(["rsync", "-e", command, tmp_path / "file", f"{shared.host[-1]}:{target}"], check=True, timeout=60)
        assert (account.home / target).read_bytes() == BINARY
        (account.home / target).unlink()
    assert shared.logins == 1


BOTH = [(OURS, OURS), pytest.param(OURS, ("ssh",), marks=pytest.mark.slow), pytest.param(("ssh",), OURS, marks=pytest.mark.slow)]


@pytest.mark.parametrize(("master", "client"), BOTH)
def test_a_master_opens_and_closes_forwardings(shared: Shared, master: tuple[str, ...], client: tuple[str, ...]) -> None:
    shared.run(*AUTO, "true", program=master)
    target = f"{shared.sshd.host}:{shared.sshd.port}"

    def order(name: str, *forward: str) -> tuple[int, str, str]:
        done = ssh("-O", name, *forward, *shared.host, program=client)
        return done.returncode, done.stdout.decode().strip(), done.stderr.decode()

    def banner(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), 10) as sock:
            return sock.recv(8)

    local = ("-L", f"{free_port(['127.0.0.1'])}:{target}")
    port = int(local[1].partition(":")[0])
    assert order("forward", *local)[:2] == order("forward", *local)[:2] == (0, "")
    assert banner(port) == b"SSH-2.0-"
    with socket.create_connection(("127.0.0.1", port), 10) as opened:
        assert opened.recv(8) == b"SSH-2.0-" and order("cancel", *local)[0] == 0
        opened.sendall(b"SSH-2.0-test\r\n")  # connections that are open go on
        received = b""
        while b"curve25519" not in received:
            piece = opened.recv(4096)
            assert piece
            received += piece
    with pytest.raises(ConnectionRefusedError):
        banner(port)
    status, _, text = order("cancel", *local)
    assert status == 0 and "port not forwarded" in text
    status, chosen, _ = order("forward", "-R", f"0:{target}")
    assert status == 0 and banner(int(chosen)) == b"SSH-2.0-"
    dynamic = ("-D", str(port))
    assert order("forward", *dynamic)[0] == 0 and socks(port, "127.0.0.1", shared.sshd.port)
    assert order("cancel", *dynamic)[0] == 0
    status, _, text = order("forward", "-L", f"{shared.sshd.port}:{target}")
    assert status == 255 and "forwarding request failed" in text
    assert shared.run("echo on", program=client).stdout == b"on\n" and len(shared.sshd.accepted(shared.mark)) == 1


def socks(port: int, host: str, target: int) -> bool:
    """Return whether the SOCKS server on *port* connects to *host*."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.sendall(b"\5\1\0")
        assert sock.recv(2) == b"\5\0"
        sock.sendall(b"\5\1\0\3" + bytes([len(host)]) + host.encode() + target.to_bytes(2, "big"))
        return sock.recv(2) == b"\5\0"


def test_permitremoteopen_limits_a_dynamic_remote_forwarding(shared: Shared) -> None:
    """-R PORT lets programs on the server choose local addresses; PermitRemoteOpen limits these."""
    port, target = free_port(["127.0.0.1"]), shared.sshd.port
    permitted = {f"127.0.0.1:{target} x:1": True, f"*:{target}": True, "127.0.0.1:*": True, "any": True}
    refused = {"none": False, "127.0.0.1:1": False, f"localhost:{target}": False}
    for text, expected in {**permitted, **refused}.items():
        command = [*OURS, "-N", "-R", f"127.0.0.1:{port}", "-o", f"PermitRemoteOpen={text}", *shared.host]
        with subprocess.Popen(command) as client:
            wait_until(lambda: _listens(port), 20)
            assert socks(port, "127.0.0.1", target) is expected, text
            client.terminate()
        wait_until(lambda: not _listens(port), 20)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_another_users_socket_is_not_used(shared: Shared, account: Account) -> None:
    code = "import socket,sys,time; s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print(flush=True)"
    code += "; time.sleep(60)"
    shared.path.parent.chmod(0o777)
    command = ["/usr/bin/python3", "-c", code, str(shared.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, user=account.uid, cwd="/") as planted:
        assert planted.stdout is not None and planted.stdout.readline() == b"\n"
        done = shared.run("echo own")
        planted.kill()
    assert done.stdout == b"own\n" and b"another user" in done.stderr and shared.logins == 1
    shared.path.unlink()


def test_f_puts_the_command_into_the_background(shared: Shared, account: Account) -> None:
    begun = time.monotonic()
    flag = account.home / "flag"
    done = subprocess.run([*OURS, "-f", *shared.host, f"sleep 3; touch {flag}"], stdout=subprocess.DEVNULL, timeout=60)
    assert done.returncode == 0 and time.monotonic() - begun < 10
    wait_until(flag.exists)
    flag.unlink()
    assert shared.run("-f", "-p", "1", "true").returncode == 255
    done = ssh("-f", *shared.host)
    assert (done.returncode, done.stderr) == (255, b"Cannot fork into background without a command to execute.\n")


def test_f_and_n_put_a_tunnel_into_the_background(shared: Shared, tmp_path: Path) -> None:
    local = tmp_path / "socket"
    forward = f"{local}:{shared.sshd.host}:{shared.sshd.port}"
    done = subprocess.run([*OURS, "-fN", "-L", forward, *shared.host], timeout=60)
    assert done.returncode == 0 and local.exists()
    found = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(local).encode() in _read(path)]
    for path in found:
        os.kill(int(path.parent.name), signal.SIGTERM)
    assert len(found) == 1
    wait_until(lambda: not found[0].exists())


def _bytes_in(pipe: int) -> int:
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def _read(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""
