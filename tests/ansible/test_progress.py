"""Progress of a large copy is shown in Ansible's output and by ``pmitogen hubs``, also while the network is stalled."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support import init
from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.one_core, pytest.mark.slow]

SIZE = 64 << 20


def _hubs(*args: str) -> str:
    return subprocess.run([sys.executable, "-m", "pmitogen", "hubs", *args], capture_output=True, text=True, timeout=30).stdout


@pytest.mark.parametrize("module", ["copy", "fetch"])
def test_progress_of_a_large_copy_is_shown(module: str, ansible: Ansible, sshd: Sshd, account: Account, tmp_path: Path) -> None:
    here, there = tmp_path / "large", account.home / "large"
    source = here if module == "copy" else there
    source.write_bytes(os.urandom(SIZE))
    task = {
        "copy": {"ansible.builtin.copy": {"src": str(here), "dest": str(there)}},
        "fetch": {"ansible.builtin.fetch": {"src": str(there), "dest": f"{tmp_path}/got", "flat": True}},
    }[module]
    seen: list[tuple[Any, str]] = []

    def stall_and_look() -> None:
        """Stop the account's sshd in the middle of the transfer, read the hubs' state, and resume sshd after 6 seconds."""
        until = time.monotonic() + 60
        while time.monotonic() < until and not seen:
            found = [hub["transfers"] for hub in json.loads(_hubs("--json") or "[]") if hub["transfers"]]
            if found:
                servers = [each.pid for each in init.family() if each.command.startswith(f"sshd: {account.name}")]
                for pid in servers:
                    os.kill(pid, signal.SIGSTOP)
                seen.append((found[0][0], _hubs()))
                time.sleep(6)
                for pid in servers:
                    os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=stall_and_look)
    thread.start()
    run = ansible.tasks([{"name": "large", **task}], {"h": ansible.target(sshd, account)}, args=["-v"]).check()
    thread.join()
    assert seen, "the transfer was not seen in progress"
    transfer, text = seen[0]
    assert transfer["action"] == ("put" if module == "copy" else "get") and 0 <= transfer["transferred"] <= SIZE, transfer
    assert re.search(r"^  \S+: (put|get) /\S+: [\d.]+ [kM]?B", text, re.M), text
    what = "PUT" if module == "copy" else "FETCH"
    assert re.search(rf"<{re.escape(sshd.host)}> {what} /\S+: [\d.]+ MB.*, [\d.]+ [kM]?B/s", run.stdout), run.stdout
