"""The start page as a new user follows it: a new environment, an account with an empty ~/.ssh, and a real sshd."""

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
    pytest.mark.skipif(not (repository / ".git").exists(), reason="needs a git checkout"),
]
# Pages that begin with an installation and a playbook.
FIRST = ("docs/start.md", "README.md")
# Pages whose commands need those of the first page.
FURTHER = ("docs/migrating.md", "docs/playbooks.md", "docs/performance.md", "docs/commands.md")


def _commands(page: str, account: Account, source: Path) -> Iterator[str]:
    """Yield the page's commands in order, with this checkout as the package, the test's host, and an answer to the prompt."""
    for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", (repository / page).read_text(), re.M | re.S):
        if kind == "yaml":
            if page in FIRST:
                yield f"cat > site.yml <<'END'\n{block}END"
        if kind not in ("", "sh"):
            continue
        for line in block.replace("admin@", f"{account.name}@").splitlines():
            line = re.sub(r"pip install '?pmitogen(\[ansible\])?'?", rf"pip install -q '{source}\1'", line)
            yield f"echo yes | script -qec '{line}' /dev/null" if line.startswith("pmitogen trust ") else line


def test_every_command_of_the_pages_works(sshd: Sshd, account: Account, short_path: Path) -> None:
    home, source = short_path / "home", short_path / "source"  # the path of a socket has at most 107 bytes
    ssh = home / ".ssh"
    ssh.mkdir(parents=True, mode=0o700)
    shutil.copy(sshd.key.path, ssh / "id_ed25519")
    (ssh / "config").write_text(f"Host web1.example.com\n  HostName {sshd.host}\n  Port {sshd.port}\n")
    subprocess.run(["git", "clone", "-q", "--no-tags", repository, source], check=True)
    first = [line for page in FIRST for line in _commands(page, account, source)]
    inventory = f"printf '[defaults]\\ninventory = hosts\\n' > ansible.cfg; echo {account.name}@web1.example.com > hosts"
    further = "\n".join(line for page in FURTHER for line in _commands(page, account, source))
    further = further.replace("keyscan web1.example.com web2.example.com", f"keyscan -p {sshd.port} {sshd.host}")
    # ssh's files are in the account's home, whatever HOME is.
    script = "\n".join(
        [
            "set -eux",
            f"mkdir -p /root/.ssh; mount --bind {ssh} /root/.ssh",
            "cd",
            *first,
            inventory,
            "mkdir src; date > src/file",
            further,
            "pmitogen hubs --stop",  # the hub that ControlPersist keeps running
        ]
    )
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ANSIBLE", "VIRTUAL", "PMITOGEN"))
    }
    args = ["unshare", "--mount", "bash", "-c", script]
    made = Path("/tmp/hello.txt")  # written by the play, on this machine
    done = subprocess.run(
        args, env={**environ, "HOME": str(home)}, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=home
    )
    written = made.read_text() if made.exists() else ""
    made.unlink(missing_ok=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SHA256:" in done.stdout and "failed=0" in done.stdout and "demo: passed" in done.stdout
    assert written == f"made by {account.name}\n"
    assert (ssh / "known_hosts").exists() and (home / "new_keys").read_text().count("ssh-") >= 1
    assert "<!doctype html>" in (home / "run.html").read_text()
    assert (account.home / "dest/file").exists()
    assert (home / ".local/share/pmitogen/bin/ssh").exists()
