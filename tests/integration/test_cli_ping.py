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


def ping(*args: str) -> subprocess.CompletedProcess[str]:
    """Run ``pmitogen ping`` as a separate process without a terminal."""
    command = [sys.executable, "-m", "pmitogen", "ping", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


def test_ping_prints_the_facts_of_a_host(sshd: Sshd, account: Account) -> None:
    mark = sshd.mark()
    done = ping(*sshd.ssh_args(), f"{account.name}@{sshd.host}")
    assert (done.returncode, done.stderr) == (0, "")
    lines = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert list(lines) == ["connection", "stages", "other", "total", "python", "bytes", "round trip", "ok"]
    names = [word for word in re.split(r"[ ,]+", lines["stages"]) if word.isalpha() and word not in ("s", "ms")]
    assert names == ["load", "config", "resolve", "tcp", "version", "kex", "auth", "channel", "python"]
    stages, other, total = (sum(map(_seconds, lines[name].split(", "))) for name in ("stages", "other", "total"))
    assert stages + other == pytest.approx(total, abs=0.02), lines
    assert lines["ok"].endswith(f" after {lines['total']}")
    assert re.match(r"\d\.\d+\.\d+, /\S+, as " + account.name + " in " + str(account.home), lines["python"])
    assert "SSH-2.0-OpenSSH" in lines["connection"]
    assert re.match(r"[\d.]+ ms \(", lines["round trip"])
    assert (sshd.connections(mark), sshd.sessions(mark)) == (1, 1)


def _seconds(text: str) -> float:
    """Return the duration in a text such as ``kex 10.2 ms``."""
    found = re.search(r"([\d.]+) (s|ms)\b", text)
    assert found, text
    return float(found[1]) / (1000 if found[2] == "ms" else 1)


def test_options_may_follow_the_host(sshd: Sshd, account: Account) -> None:
    done = ping(sshd.host, *sshd.ssh_args(), "-vl", account.name)
    assert done.returncode == 0, done.stderr


def test_a_refused_login_is_reported_in_one_line(sshd: Sshd) -> None:
    done = ping(*sshd.ssh_args(), f"nobody-of-that-name@{sshd.host}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("pmitogen ping: ") and "authentication failed" in done.stderr


def at_a_terminal(typed: list[tuple[bytes, str]], *args: str) -> tuple[int, str]:
    """Run the command on a terminal with these (prompt, input) pairs. Return its exit status and the text on the terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "pmitogen", "ping", *args])
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
def test_ping_prompts_on_a_terminal(sshd: Sshd, account: Account, tmp_path: Path) -> None:
    args = (f"UserKnownHostsFile={tmp_path / 'known'}", "GlobalKnownHostsFile=none", "IdentityFile=none")
    options = ["-F", "/dev/null", "-p", str(sshd.port), *(each for word in args for each in ("-o", word))]
    target = f"{account.name}@{sshd.host}"
    code, seen = at_a_terminal([(b"(yes/no)", "yes"), (b"assword:", str(account.password))], *options, target)
    assert code == 0 and "ok: " in seen and str(account.password) not in seen, seen
    code, seen = at_a_terminal([(b"assword:", "")], *options, target)
    assert code == 1 and "authentication failed" in seen, seen


def test_a_host_without_python_is_reported(make_sshd: Any, account: Account) -> None:
    server = make_sshd(config=["ForceCommand echo no; exit 1"])
    done = ping(*server.ssh_args(), f"{account.name}@{server.host}")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "did not start Python" in done.stderr, done


def test_a_closed_port_is_reported_in_one_line() -> None:
    done = ping("-p", "1", "-o", "ConnectTimeout=3", "127.0.0.1")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "port 1" in done.stderr


def test_an_unsupported_option_is_refused_in_one_line() -> None:
    done = ping("-w", "0:0", "127.0.0.1")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("pmitogen ping: command line: -w: ")


@pytest.mark.parametrize("args", [[], ["-p", "22"], ["host", "uptime"], ["-p", "22", "--", "host", "-v"]])
def test_wrong_arguments_are_refused(args: list[str]) -> None:
    done = ping(*args)
    assert done.returncode == 2 and "pmitogen ping [SSH OPTIONS] HOST" in done.stderr


def test_ping_prints_json(sshd: Sshd, account: Account) -> None:
    done = ping("--json", *sshd.ssh_args(), f"{account.name}@{sshd.host}")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["ok"] and found["user"] == account.name and found["round_trip"]["count"] == 10
    assert (found["host"], found["hostname"], found["port"], found["error"]) == (sshd.host, sshd.host, sshd.port, None)
    assert {"tcp", "version", "kex", "auth", "channel", "python", "other"} <= set(found["stages"])
    assert sum(found["stages"].values()) == pytest.approx(found["seconds"])


def test_an_error_is_printed_as_json() -> None:
    done = ping("--json", "-p", "1", "-J", "nonexistent.invalid", "127.0.0.1")
    found = json.loads(done.stdout)
    assert (done.returncode, found["ok"], found["host"]) == (1, False, "127.0.0.1")
    assert found["error"]["message"] == done.stderr.removeprefix("pmitogen ping: ").rstrip("\n")
    assert found["error"]["kind"] == "connect" and found["error"]["stage"] == "resolve"
    assert found["error"]["jump_host"].endswith("@nonexistent.invalid port 22")
    assert ping("--json", "-z", "127.0.0.1").stdout == "", "no JSON for a wrong command line"


def test_missing_identity_files_are_reported_as_by_ssh(sshd: Sshd, account: Account, tmp_path: Path) -> None:
    """The lines of ssh appear on stderr, and the login continues."""
    done = ping("-i", f"{tmp_path}/none", "-o", f"IdentityFile={tmp_path}/gone", *sshd.ssh_args(), f"{account.name}@{sshd.host}")
    lines = done.stderr.splitlines()
    assert done.returncode == 0 and lines == [
        f"Warning: Identity file {tmp_path}/none not accessible: No such file or directory.",
        f"no such identity: {tmp_path}/gone: No such file or directory",
    ]


def test_v_logs_the_steps(sshd: Sshd, account: Account) -> None:
    done = ping("-v", *sshd.ssh_args(), f"{account.name}@{sshd.host}")
    assert done.returncode == 0 and " ping[" in done.stderr and "Traceback" not in done.stderr
    assert ping("-vv", *sshd.ssh_args(), f"{account.name}@{sshd.host}").stderr.count("\n") > done.stderr.count("\n")
