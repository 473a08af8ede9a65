"""What the workers of a run tell each other: pmitogen/ansible/preload/shared_state.py."""

from __future__ import annotations

import os

from pmitogen.ansible.preload.shared_state import Hosts, Strangers


def test_a_forked_process_tells_its_siblings() -> None:
    hosts = Hosts()
    for step, expected in ((hosts.add, True), (hosts.drop, False)):
        pid = os.fork()
        if pid == 0:
            step("web1")
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert hosts.has("web1") is expected and not hosts.has("web2")


def test_any_name_of_a_host() -> None:
    hosts = Hosts()
    hosts.add("\udcff ü")
    assert hosts.has("\udcff ü")


def test_a_process_that_shares_nothing() -> None:
    """Nobody has answered it, and it does nothing on behalf of others."""
    strangers = Strangers()
    strangers.add("web1")
    assert not strangers.has("web1") and not strangers.is_first() and not strangers.shared and strangers.helper == (0, 0)
