"""The fixture with the accounts of plays that use become; see tests/support/becoming.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.accounts import Accounts
from tests.support.becoming import People


@pytest.fixture(scope="module")
def people(_account_maker: Accounts) -> Iterator[People]:
    make = _account_maker.make
    # Without timestamps each session of sudo requires its password.
    password_sudo = make(sudo="password", sudo_defaults=["timestamp_timeout=0"], doas="password")
    made = People(password_sudo, make(sudo="nopasswd", doas="nopass"), tuple(make() for _ in range(3)))
    yield made
    for each in (made.password_sudo, made.nopasswd, *made.others):
        _account_maker.give_back(each)
