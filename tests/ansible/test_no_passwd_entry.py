"""A controller in a container: a uid without a passwd entry, and a home that is missing or not writable."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.sshd import Sshd

pytestmark = [
    *(pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.one_core),
    pytest.mark.needs_program("setpriv"),
]
UID = 61234
# The uid may read this checkout and its Python, wherever they are, and write only to its own directory.
WORDS = f"setpriv --reuid {UID} --regid {UID} --clear-groups --inh-caps=+dac_read_search --ambient-caps=+dac_read_search"


@pytest.fixture
def own(short_path: Path) -> Iterator[Path]:
    """A directory that belongs to the uid."""
    directory = short_path / "own"
    directory.mkdir()
    os.chown(directory, UID, UID)
    yield directory
    shutil.rmtree(f"/tmp/pmitogen-{UID}", ignore_errors=True)


def run_by_uid(ansible: Ansible, directory: Path) -> Ansible:
    """Return *ansible*, run by the uid."""
    python = directory / "python"
    python.write_text(f'#!/bin/sh\numask 022\nexec {WORDS} {shlex.quote(str(ansible.python))} "$@"\n')
    python.chmod(0o755)
    return Ansible(ansible.core, python, ansible.directory)


@pytest.mark.parametrize("kind", ["absent", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("read-only", "unset"))])
def test_a_play_runs_without_a_passwd_entry_and_a_writable_home(
    kind: str, ansible: Ansible, sshd: Sshd, account: Account, own: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = own / "key"
    shutil.copy(sshd.key.path, key)
    key.chmod(0o600)
    os.chown(key, UID, UID)
    home = short_path / "home"
    if kind == "read-only":
        home.mkdir(mode=0o555)
    for name in ("USER", "LOGNAME", "XDG_RUNTIME_DIR", *(["HOME"] if kind == "unset" else [])):
        monkeypatch.delenv(name, raising=False)
    # ansible-core itself needs a writable directory
    env = {"ANSIBLE_HOME": str(own / "ansible"), "TMPDIR": str(own), **({} if kind == "unset" else {"HOME": str(home)})}
    target = {**ansible.target(sshd, account), "ansible_ssh_private_key_file": str(key)}
    tasks = [
        {"name": "who", "ansible.builtin.command": "id -un"},
        {"name": "copy", "ansible.builtin.copy": {"content": "x", "dest": str(account.home / f"by-{kind}")}, "become": True},
    ]
    mark, before = sshd.mark(), os.umask(0)  # the uid must be able to write to the run's directory
    try:
        play = {"hosts": "all", "gather_facts": False, "tasks": tasks}
        running = run_by_uid(ansible, short_path).start([play], {"h": target}, env=env)
    finally:
        os.umask(before)
    run = running.finish().check()
    assert run.task("who")["stdout"] == account.name and run.task("copy").changed
    assert "Traceback" not in run.output and not run.warnings
    assert sshd.accepted(mark) == [("publickey", account.name)]
    assert (own / "ansible").stat().st_uid == UID
    assert not home.exists() or not list(home.iterdir())
