"""Every example of docs/library.md runs as it stands there, as a script of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import session
from tests.support.accounts import Account
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]
PAGES = [(session.repository / "docs" / name).read_text() for name in ("library.md", "library-examples.md")]
EXAMPLES = [text for page in PAGES for text in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)]

# The page's hosts are this server, by a configuration file that would else be the user's own.
SITE = """
import os
from pmitogen.api import connecting
option_set = connecting.option_set
def with_our_config(target, given):
    return option_set(target, {**given, "ssh_args": ["-F", os.environ["PAGE_CONFIG"], *given.get("ssh_args", ())]})
connecting.option_set = with_our_config
"""


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) >= 8


@pytest.mark.parametrize("index", range(len(EXAMPLES)))
def test_example(index: int, sshd: Sshd, account: Account, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        f"Host nowhere.example.com\nHostname 127.0.0.1\nPort 1\n"
        f"Host *.example.com\nHostname {sshd.host}\nPort {sshd.port}\nHostKeyAlias [{sshd.host}]:{sshd.port}\n"
        f"IdentityFile {sshd.key.path}\nIdentitiesOnly yes\nUserKnownHostsFile {sshd.known_hosts}\nGlobalKnownHostsFile none\n"
    )
    if "TaskGroup" in EXAMPLES[index] and sys.version_info < (3, 11):
        pytest.skip("TaskGroup came with Python 3.11")
    script = EXAMPLES[index].replace('"admin@', f'"{account.name}@').replace("forward_local(22)", f"forward_local({sshd.port})")
    (tmp_path / "example.py").write_text(script)
    (tmp_path / "sitecustomize.py").write_text(SITE)
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ['PYTHONPATH']}", "PAGE_CONFIG": str(tmp_path / "config")}
    args = [sys.executable, "-W", "error", "example.py"]
    done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=env)
    assert not done.returncode and not done.stderr, done.stderr
