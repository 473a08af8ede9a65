"""``pmitogen ssh`` against a real sshd, beside OpenSSH's client: the same bytes, and the same exit status."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.accounts import Account
from tests.support.keys import KeyFile
from tests.support.processes import wait_until
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]
OURS = (sys.executable, "-m", "pmitogen", "ssh")
BINARY = bytes(range(256)) * 4096  # 1 MiB


def ssh(*argv: str, stdin: bytes = b"", program: tuple[str, ...] = OURS) -> subprocess.CompletedProcess[bytes]:
    """Run the client without a terminal."""
    return subprocess.run([*program, *argv], input=stdin, capture_output=True, timeout=60, start_new_session=True)


@pytest.fixture
def host(sshd: Sshd, account: Account) -> tuple[str, ...]:
    """Return options and destination."""
    return (*sshd.ssh_args(), f"{account.name}@{sshd.host}")


@pytest.mark.parametrize(
    ("command", "stdin"),
    [
        ("printf out; printf err >&2; exit 3", b""),
        ("cat", BINARY),
        ("cat >&2", BINARY),
        ("kill -9 $$", b""),
        ("exec >&- 2>&-; sleep 1; exit 4", b""),
        ("head -c 3", BINARY * 16),
        ("wc -c", b""),
        ("echo \"a  b\" 'c'", b""),
        ("", b"echo from stdin; exit 7\n"),
    ],
)
@pytest.mark.needs_program("ssh")
def test_same_bytes_and_status_as_openssh(host: tuple[str, ...], command: str, stdin: bytes) -> None:
    ours, theirs = (ssh(*host, *([command] if command else []), stdin=stdin, program=each) for each in (OURS, ("ssh",)))
    assert (ours.returncode, ours.stdout) == (theirs.returncode, theirs.stdout)
    assert ours.stderr.replace(b"\r", b"") == theirs.stderr.replace(b"\r", b"")


@pytest.mark.parametrize(
    "argv",
    [("-z",), ("-p",), (), ("-N", "host", "true"), ("-s", "host"), ("-Q", "nonsense"), ("-o", "Nonsense=1", "host", "true")],
)
@pytest.mark.needs_program("ssh")
def test_wrong_usage_ends_as_with_openssh(argv: tuple[str, ...]) -> None:
    ours, theirs = (ssh(*argv, program=each) for each in (OURS, ("ssh",)))
    assert (ours.returncode, ours.stdout) == (theirs.returncode, b"")
    assert ours.stderr and b"Traceback" not in ours.stderr


def test_an_unknown_flag_is_named_as_by_getopt() -> None:
    lines = ssh("-z", "host").stderr.decode().splitlines()
    assert lines[0] == "unknown option -- z" and lines[1].startswith("usage: ssh ")


def test_v_prints_debug_lines_like_those_of_ssh(host: tuple[str, ...], sshd: Sshd, tmp_path: Path) -> None:
    """-v prints debug lines that programs such as Ansible recognise as ssh's, and does not change the output."""
    levels = {}
    for flags in ((), ("-v",), ("-vv",), ("-vvv",)):
        done = ssh(*flags, *host, "echo out; echo err >&2")
        assert (done.returncode, done.stdout) == (0, b"out\n")
        lines = done.stderr.decode().splitlines()
        levels[flags] = set(re.findall(r"^debug(\d): .", done.stderr.decode(), re.M))
        assert "err" in lines and all(line == "err" or re.match(r"debug\d: ", line) for line in lines)
    assert levels == {(): set(), ("-v",): {"1"}, ("-vv",): {"1", "2"}, ("-vvv",): {"1", "2", "3"}}
    assert f"debug1: Connecting to {sshd.host} port {sshd.port}." in lines
    assert any(re.match(r"debug1: Authentication: publickey .*: accepted", line) for line in lines)
    assert ssh("-v", "-E", str(tmp_path / "log"), *host, "true").stderr == b""


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (("-p", "1"), r"^ssh: connect to host 127\.0\.0\.1 port 1: Connection refused"),
        (
            ("-o", "PubkeyAuthentication=no", "-o", "PasswordAuthentication=no"),
            r"Permission denied \([a-z,-]+\)\.$",
        ),
        (("-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes"), r"^Host key verification failed\.$"),
        (("-o", "RefuseConnection=moved"), r"^ssh: .* port \d+: RefuseConnection: moved$"),
        (("-o", "HostName=nonexistent.invalid"), r"^ssh: Could not resolve hostname nonexistent\.invalid: "),
        (
            ("-J", "nonexistent.invalid"),
            r"jump host 1 of 1: .*nonexistent\.invalid: .*\nConnection closed by UNKNOWN port 65535$",
        ),
    ],
)
def test_failures_contain_the_phrases_that_other_programs_search_for(
    host: tuple[str, ...], options: tuple[str, ...], phrase: str
) -> None:
    done = ssh(*options, *host, "true")
    assert done.returncode == 255 and re.search(phrase, done.stderr.decode(), re.MULTILINE), done.stderr
    assert not ssh("-q", *options, *host, "true").stderr


@pytest.mark.parametrize(("text", "count"), [(b"", 1), (b"Exceeded MaxStartups\r\n", 2)])
def test_a_server_that_closes_the_connection_at_once(text: bytes, count: int) -> None:
    """As with ssh there is one attempt, except where the server says that it has too many logins for the moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        argv = ("-F", "none", "-p", str(server.getsockname()[1]), "127.0.0.1", "true")
        with subprocess.Popen([*OURS, *argv], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as client:
            server.settimeout(20)
            for _ in range(count):
                connection, _ = server.accept()
                connection.sendall(text)
                connection.close()
            if count > 1:
                client.kill()
            assert client.stderr is not None
            lines = client.stderr.read().splitlines()
    if count == 1:
        assert client.returncode == 255 and "closed the connection before the key exchange; check MaxStartups" in lines[0]
        assert lines[1].startswith("Connection closed by 127.0.0.1 port ")


@pytest.mark.needs_program("ssh")
@pytest.mark.parametrize("lines", [0, 1, 2_000])
def test_the_whole_banner_is_printed(make_sshd: Callable[..., Sshd], account: Account, short_path: Path, lines: int) -> None:
    """Before the login, whether it succeeds or not; on standard error, with -E as well. Not with -q."""
    text = b"  Unauthorised  use\tis prohibited.\n\n" * lines
    (short_path / "banner").write_bytes(text)
    server = make_sshd(config=[f"Banner {short_path}/banner"])
    host = (*server.ssh_args(), f"{account.name}@{server.host}")
    log = ("-E", str(short_path / "log"))
    for options in ((), log, (*log, "-v")):
        ours, theirs = (ssh(*options, *host, "true", program=each) for each in (OURS, ("ssh",)))
        assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr) == (0, text)
    refused = ssh("-o", "PubkeyAuthentication=no", "-o", "BatchMode=yes", *host, "true")
    assert refused.returncode == 255 and refused.stderr.startswith(text)
    assert ssh("-q", *host, "true").stderr == b""


def test_a_banner_cannot_control_the_terminal(make_sshd: Callable[..., Sshd], account: Account, short_path: Path) -> None:
    (short_path / "banner").write_bytes(b"one\x1b[2J\r\n\xe2\x80\xaetwo\xff")
    server = make_sshd(config=[f"Banner {short_path}/banner"])
    done = ssh(*server.ssh_args(), f"{account.name}@{server.host}", "true")
    assert done.stderr == b"one\\033[2J\n\\u202etwo\\377\n"


@pytest.mark.needs_program("ssh")
def test_missing_identity_files_are_reported_as_by_ssh(host: tuple[str, ...], tmp_path: Path) -> None:
    options = ("-i", f"{tmp_path}/none", "-o", f"IdentityFile={tmp_path}/gone")
    ours, theirs = (ssh(*options, *host, "true", program=each) for each in (OURS, ("ssh",)))
    expected = [
        f"Warning: Identity file {tmp_path}/none not accessible: No such file or directory.",
        f"no such identity: {tmp_path}/gone: No such file or directory",
    ]
    for done in (ours, theirs):
        assert done.returncode == 0 and done.stderr.decode().splitlines() == expected
    assert ssh("-q", *options, *host, "true").stderr.decode().splitlines() == expected[:1]


@pytest.mark.needs_program("ssh")
def test_warnings_about_the_host_key_are_those_of_openssh(
    sshd: Sshd, account: Account, short_path: Path, make_key: Callable[..., KeyFile]
) -> None:
    """A LogLevel that hides the line about a new key must not hide the warning about a changed one."""
    known, name = short_path / "known", f"[{sshd.host}]:{sshd.port}"

    def warnings(program: tuple[str, ...], lines: str, *options: str) -> str:
        known.write_text(lines)
        first = [f"-o{option}" for option in (*options, f"UserKnownHostsFile={known}", "BatchMode=yes")]
        done = ssh(*first, *sshd.ssh_args(), f"{account.name}@{sshd.host}", "true", program=program)
        assert done.returncode == 0, done.stderr
        return done.stderr.decode().replace("\r", "")

    for options in (
        ("StrictHostKeyChecking=accept-new",),
        ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null"),
        ("StrictHostKeyChecking=no", "CheckHostIP=yes"),
        ("StrictHostKeyChecking=accept-new", "LogLevel=ERROR"),
    ):
        ours, theirs = (warnings(program, "", *options) for program in (OURS, ("ssh",)))
        assert ours == theirs and ("Permanently added" in ours) != ("LogLevel=ERROR" in options), options
    changed = f"{name} {make_key().public}\n"
    for level, is_shown in (("INFO", True), ("ERROR", True), ("QUIET", False)):
        options = ("StrictHostKeyChecking=no", f"LogLevel={level}")
        assert ("HAS CHANGED" in warnings(("ssh",), changed, *options)) == is_shown
        assert ("does not match" in warnings(OURS, changed, *options)) == is_shown


def test_a_lost_connection_ends_with_status_255(
    sshd: Sshd, host: tuple[str, ...], make_sshd: Callable[..., Sshd], account: Account
) -> None:
    server = make_sshd()
    argv = [*OURS, *server.ssh_args(), f"{account.name}@{server.host}", "echo up; sleep 60"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as client:
        assert client.stdout is not None and client.stderr is not None and client.stdout.readline() == b"up\n"
        server.kill_sessions()
        assert client.wait(20) == 255
        assert b"closed by remote host." in client.stderr.read()


def test_a_closed_output_pipe_ends_the_client_and_the_command(host: tuple[str, ...]) -> None:
    argv = [*OURS, *host, "yes"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL) as client:
        assert client.stdout is not None and client.stdout.read(4) == b"y\ny\n"
        client.stdout.close()
        assert client.wait(20) == 255, "the command on the server is ended, as by SIGPIPE"


def test_a_signal_ends_the_client_and_the_command(host: tuple[str, ...], account: Account) -> None:
    argv = [*OURS, *host, "echo up; exec cat"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as client:
        assert client.stdout is not None and client.stdout.readline() == b"up\n"
        client.send_signal(signal.SIGTERM)
        assert client.wait(20) == 255
    wait_until(lambda: not account.processes())


def test_a_slow_reader_of_output_needs_little_memory(host: tuple[str, ...]) -> None:
    argv = [*OURS, *host, "head -c 200000000 /dev/zero"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as client:
        assert client.stdout is not None and client.stdout.read(1)
        time.sleep(2)
        status = Path(f"/proc/{client.pid}/status").read_text()
        resident = int(re.search(r"VmHWM:\s+(\d+)", status)[1])  # type: ignore[index]
        size = 1 + sum(len(piece) for piece in iter(lambda: client.stdout.read(1 << 20), b""))
        assert client.wait(20) == 0
    assert size == 200000000 and resident < 120_000, f"{resident} KiB"


def test_q_and_g_print_algorithms_and_options(sshd: Sshd, host: tuple[str, ...]) -> None:
    assert re.match(rb"OpenSSH_\d+\.\d+ .*pmitogen ", ssh("-V").stderr)
    assert b"aes128-gcm@openssh.com\n" in ssh("-Q", "cipher").stdout
    lines = ssh("-G", *host).stdout.decode().splitlines()
    assert f"port {sshd.port}" in lines and f"hostname {sshd.host}" in lines
    done = ssh("-O", "check", *host)
    assert (done.returncode, done.stderr) == (255, b'No ControlPath specified for "-O" command\n')
    done = ssh("-O", "proxy", "-W", "localhost:1", "-o", "ControlPath=/nonexistent", *host)
    assert (done.returncode, done.stderr) == (255, b"Cannot specify stdio forward with -O\n")


def test_match_can_test_the_command(sshd: Sshd, account: Account, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(f'Match sessiontype exec command "echo *"\nPort {sshd.port}\nMatch sessiontype shell\nPort 1\n')
    argv = [*sshd.ssh_args()[4:], "-F", str(config), f"{account.name}@{sshd.host}"]
    assert ssh(*argv, "echo up").stdout == b"up\n"
    assert b"port 1\n" in ssh("-G", *argv).stdout and b"port 22\n" in ssh("-G", *argv, "uptime").stdout


@pytest.mark.needs_program("rsync")
def test_rsync_copies_in_both_directions(host: tuple[str, ...], tmp_path: Path, account: Account) -> None:
    source = Path(__file__).parent
    rsync = ["rsync", "-a", "-e", " ".join((*OURS, *host[:-1]))]
    subprocess.run([*rsync, f"{source}/", f"{host[-1]}:copy/"], check=True, timeout=60)
    subprocess.run([*rsync, f"{host[-1]}:copy/", f"{tmp_path}/back/"], check=True, timeout=60)
    subprocess.run(["diff", "-r", str(source), str(tmp_path / "back")], check=True)
    shutil.rmtree(account.home / "copy")


@pytest.mark.needs_program("git")
def test_git_pushes_and_clones(host: tuple[str, ...], tmp_path: Path, account: Account) -> None:
    environment = {**os.environ, "GIT_SSH_COMMAND": " ".join((*OURS, *host[:-1])), "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*argv: str, cwd: Path = tmp_path) -> str:
        settings = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
        done = subprocess.run(["git", *settings, *argv], cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    account.run("git", "init", "-q", "--bare", str(account.home / "r.git"))
    git("init", "-q", "work")
    (tmp_path / "work/file").write_text("text")
    git("add", "file", cwd=tmp_path / "work")
    git("commit", "-qm", "first", cwd=tmp_path / "work")
    git("push", "-q", f"{host[-1]}:r.git", "HEAD:main", cwd=tmp_path / "work")
    git("clone", "-q", "-b", "main", f"{host[-1]}:r.git", "clone")
    assert (tmp_path / "clone/file").read_text() == "text"
    shutil.rmtree(account.home / "r.git")


@pytest.mark.needs_program("scp", "sftp")
@pytest.mark.parametrize("protocol", [(), ("-O",)], ids=["sftp", "scp"])
def test_scp_of_openssh_uses_pmitogen_ssh(
    host: tuple[str, ...], tmp_path: Path, account: Account, protocol: tuple[str, ...]
) -> None:
    shim = tmp_path / "ssh"
    shim.write_text(f'#!/bin/sh\nexec {" ".join(OURS)} "$@"\n')
    shim.chmod(0o755)
    (tmp_path / "file").write_bytes(BINARY)
    options = [word.replace("-p", "-P") if word == "-p" else word for word in host[:-1]]  # scp's -p preserves times
    subprocess.run(["scp", "-q", *protocol, "-S", shim, *options, tmp_path / "file", f"{host[-1]}:file"], check=True, timeout=60)
    assert (account.home / "file").read_bytes() == BINARY
    (account.home / "file").unlink()


# On a terminal --------------------------------------------------------------------------------------------------------------


class AtTerminal:
    """The client on a terminal of its own."""

    def __init__(self, *argv: str) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execv(OURS[0], [*OURS, *argv])
        self.seen = b""

    def expect(self, text: bytes) -> None:
        end = time.monotonic() + 20
        while text not in self.seen:
            assert time.monotonic() < end and select.select([self.terminal], [], [], 20)[0], self.seen
            self.seen += os.read(self.terminal, 4096)
        self.seen = self.seen.partition(text)[2]

    def type(self, text: bytes) -> None:
        os.write(self.terminal, text)

    def finish(self) -> int:
        """Return its exit status; :attr:`seen` has its last output."""
        try:
            while data := os.read(self.terminal, 4096):
                self.seen += data
        except OSError:
            pass
        os.close(self.terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_a_shell_runs_on_a_terminal(host: tuple[str, ...]) -> None:
    client = AtTerminal(*host)
    client.type(b"echo size $(stty size); test -t 0 && echo t''ty\n")
    client.expect(b"size 24 80")
    client.expect(b"tty")
    import fcntl
    import struct
    import termios

    fcntl.ioctl(client.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
    time.sleep(0.3)
    client.type(b"echo size $(stty size)\n")
    client.expect(b"size 50 120")
    client.type(b"sleep 30\n")
    time.sleep(0.3)
    client.type(b"\x03")
    client.type(b"exit 9\n")
    assert client.finish() == 9 and b"Connection to 127.0.0.1 closed." in client.seen


def test_the_escape_character_ends_the_connection(host: tuple[str, ...], account: Account) -> None:
    client = AtTerminal("-t", *host, "echo ready; exec sleep 60")
    client.expect(b"ready")
    client.type(b"\r~?")
    client.expect(b"Supported escape sequences")
    client.type(b"\r~.")
    assert client.finish() == 255
    wait_until(lambda: not account.processes())


def test_ssh_prompts_for_password_and_host_key(sshd: Sshd, make_account: Callable[..., Account], tmp_path: Path) -> None:
    account = make_account(password="s3cret-of-test")  # noqa: S106 - of a temporary account
    options = ["-o", f"UserKnownHostsFile={tmp_path}/known", "-o", "IdentityFile=none", "-p", str(sshd.port), "-F", "none"]
    client = AtTerminal(*options, f"{account.name}@{sshd.host}", "echo in")
    client.expect(b"Are you sure you want to continue connecting (yes/no)? ")
    client.type(b"yes\n")
    client.expect(b"assword: ")
    client.type(b"s3cret-of-test\n")
    client.expect(b"in")
    assert client.finish() == 0 and b"s3cret" not in client.seen


def test_ssh_askpass_answers_prompts(sshd: Sshd, make_account: Callable[..., Account], tmp_path: Path) -> None:
    account = make_account(password="s3cret-of-test")  # noqa: S106 - of a temporary account
    program = tmp_path / "askpass"
    program.write_text(f'#!/bin/sh\necho "$1" >>{tmp_path}/asked\necho s3cret-of-test\n')
    program.chmod(0o755)
    environment = {**os.environ, "SSH_ASKPASS": str(program), "SSH_ASKPASS_REQUIRE": "force"}
    argv = [*OURS, *sshd.ssh_args(), "-o", "PubkeyAuthentication=no", f"{account.name}@{sshd.host}", "echo in"]
    done = subprocess.run(argv, env=environment, capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.stdout == b"in\n", done.stderr
    assert "assword:" in (tmp_path / "asked").read_text()
