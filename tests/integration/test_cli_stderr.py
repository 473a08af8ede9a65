"""The commands work where a standard stream is closed, or standard error cannot be written."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.accounts import Account
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "<&- 2>&-"])
def test_a_command_runs_and_its_notices_are_lost(redirection: str, sshd: Sshd, account: Account) -> None:
    command = [
        sys.executable,
        "-m",
        "pmitogen",
        "ssh",
        "-i",
        "/nonexistent",
        *sshd.ssh_args(),
        f"{account.name}@{sshd.host}",
        "echo ok",
    ]
    shell = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command]
    done = subprocess.run(shell, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stdout) == (0, b"ok\n")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_an_error_keeps_its_status(redirection: str) -> None:
    command = [sys.executable, "-m", "pmitogen", "ssh", "-p", "1", "127.0.0.1", "true"]
    done = subprocess.run(["sh", "-c", f'exec "$@" {redirection}', "sh", *command], stdin=subprocess.DEVNULL, timeout=60)
    assert done.returncode == 255


@pytest.mark.parametrize("redirection", [">&-", "<&- >&-", "<&- >&- 2>&-"])
def test_a_command_runs_without_standard_output(redirection: str, sshd: Sshd, account: Account) -> None:
    command = [sys.executable, "-m", "pmitogen", "ssh", *sshd.ssh_args(), f"{account.name}@{sshd.host}", "echo lost; exit 7"]
    shell = ["sh", "-c", f'exec "$@" {redirection}', "sh", *command]
    done = subprocess.run(shell, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (7, b"")


def test_a_text_is_lost_without_standard_output() -> None:
    shell = 'exec "$@" >&-'
    done = subprocess.run(
        ["sh", "-c", shell, "sh", sys.executable, "-m", "pmitogen", "version"], stderr=subprocess.PIPE, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
