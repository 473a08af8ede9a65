"""Every example of docs/library.md runs unchanged as a separate script."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import processes, session
from tests.support.accounts import Account
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]
PAGES = [(session.repository / "docs" / name).read_text() for name in ("library.md", "library-examples.md")]
TOOLS, EXAMPLES = (
    [text for page in pages for text in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)] for pages in (PAGES[1:], PAGES)
)

# The hosts of the page are this server, by a configuration file in place of the user's own.
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


def prepared(text: str, sshd: Sshd, account: Account, tmp_path: Path) -> tuple[list[str], dict[str, str]]:
    """Return the command line that runs an example, and its environment."""
    if "TaskGroup" in text and sys.version_info < (3, 11):
        pytest.skip("TaskGroup needs Python 3.11")
    (tmp_path / "config").write_text(
        f"Host nowhere.example.com\nHostname 127.0.0.1\nPort 1\n"
        f"Host *.example.com\nHostname {sshd.host}\nPort {sshd.port}\nHostKeyAlias [{sshd.host}]:{sshd.port}\n"
        f"IdentityFile {sshd.key.path}\nIdentitiesOnly yes\nUserKnownHostsFile {sshd.known_hosts}\nGlobalKnownHostsFile none\n"
    )
    script = text.replace('"admin@', f'"{account.name}@').replace("forward_local(22)", f"forward_local({sshd.port})")
    (tmp_path / "example.py").write_text(script)
    (tmp_path / "sitecustomize.py").write_text(SITE)
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ['PYTHONPATH']}", "PAGE_CONFIG": str(tmp_path / "config")}
    return [sys.executable, "-W", "error", "example.py"], env


@pytest.mark.parametrize("index", range(len(EXAMPLES)))
def test_each_example_runs(index: int, sshd: Sshd, account: Account, tmp_path: Path) -> None:
    args, env = prepared(EXAMPLES[index], sshd, account, tmp_path)
    done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=env)
    assert not done.returncode and not done.stderr, done.stderr


@pytest.mark.parametrize("index", range(len(TOOLS)))
def test_a_stopped_tool_leaves_no_process_on_its_hosts(index: int, sshd: Sshd, account: Account, tmp_path: Path) -> None:
    """Each tool is stopped while it waits for its hosts: the inventory and the deployment during a long command."""
    slow = {
        '"uname -sr"': '"sleep 4770; uname -sr"',
        '["test", "-s", "index.html"]': '["sleep", "4770"]',
        '"-n1", "-F"': '"-n1", "-F", "-s4770"',
    }
    text = "".join(line for line in TOOLS[index].splitlines(True) if "Timer(" not in line and "call_later(" not in line)
    text = text.replace("timeout=10)", "timeout=60)")
    for word, other in slow.items():
        text = text.replace(word, other)
    args, env = prepared(text, sshd, account, tmp_path)

    def running() -> list[processes.Process]:
        return [each for each in processes.all_processes() if "4770" in each.command and "pytest" not in each.command]

    with subprocess.Popen(args, cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as program:
        processes.wait_until(lambda: len([each for each in running() if each.command.startswith(("sleep", "tail"))]) >= 1)
        time.sleep(0.5)
        program.send_signal(signal.SIGINT)
        program.wait(15)
    processes.wait_until(lambda: not running())
    assert not running() and not list(Path("/tmp").glob(f"library-deployment-{program.pid}*"))
