"""Connections of the library to the test servers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pmitogen
from pmitogen.api import Host, Hub
from tests.support.accounts import Account
from tests.support.sshd import Sshd


def connect(sshd: Sshd, account: Account | str, hub: Hub | None = None, **options: Any) -> Host:
    """Connect with the run's key, through the given hub or one of its own."""
    name = account if isinstance(account, str) else account.name
    made: Callable[..., Host] = pmitogen.connect if hub is None else hub.connect
    return made(f"{name}@{sshd.host}", **{"ssh_args": sshd.ssh_args(), "timeout": 30, **options})
