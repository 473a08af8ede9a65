"""What the workers of a run tell each other: pmitogen/ansible/preload/shared_state.py."""

from __future__ import annotations

import os

from pmitogen.ansible.preload.shared_state import NullSharedState, SharedState


def test_a_forked_process_tells_its_siblings() -> None:
    current = SharedState()
    for step, expected in ((current.mark, True), (current.clear, False)):
        pid = os.fork()
        if pid == 0:
            step("web1")
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert current.is_known("web1") is expected and not current.is_known("web2")


def test_any_name_of_a_host() -> None:
    current = SharedState()
    current.mark("\udcff ü")
    assert current.is_known("\udcff ü")


def test_a_process_that_shares_nothing() -> None:
    """Nobody has answered it, and it does nothing on behalf of others."""
    state = NullSharedState()
    state.mark("web1")
    assert not state.is_known("web1") and not state.claim_first() and not state.is_shared and state.prebuild_process == (0, 0)
