"""``pmitogen setup --shims``: programs under OpenSSH's names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.accounts import Account
from tests.support.sshd import Sshd


def setup(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run ``pmitogen setup``."""
    command = [sys.executable, "-m", "pmitogen", "setup", *argv]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


@pytest.mark.needs_root
@pytest.mark.needs_sshd
@pytest.mark.needs_program("rsync")
def test_rsync_finds_ssh_on_the_path(sshd: Sshd, account: Account, tmp_path: Path) -> None:
    directory = tmp_path / "bin with space"
    done = setup("--shims", str(directory))
    assert done.returncode == 0 and "is not on the PATH" in done.stdout, done.stderr
    (tmp_path / "pmitogen.py").write_text("raise SystemExit('imported from the current directory')\n")
    config = tmp_path / "config"
    config.write_text(
        f"Host target\n HostName {sshd.host}\n Port {sshd.port}\n User {account.name}\n IdentityFile {sshd.key}\n"
        f" UserKnownHostsFile {sshd.known_hosts}\n"
    )
    environment = {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}", "RSYNC_RSH": f"ssh -F {config}"}
    (tmp_path / "file").write_text("text")
    subprocess.run(["rsync", "file", "target:file"], check=True, timeout=60, env=environment, cwd=tmp_path)
    assert (account.home / "file").read_text() == "text"
    (account.home / "file").unlink()
    subprocess.run(["ssh-keyscan", "-p", str(sshd.port), sshd.host], check=True, timeout=60, env=environment, capture_output=True)
    assert setup("--shims", str(directory), "--remove").returncode == 0
    assert not list(directory.iterdir())


def test_a_file_that_setup_did_not_create_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "ssh").write_text("#!/bin/sh\n")
    done = setup("--shims", str(tmp_path))
    assert done.returncode == 1 and f"{tmp_path}/ssh: was not created by pmitogen setup" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["ssh"]
    assert "nothing to remove" in setup("--shims", str(tmp_path), "--remove").stdout
    assert (tmp_path / "ssh").read_text() == "#!/bin/sh\n"
