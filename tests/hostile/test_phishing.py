"""An account that is entered obtains no secret by false prompts: neither the login's, nor those of other steps of a chain."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import pmitogen
from tests.integration.test_api import connect
from tests.support.accounts import Account
from tests.support.becoming import SYSTEM_PYTHON
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]
PHISHER = (Path(__file__).parent / "phisher.py").read_text()
SECRETS = ("first s3cret", "second s3cret")


def install_phisher(account: Account, where: str) -> None:
    """Install the phisher as a start-up file of *account*: ``usercustomize``, ``pth``, or a file of its shell."""
    site = Path(account.run(SYSTEM_PYTHON, "-m", "site", "--user-site").stdout.strip()).relative_to(account.home)
    if where == "usercustomize":
        account.write(f"{site}/usercustomize.py", PHISHER)
    elif where == "pth":
        account.write(f"{site}/phisher.py", PHISHER)
        account.write(f"{site}/phisher.pth", "import phisher\n")
    else:
        account.write("phisher.py", PHISHER)
        account.write(where, f"{SYSTEM_PYTHON} ~/phisher.py\n")


def assert_learned_nothing(account: Account) -> None:
    """Assert that the phisher of *account* has run and received no secret."""
    notes = (account.home / "told").read_text()
    assert "tried" in notes and "s3cret" not in notes, notes


WAYS = [
    ("sudo", "", "usercustomize"),
    ("doas", "", "pth"),
    ("su", "", "usercustomize"),
    # Linux shows that the reader of the terminal is neither sudo nor su.
    ("sudo", "-i", ".profile"),
    ("su", "-", ".profile"),
]


def test_a_password_is_not_sent_if_the_program_does_not_ask_for_it(sshd: Sshd, make_account: Callable[..., Account]) -> None:
    login = make_account(sudo="nopasswd", doas="nopass")
    others = [make_account() for _ in WAYS]
    for (_, _, where), other in zip(WAYS, others, strict=True):
        install_phisher(other, where)

    def enter(number: int) -> str:
        host = as_root if WAYS[number][0] == "su" else as_login
        method, flags, _ = WAYS[number]
        entered = host.become(others[number].name, method=method, flags=flags, password=SECRETS[0], timeout=20)
        return entered.run("id -un", check=True).stdout.decode().strip()

    with connect(sshd, login) as as_login, connect(sshd, "root") as as_root, ThreadPoolExecutor() as pool:
        assert list(pool.map(enter, range(len(WAYS)))) == [other.name for other in others]
    for other in others:
        assert_learned_nothing(other)


def test_a_password_is_not_sent_a_second_time(sshd: Sshd, make_account: Callable[..., Account]) -> None:
    login, other = make_account(password=SECRETS[0], sudo="password"), make_account()
    install_phisher(other, "usercustomize")
    with connect(sshd, login) as host:
        host.become(other.name, password=SECRETS[0], timeout=20).run("true", check=True)
    assert_learned_nothing(other)


CHAINS: dict[str, list[dict[str, Any]]] = {
    "sudo, su": [{"user": "root"}, {"user": "{last}", "method": "su"}],
    "sudo, sudo, sudo": [{"user": "root"}, {"user": "root"}, {"user": "{last}"}],
    "sudo su": [{"user": "{last}", "method": "su", "exe": "sudo su"}],
}


@pytest.mark.parametrize("chain", ["sudo, su", "sudo su", pytest.param("sudo, sudo, sudo", marks=pytest.mark.slow)])
def test_passwords_of_a_chain_are_sent_to_their_own_step_only(
    chain: str, sshd: Sshd, make_account: Callable[..., Account]
) -> None:
    login, last = make_account(sudo="nopasswd"), make_account()
    install_phisher(last, "usercustomize")
    with connect(sshd, login) as host:
        entered: pmitogen.Host = host
        for index, step in enumerate(CHAINS[chain]):
            options = {**step, "user": step["user"].format(last=last.name), "password": SECRETS[index % 2]}
            entered = entered.become(**options, timeout=20)
        assert entered.run("id -un", check=True).stdout.decode().strip() == last.name
    assert_learned_nothing(last)


def test_an_account_in_the_middle_of_a_chain_receives_no_password_of_the_next(
    sshd: Sshd, make_account: Callable[..., Account]
) -> None:
    """Its profile runs before pmitogen's first line."""
    login = make_account(sudo="nopasswd")
    middle, last = make_account(password=SECRETS[1], sudo="password"), make_account()
    install_phisher(middle, ".profile")
    with connect(sshd, login) as host:
        entered = host.become(middle.name, flags="-i", timeout=20).become(last.name, password=SECRETS[1], timeout=20)
        assert entered.run("id -un", check=True).stdout.decode().strip() == last.name
    assert_learned_nothing(middle)
