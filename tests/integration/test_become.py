"""Entering accounts with the real sudo, su and doas, from an unprivileged account, under every Python of targets."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pmitogen.flags import become
from tests.support import programs
from tests.support.accounts import Account

ROOT = Path(__file__).resolve().parents[2]
DRIVER = ROOT / "tests" / "support" / "become_driver.py"
SYSTEM_PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin:/bin") or "python3"
TIMEOUT = 8.0  # seconds for an escalation; sudo and su take 2 to 3 to say that a password is wrong

# What the agent's loader does: the marker, then who and where we are, then every byte back.
LOADER = """import os, sys
w = os.write
w(1, b"PMITOGEN-%s ready\\n" % sys.argv[1].encode())
import pwd
print(pwd.getpwuid(os.geteuid())[0], os.environ.get(sys.argv[2], "-"), os.getcwd(), flush=True)
while True:
    data = os.read(0, 65536)
    if not data:
        break
"""
ECHO = """import os, sys
os.write(1, b"PMITOGEN-%s ready\\n" % sys.argv[1].encode())
while True:
    data = os.read(0, 65536)
    if not data:
        break
    while data:
        data = data[os.write(1, data):]
"""

pytestmark = [pytest.mark.needs_root]
VERSIONS = [pytest.param(v, id=v) for v in programs.VERSIONS if programs.find_python(v)]


def enter(
    account: Account,
    method: str,
    *,
    driver: str = sys.executable,
    command: list[str] | None = None,
    env: dict[str, str] | None = None,
    show: str = "HOME",
    size: int = 0,
    timeout: float = TIMEOUT,
    cwd: str = "/",
    **words: Any,
) -> dict[str, Any]:
    """Drives one escalation from *account*; returns the driver's result."""
    plan, _ = become.plan(method, timeout=timeout, **words)
    token = secrets.token_hex(4)
    base = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(account.home), "USER": account.name, "SHELL": account.shell}
    job = {
        "root": str(ROOT),
        "uid": account.uid,
        "gid": account.gid,
        "name": account.name,
        "plan": plan,
        "command": command or [SYSTEM_PYTHON, "-c", ECHO if size else LOADER, token, show],
        "token": token,
        "env": {**base, **(env or {})},
        "size": size,
        "cwd": cwd,
    }
    done = subprocess.run([driver, str(DRIVER)], input=json.dumps(job), capture_output=True, text=True, timeout=timeout + 40)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert result["reaped"], result
    assert result["end"] < timeout + 8, result
    assert result["fds"] == [0, 1, 2], result
    password = words.get("password")
    if password:
        assert password not in done.stdout
    return result


# -- getting in -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_sudo_without_a_password(version: str, account: Account, pythons: dict[str, str]) -> None:
    got = enter(account, "sudo", driver=pythons[version], flags="-H -S -n")
    assert got["line"] == "root /root /", got


@pytest.mark.parametrize("version", VERSIONS)
def test_sudo_with_a_password(version: str, make_account: Callable[..., Account], pythons: dict[str, str]) -> None:
    account = make_account(sudo="password")
    got = enter(account, "sudo", driver=pythons[version], flags="-H -S -n", password=account.password)
    assert got["line"] == "root /root /", got
