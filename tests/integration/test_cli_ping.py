"""``pmitogen ping`` against a real sshd."""

from __future__ import annotations

import re
import subprocess
import sys

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
    assert done.stderr.startswith("pmitogen ping: ") and "login refused" in done.stderr


def test_a_closed_port_is_one_line() -> None:
    done = ping("-p", "1", "-o", "ConnectTimeout=3", "127.0.0.1")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "port 1" in done.stderr


def test_an_option_that_cannot_be_honoured_is_one_line() -> None:
    done = ping("-L", "1:h:2", "127.0.0.1")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "-L" in done.stderr


@pytest.mark.parametrize("words", [[], ["-p", "22"], ["host", "uptime"], ["-p", "22", "--", "host", "-v"]])
def test_wrong_words(words: list[str]) -> None:
    done = ping(*words)
    assert done.returncode == 2 and "pmitogen ping [SSH OPTIONS] HOST" in done.stderr
