"""``pmitogen ping`` against a real sshd."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import Account
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]


def ping(*words: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own, without a terminal."""
    command = [sys.executable, "-m", "pmitogen", "ping", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


def test_a_usable_host(sshd: Sshd, account: Account) -> None:
    mark = sshd.mark()
    done = ping(*sshd.ssh_args(), f"{account.name}@{sshd.host}")
    assert (done.returncode, done.stderr) == (0, "")
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert list(lines) == ["connection", "stages", "python", "bytes", "round trip", "ok"]
    assert re.search(r"\btcp \d.*\bkex \d.*\bauth \d.*\bpython \d", lines["stages"])
    assert re.match(r"\d\.\d+\.\d+, /\S+, as " + account.name + " in " + str(account.home), lines["python"])
    assert "SSH-2.0-OpenSSH" in lines["connection"]
    assert re.match(r"[\d.]+ ms \(", lines["round trip"])
    assert (sshd.connections(mark), sshd.sessions(mark)) == (1, 1)


def test_options_may_follow_the_host(sshd: Sshd, account: Account) -> None:
    done = ping(sshd.host, *sshd.ssh_args(), "-vl", account.name)
    assert done.returncode == 0, done.stderr


def test_a_refused_login_is_one_line(sshd: Sshd) -> None:
    done = ping(*sshd.ssh_args(), f"nobody-of-that-name@{sshd.host}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("pmitogen ping: ") and "authentication failed" in done.stderr


def at_a_terminal(typed: list[tuple[bytes, str]], *words: str) -> tuple[int, str]:
    """The command at a terminal: what is typed at which prompt. Returns its exit code and what stood on the terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "pmitogen", "ping", *words])
    seen = b""
    try:
        while True:
            try:
                seen += os.read(terminal, 4096)
            except OSError:
                break
            if typed and typed[0][0] in seen:
                os.write(terminal, typed.pop(0)[1].encode() + b"\n")
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen.decode()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_at_a_terminal_it_asks(sshd: Sshd, account: Account, tmp_path: Path) -> None:
    words = (f"UserKnownHostsFile={tmp_path / 'known'}", "GlobalKnownHostsFile=none", "IdentityFile=none")
    options = ["-F", "/dev/null", "-p", str(sshd.port), *(each for word in words for each in ("-o", word))]
    target = f"{account.name}@{sshd.host}"
    code, seen = at_a_terminal([(b"(yes/no)", "yes"), (b"assword:", str(account.password))], *options, target)
    assert code == 0 and "ok: " in seen and str(account.password) not in seen, seen
    code, seen = at_a_terminal([(b"assword:", "")], *options, target)
    assert code == 1 and "authentication failed" in seen, seen


def test_a_host_without_python(make_sshd: Any, account: Account) -> None:
    server = make_sshd(config=["ForceCommand echo no; exit 1"])
    done = ping(*server.ssh_args(), f"{account.name}@{server.host}")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "did not start Python" in done.stderr, done


def test_a_closed_port_is_one_line() -> None:
    done = ping("-p", "1", "-o", "ConnectTimeout=3", "127.0.0.1")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "port 1" in done.stderr


def test_an_option_that_cannot_be_honoured_is_one_line() -> None:
    done = ping("-L", "1:h:2", "127.0.0.1")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("pmitogen ping: command line: -L: ")


@pytest.mark.parametrize("words", [[], ["-p", "22"], ["host", "uptime"], ["-p", "22", "--", "host", "-v"]])
def test_wrong_words(words: list[str]) -> None:
    done = ping(*words)
    assert done.returncode == 2 and "pmitogen ping [SSH OPTIONS] HOST" in done.stderr


def test_as_json(sshd: Sshd, account: Account) -> None:
    done = ping("--json", *sshd.ssh_args(), f"{account.name}@{sshd.host}")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["ok"] and found["user"] == account.name and found["round_trip"]["count"] == 10
    assert {"tcp", "kex", "auth", "python"} <= set(found["stages"]) and found["seconds"] > 0


def test_v_logs_the_steps(sshd: Sshd, account: Account) -> None:
    done = ping("-v", *sshd.ssh_args(), f"{account.name}@{sshd.host}")
    assert done.returncode == 0 and " ping[" in done.stderr and "Traceback" not in done.stderr
    assert ping("-vv", *sshd.ssh_args(), f"{account.name}@{sshd.host}").stderr.count("\n") > done.stderr.count("\n")
