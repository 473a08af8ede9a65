"""``pmitogen copy-id`` against a real sshd."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.accounts import Account
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]


def copy_id(*argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``pmitogen copy-id`` without a terminal and an agent."""
    values = {**os.environ, **environment}
    values.pop("SSH_AUTH_SOCK", None)
    command = [sys.executable, "-m", "pmitogen", "copy-id", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, env=values)


@pytest.mark.needs_program("ssh-keygen")
def test_a_key_is_added_once(sshd: Sshd, account: Account, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "it's $(mine)", "-f", tmp_path / "new"], check=True)
    config = tmp_path / "config"
    config.write_text(f"Host *\n IdentityFile {sshd.key.path}\n UserKnownHostsFile {sshd.known_hosts}\n")
    options = ("-F", str(config), "-p", str(sshd.port), "-o", "StrictHostKeyChecking=yes", "-i", str(tmp_path / "new"))
    host = f"{account.name}@{sshd.host}"
    file = account.home / ".ssh" / "authorized_keys"
    before = file.read_text() if file.exists() else ""
    line = (tmp_path / "new.pub").read_text()
    dry = copy_id("-n", *options, host)
    assert dry.returncode == 0 and "Would have added 1" in dry.stdout, dry.stderr
    assert (file.read_text() if file.exists() else "") == before
    if file.exists():
        file.write_text(before.rstrip("\n"))  # without a newline at the end
    for added in (True, False):
        done = copy_id(*options, host)
        assert done.returncode == 0 and ("Number of key(s) added: 1" in done.stdout) == added, done.stderr
        assert ("already exist" in done.stderr) != added
        assert file.read_text() == (before.rstrip("\n") + "\n" if before else "") + line
    assert file.owner() == account.name and not stat.S_IMODE(file.stat().st_mode) & 0o022
    assert copy_id("-f", *options, host).returncode == 0 and file.read_text().count(line) == 2


def test_wrong_usage_is_reported(tmp_path: Path) -> None:
    for argv in (
        (),
        ("-z",),
        ("-i", str(tmp_path / "absent"), "host"),
        ("a", "b"),
        ("-o", "Nonsense=1", "host"),
        ("--", "-oProxyCommand=x"),
    ):
        done = copy_id(*argv, HOME=str(tmp_path))
        assert done.returncode == 1 and done.stderr and "Traceback" not in done.stderr, argv
