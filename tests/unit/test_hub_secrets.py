"""The hub removes every secret that it receives from its log."""

from __future__ import annotations

import pytest

from pmitogen import logging
from pmitogen.hub.registry import HostRegistry
from pmitogen.hub.secret_options import SECRET_OPTIONS


@pytest.mark.parametrize("name", SECRET_OPTIONS)
def test_secrets_of_options_are_removed_from_the_log(name: str) -> None:
    registry = HostRegistry()
    try:
        registry.host({"host": "web", name: f"handed over as {name}"})
    finally:
        registry.close()
    assert logging.redact(f"a line with 'handed over as {name}' in it") == f"a line with '{logging.REDACTED}' in it"


def test_secrets_of_every_step_of_a_become_request_are_removed_from_the_log() -> None:
    registry = HostRegistry()
    try:
        first = {"method": "sudo", "user": "alice", "password": "the first step's"}
        registry.plan({"method": "su", "user": "root", "password": "the second step's", "via": first})
    finally:
        registry.close()
    assert logging.redact("the first step's, the second step's") == f"{logging.REDACTED}, {logging.REDACTED}"
