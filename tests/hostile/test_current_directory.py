"""Files of the current directory replace no module, neither in the login account nor in accounts entered from there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.on_target import current_directory_on_path
from tests.integration.test_api import connect
from tests.support import programs
from tests.support.accounts import Account
from tests.support.sshd import Sshd
from tests.support.traps import Traps

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]

PATHS = {"empty": "export PYTHONPATH=:/opt/none", "dot": "export PYTHONPATH=/opt/none:.:lib"}
VERSIONS = [pytest.param(version, id=version) for version in programs.target_pythons()]


@pytest.fixture
def traps(short_path: Path) -> Traps:
    return Traps(short_path / "marks")


@pytest.mark.parametrize("version", VERSIONS)
def test_no_python_imports_from_the_current_directory(
    version: str, pythons: dict[str, str], traps: Traps, short_path: Path
) -> None:
    """The command of the bootstrap starts the interpreter in a directory full of trap modules."""
    from pmitogen.hub import bootstrap

    traps.install(short_path, 0, 0)
    bundle = bootstrap.bundle()
    line = bootstrap.bootstrap_command("abc", len(bundle), 1, [pythons[version]])
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(short_path), "PYTHONPATH": ":/opt/none"}
    done = subprocess.run(["/bin/sh", "-c", line], input=bundle, cwd=short_path, env=environment, capture_output=True, timeout=60)
    assert b"PMITOGEN-abc ready\n" in done.stdout and not done.stderr, done
    assert traps.executed() == []


@pytest.mark.parametrize("python_path", PATHS)
def test_no_account_imports_from_the_current_directory(
    python_path: str, sshd: Sshd, make_account: Callable[..., Account], traps: Traps, short_path: Path
) -> None:
    third = make_account()  # root can enter its directory
    account, other = (
        make_account(sudo="nopasswd", sudo_defaults=["runcwd=*"], doas="nopass"),
        make_account(password="other's", sudo="nopasswd"),
    )
    for directory, owner in ((account.home, account), (short_path / "third", third)):
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)
        traps.install(directory, owner.uid, owner.gid)
    account.write(".bashrc", PATHS[python_path] + "\n")
    other.write(".profile", PATHS["empty"] + "\n")
    # su preserves the environment of its caller, and sudo -E most of it.
    ways: list[dict[str, Any]] = [
        {"user": "root"}, {"user": "root", "flags": "-E --preserve-env=PYTHONPATH"}, {"user": "root", "method": "doas"},
        {"user": "root", "flags": f"-D {short_path / 'third'}"}, {"user": other.name, "flags": "-i"},
        {"user": other.name, "flags": "-s"},
        {"user": other.name, "method": "su", "password": "other's"},
    ]  # fmt: skip
    with connect(sshd, account) as host:
        for entered in (host, *(host.become(**way) for way in ways), host.become(other.name).become("root")):
            assert entered.call(current_directory_on_path) == [], entered
        assert host.run("echo $PYTHONPATH").stdout.decode().strip() == PATHS[python_path].partition("=")[2]
    assert traps.executed() == []


def test_the_controller_imports_nothing_from_the_current_directory(traps: Traps, short_path: Path, home: Path) -> None:
    """``pmitogen setup`` and the demo start interpreters in a directory in which another user may write."""
    traps.install(short_path, 0, 0)
    program = str(Path(sys.executable).with_name("pmitogen"))
    for arguments in (["setup"], ["setup", "--remove"], ["demo"]):
        done = subprocess.run([program, *arguments], cwd=short_path, capture_output=True, text=True, timeout=90)
        assert done.returncode == 0, done
    assert traps.executed() == []
