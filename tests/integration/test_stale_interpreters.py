"""Interpreters, sessions and connections are replaced when files of the host change, and no request is lost. Over a real sshd."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pmitogen
from tests.integration.test_api import connect
from tests.support.accounts import Account
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.usefixtures("still_accounts")]

SHOW = "echo $FRESH"


def show(host: pmitogen.Host) -> str:
    return host.run(SHOW, check=True).stdout.decode().strip()


def change(account: Account, value: str) -> None:
    """Change a variable in the start-up file of the login shell."""
    account.write(".bashrc", f"export FRESH={value}\n")


def test_a_new_session_on_the_same_connection_replaces_the_old(sshd: Sshd, make_account: Callable[..., Account]) -> None:
    account = make_account()
    mark = sshd.mark()
    with connect(sshd, account) as host:
        assert show(host) == ""
        count = len(account.processes())
        for value in ("one", "two"):
            change(account, value)
            assert show(host) == value
        assert (sshd.connections(mark), sshd.sessions(mark)) == (1, 3)
        assert _processes_are(account, count), "the older sessions should have ended"


def _processes_are(account: Account, count: int) -> bool:
    """Return whether the account has *count* processes, after a wait of at most 10 seconds."""
    deadline = time.monotonic() + 10
    while len(account.processes()) > count and time.monotonic() < deadline:
        time.sleep(0.05)
    return len(account.processes()) == count


def test_running_commands_are_not_interrupted(sshd: Sshd, make_account: Callable[..., Account], tmp_path: Path) -> None:
    account, other = make_account(sudo="nopasswd"), make_account()
    with connect(sshd, account) as host:
        entered = host.become(other.name)
        assert show(host) == show(entered) == ""
        results: dict[str, Any] = {}

        def slow(name: str, where: pmitogen.Host) -> None:
            results[name] = where.run(f"{SHOW}; read line; sleep 8; echo $line", stdin=b"given\n", check=True).stdout.split()

        threads = [threading.Thread(target=slow, args=pair) for pair in (("login", host), ("other", entered))]
        for thread in threads:
            thread.start()
        time.sleep(0.7)
        change(account, "new")
        assert (show(host), show(entered)) == ("new", "")
        assert not results, "both commands must still run"
        for thread in threads:
            thread.join()
        assert results == {"login": [b"given"], "other": [b"given"]}


@pytest.mark.parametrize("size", [1 << 10, 3 << 20, 9 << 20])
def test_a_file_in_transit_is_sent_again_completely(
    size: int, sshd: Sshd, make_account: Callable[..., Account], tmp_path: Path
) -> None:
    """A refused request is sent again with all its data."""
    account = make_account()
    data = os.urandom(size)
    (tmp_path / "sent").write_bytes(data)
    with connect(sshd, account) as host:
        assert show(host) == ""
        change(account, "new")
        with (tmp_path / "sent").open("rb") as stream:
            host.put(stream, f"{account.home}/received")
        assert hashlib.sha256((account.home / "received").read_bytes()).digest() == hashlib.sha256(data).digest()
        change(account, "newer")
        assert host.run("cat | wc -c", stdin=data, check=True).stdout.split() == [str(size).encode()]
        assert show(host) == "newer"


def test_an_idle_session_ends_first_if_the_server_allows_one(
    make_sshd: Callable[..., Sshd], make_account: Callable[..., Account]
) -> None:
    """If it is busy, another connection is made, as by ssh."""
    account, sshd = make_account(), make_sshd(config=["MaxSessions 1"])
    with connect(sshd, account, timeout=2) as host:
        assert host.exists("/")  # starts Python, which runs the commands
        assert show(host) == ""
        count = len(account.processes())
        change(account, "new")
        assert show(host) == "new" and sshd.connections() == 1
        results: list[bytes] = []
        slow = threading.Thread(target=lambda: results.append(host.run(f"sleep 6; {SHOW}", check=True).stdout))
        slow.start()
        time.sleep(0.5)
        change(account, "newer")
        assert show(host) == "newer" and not results and sshd.connections() == 2
        slow.join()
        assert results == [b"new\n"]
        assert _processes_are(account, count)


def test_a_constantly_changing_file_does_not_prevent_commands(sshd: Sshd, make_account: Callable[..., Account]) -> None:
    """The command runs in the newest interpreter."""
    account = make_account()
    rc = account.write(".bashrc", f"date +%N > {account.home}/.more; . {account.home}/.more >/dev/null 2>&1\n")
    assert rc.exists()
    account.write(".more", "")
    with connect(sshd, account) as host:
        assert host.run("echo done", check=True).stdout == b"done\n"
        for _ in range(3):
            account.write(".more", "")
            assert host.run("echo done", check=True).stdout == b"done\n"


def test_a_removed_sudo_rule_takes_effect_at_once(sshd: Sshd, make_account: Callable[..., Account]) -> None:
    account = make_account(sudo="nopasswd")
    rules = Path("/etc/sudoers.d") / account.name
    with connect(sshd, account) as host:
        root = host.become()
        assert root.run("id -un", check=True).stdout == b"root\n"
        text = rules.read_text()
        rules.write_text("\n".join(line for line in text.splitlines() if "NOPASSWD" not in line) + "\n")
        with pytest.raises(pmitogen.BecomeError):
            root.run("id -un")
        assert host.run("id -un", check=True).stdout.decode().strip() == account.name
        rules.write_text(text)
        assert root.run("id -un", check=True).stdout == b"root\n"


def test_changes_of_other_accounts_replace_nothing(sshd: Sshd, make_account: Callable[..., Account]) -> None:
    account = make_account(sudo="nopasswd")
    with connect(sshd, account) as host:
        root = host.become()
        root.run("true", check=True)
        for _ in range(2):
            make_account(sudo="nopasswd", doas="nopass", groups=["games"])
            root.run("true", check=True)
        assert account.sudo_uses() == 1
