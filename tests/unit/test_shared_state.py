"""State that the workers of a run share: pmitogen/ansible/preload/shared_state.py."""

from __future__ import annotations

import os

from pmitogen.ansible.preload.shared_state import NullSharedState, SharedState


def test_a_change_in_a_forked_process_is_visible_to_others() -> None:
    current = SharedState()
    for step, expected in ((current.mark, True), (current.clear, False)):
        pid = os.fork()
        if pid == 0:
            step("web1")
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert current.is_known("web1") is expected and not current.is_known("web2")


def test_a_host_may_have_any_name() -> None:
    current = SharedState()
    current.mark("\udcff ü")
    assert current.is_known("\udcff ü")


def test_the_state_without_sharing_is_empty() -> None:
    """It knows no host, and claims nothing on behalf of other processes."""
    state = NullSharedState()
    state.mark("web1")
    assert not state.is_known("web1") and not state.claim_first() and not state.is_shared and state.prebuild_process == (0, 0)
