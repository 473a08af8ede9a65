"""Escalation with other programs of the same names: su of BusyBox, Toybox and sudo-rs, and sudo of sudo-rs.

Each is a copy, setuid root, in a directory of the test: the system's own programs stay unchanged.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_become import VERSIONS, enter
from tests.support import programs
from tests.support.accounts import Account

pytestmark = [pytest.mark.needs_root]

# The newest hash that BusyBox's own crypt knows.
PASSWORD = "other's word"
HASH = "$6$pmitogen$KWCvR0WRpNvVGrT89dANRb3KWYzns/dOyce6hi5DZxgv59ZXGWM3uuPFFdGw8CcLxzCNefPh4lNztjm90Fbm3/"

SUS = [
    pytest.param("busybox", marks=pytest.mark.needs_program("busybox")),
    pytest.param("su-rs", marks=pytest.mark.needs_program("su-rs")),
    pytest.param("toybox", marks=[pytest.mark.needs_program("toybox"), pytest.mark.slow]),
]


def setuid_copy(program: str, directory: Path, name: str) -> str:
    """Copy *program* as *name*, setuid root. Skip the test if it was built without that applet."""
    found, path = programs.find_program(program), directory / name
    assert found
    shutil.copy(found, path)
    path.chmod(0o4755)
    if "not found" in subprocess.run([path, "--help"], capture_output=True, text=True, timeout=20).stderr:
        pytest.skip(f"{program} has no {name} here")
    return str(path)


@pytest.fixture
def make_other(make_account: Callable[..., Account]) -> Callable[..., Account]:
    """Create accounts whose password every program can check."""

    def make(**options: Any) -> Account:
        other = make_account(password=PASSWORD, **options)
        subprocess.run(["chpasswd", "-e"], input=f"{other.name}:{HASH}", text=True, check=True, timeout=20)
        return other

    return make


@pytest.mark.parametrize("program", SUS)
def test_each_su_enters_the_account(
    program: str, make_account: Callable[..., Account], make_other: Callable[..., Account], short_path: Path
) -> None:
    account, other, closed = make_account(sudo="nopasswd"), make_other(), make_other(shell="/usr/sbin/nologin")
    su = setuid_copy(program, short_path, "su")

    def enter_(flags: str = "", **options: Any) -> dict[str, Any]:
        return enter(account, "su", flags=flags, **{"exe": su, "user": other.name, "password": other.password, **options})

    got = enter_()
    assert got["up"], got
    assert enter_()["line"] == f"{other.name} {other.home} /"
    assert enter_("-")["line"] == f"{other.name} {other.home} {other.home}"
    assert enter_("-s /bin/dash -m", show="KEEP_ME", env={"KEEP_ME": "kept"})["line"] == f"{other.name} kept /"
    assert enter_("-l", size=1 << 20)["same"]
    by_root = enter_("-", exe=f"sudo {su}", password=None)
    assert by_root["line"] == f"{other.name} {other.home} {other.home}", by_root
    failures = {
        "password-wrong": {"password": "n0t-th1s"},
        "password-missing": {"password": None},
        "unknown-user": {"user": "no.such-account"},
        "shell": {"user": closed.name, "password": closed.password},
        "python": {"command": ["/nowhere/python3", "-c", "pass"]},
    }
    with ThreadPoolExecutor() as pool:
        for kind, got in zip(failures, pool.map(lambda args: enter_(**args), failures.values()), strict=True):
            assert got["kind"] == kind and "\n" not in got["message"], got


@pytest.mark.parametrize("version", VERSIONS[:1] + VERSIONS[-1:])
@pytest.mark.needs_program("busybox")
def test_a_prompt_of_su_on_stdout_is_answered(
    version: str,
    make_account: Callable[..., Account],
    make_other: Callable[..., Account],
    pythons: dict[str, str],
    short_path: Path,
) -> None:
    """BusyBox prints it there; an equal text of a profile before the command is not answered."""
    account, other = make_account(sudo="nopasswd"), make_other()
    su = setuid_copy("busybox", short_path, "su")
    other.write(".profile", "printf 'Password: '\n")
    for flags in ("", "-"):
        got = enter(
            account, "su", driver=pythons[version], exe=su, flags=flags, user=other.name, password=other.password, size=1 << 18
        )
        assert got["same"], got
    got = enter(account, "su", driver=pythons[version], exe=f"sudo {su}", flags="-", user=other.name, password="unasked")
    assert got["line"].split()[0] == other.name and "unasked" not in str(got), got


@pytest.mark.needs_program("sudo-rs")
def test_sudo_rs_enters_the_account(make_account: Callable[..., Account], short_path: Path) -> None:
    account, other, stranger = make_account(sudo="password"), make_account(), make_account()
    free, late = make_account(sudo="nopasswd"), make_account(sudo="password")
    subprocess.run(["chage", "-E", "0", late.name], check=True, timeout=20)
    sudo = setuid_copy("sudo-rs", short_path, "sudo")

    def enter_(login: Account, flags: str = "-H -S -n", **options: Any) -> dict[str, Any]:
        return enter(login, "sudo", flags=flags, **{"exe": sudo, "user": other.name, **options})

    home = f"{other.name} {other.home}"
    assert enter_(account, password=account.password)["line"] == f"{home} /"
    assert enter_(account, "-i -k", password=account.password)["line"] == f"{home} {other.home}"
    assert enter_(account, "-s", password=account.password, size=1 << 20)["same"]
    assert enter_(account, "-k", exe=f"{sudo} su -", password=account.password)["line"] == f"{home} {other.home}"
    assert enter_(free)["line"] == f"{home} /"
    assert enter_(free, "--preserve-env=KEEP_ME", show="KEEP_ME", env={"KEEP_ME": "kept"})["line"] == f"{other.name} kept /"
    assert enter_(free, "-g root WORD=said", show="WORD", user=f"#{other.uid}", chdir="/usr")["line"] == f"{other.name} said /usr"
    failures: dict[str, tuple[Account, dict[str, Any]]] = {
        "password-wrong": (account, {"flags": "-k", "password": "n0t-th1s"}),
        "password-missing": (account, {"flags": "-k"}),
        "unknown-user": (free, {"user": "no.such-account"}),
        "not-permitted": (stranger, {"password": stranger.password, "flags": ""}),
        "account": (late, {"password": late.password}),
        "python": (free, {"command": ["/nowhere/python3", "-c", "pass"]}),
    }
    with ThreadPoolExecutor() as pool:
        done = pool.map(lambda case: enter_(case[0], **case[1]), failures.values())
        for kind, got in zip(failures, done, strict=True):
            assert got["kind"] == kind and "\n" not in got["message"], got
    got = enter_(account, "-k -n")
    assert got["kind"] == "password-missing" and got["seconds"] < 4, got
