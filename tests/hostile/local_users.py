"""Accounts of the controller: one that runs pmitogen, and the environment in which it does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.accounts import Account
from tests.support.ansible import PLUGINS
from tests.support.session import repository

# A developer's Python may be in a home that only its owner may enter; this capability allows reading, but no writing.
READ_ALL = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")


def as_user(account: Account, *argv: str, capabilities: Sequence[str] = READ_ALL) -> list[str]:
    """Return the command line that runs *argv* as an account, without a login."""
    ids = (f"--reuid={account.uid}", f"--regid={account.gid}", "--init-groups")
    return ["setpriv", *ids, *capabilities, "--", *argv]


@dataclass
class User:
    """An account that runs pmitogen, and its environment."""

    account: Account
    env: dict[str, str]
    cwd: Path

    def run(self, *argv: str, env: Mapping[str, str] | None = None, timeout: float = 100) -> subprocess.CompletedProcess[str]:
        """Run a program and wait for its end."""
        return subprocess.run(
            as_user(self.account, *argv),
            env={**self.env, **(env or {})},
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def pmitogen(self, *argv: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run ``pmitogen``."""
        return self.run(sys.executable, "-m", "pmitogen", *argv, env=env)

    def play(
        self, tasks: Sequence[Mapping[str, Any]], variables: Mapping[str, Any], env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a playbook with these tasks on one host."""
        (self.cwd / "play.json").write_text(json.dumps([{"hosts": "h", "gather_facts": False, "tasks": list(tasks)}]))
        (self.cwd / "hosts.json").write_text(json.dumps({"all": {"hosts": {"h": dict(variables)}}}))
        return self.run(sys.executable, "-m", "ansible", "playbook", "-i", "hosts.json", "play.json", env=env)


def make_user(account: Account, cwd: Path) -> User:
    """Return an account in the environment of a cron job: its home, no runtime directory, and the plugin of this checkout."""
    os.chmod(cwd, 0o755)
    env = {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "HOME": str(account.home),
        "USER": account.name,
        "LOGNAME": account.name,
        "PYTHONPATH": str(repository),
        "PYTHONDONTWRITEBYTECODE": "1",
        "ANSIBLE_CONNECTION_PLUGINS": str(PLUGINS),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PYTHON_INTERPRETER": "auto_silent",
    }
    return User(account, env, cwd)
