"""The start page as a new user types it: an environment of its own, an account with an empty ~/.ssh, a real sshd."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.accounts import Account
from tests.support.session import repository
from tests.support.sshd import Sshd

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_sshd,
    pytest.mark.needs_program("unshare", "script", "git"),
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not (repository / ".git").exists(), reason="not a git checkout"),
]
START = (repository / "docs/start.md").read_text()
# Pages with commands that build on those of the start page.
FURTHER = "".join((repository / "docs" / name).read_text() for name in ("playbooks.md", "performance.md", "commands.md"))


def _commands(account: Account, source: Path) -> Iterator[str]:
    """The page's commands in their order. Its package is this checkout, its host the test's; the question is answered."""
    for kind, block in re.findall(r"^```(sh|yaml)\n(.*?)^```", START, re.M | re.S):
        if kind == "yaml":
            yield f"cat > site.yml <<'END'\n{block}END"
            continue
        for line in block.replace("admin@", f"{account.name}@").splitlines():
            line = line.replace("pip install 'pmitogen[ansible]'", f"pip install -q '{source}[ansible]'")
            yield f"echo yes | script -qec '{line}' /dev/null" if line.startswith("pmitogen trust ") else line


def test_every_command_of_the_page(sshd: Sshd, account: Account, tmp_path: Path) -> None:
    home, source = tmp_path / "home", tmp_path / "source"
    ssh = home / ".ssh"
    ssh.mkdir(parents=True, mode=0o700)
    shutil.copy(sshd.key.path, ssh / "id_ed25519")
    (ssh / "config").write_text(f"Host web1.example.com\n  HostName {sshd.host}\n  Port {sshd.port}\n")
    subprocess.run(["git", "clone", "-q", "--no-tags", repository, source], check=True)
    inventory = f"printf '[defaults]\\ninventory = hosts\\n' > ansible.cfg; echo {account.name}@web1.example.com > hosts"
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", FURTHER, re.M | re.S)
    further = "".join(block for kind, block in blocks if kind in ("", "sh")).replace("admin@", f"{account.name}@")
    further = further.replace("keyscan web1.example.com web2.example.com", f"keyscan -p {sshd.port} {sshd.host}")
    # Files of ssh are those of the account, wherever HOME points to.
    script = "\n".join(
        ["set -eux", f"mkdir -p /root/.ssh; mount --bind {ssh} /root/.ssh", "cd", *_commands(account, source), inventory, further]
    )
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ANSIBLE", "VIRTUAL", "PMITOGEN"))
    }
    words = ["unshare", "--mount", "bash", "-c", script]
    made = Path("/tmp/hello.txt")  # by the play, on this machine
    done = subprocess.run(
        words, env={**environ, "HOME": str(home)}, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=home
    )
    written = made.read_text() if made.exists() else ""
    made.unlink(missing_ok=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SHA256:" in done.stdout and "failed=0" in done.stdout and "demo: passed" in done.stdout
    assert written == f"made by {account.name}\n"
    assert (ssh / "known_hosts").exists() and (home / "new_keys").read_text().count("ssh-") >= 1
    assert "<!doctype html>" in (home / "run.html").read_text()
    assert (home / ".local/share/pmitogen/bin/ssh").exists()
