"""Every play of ``plays/`` has the same results over pmitogen as over ssh, and leaves the same files.

The plays run once for all tests (see conftest.py). Intended differences are listed only in compare.py and
docs/differences.md.
"""

from __future__ import annotations

import pytest

from tests.support import session

from . import compare, driver

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_sshd,
    pytest.mark.needs_ansible,
    pytest.mark.needs_program("ssh"),
    pytest.mark.timeout(1500),
    pytest.mark.leaks("the plays' accounts keep their files until they are removed; Outcomes looks for all else"),
]
MUST_WORK = ("node", "perl", "compiled as another", "respawn in check mode")


def _show(found: list[compare.Difference]) -> str:
    return f"{len(found)} differences:\n" + "\n".join(f"  {one}" for one in found)


def test_same_results(outcome: driver.Outcome) -> None:
    if outcome.trouble:
        raise outcome.trouble
    ssh, ours = outcome.sides["ssh"], outcome.sides["pmitogen"]
    assert not ours.run.ssh_programs or "[s]" in ssh.run.stdout, "an ssh program was started"
    found = compare.compare(ssh.run, ours.run, ssh.places, ours.places)
    assert not found, _show(found)
    broken = [task.task for task in ours.run.tasks if task.task in MUST_WORK and task.kind not in ("ok", "skipped")]
    assert not broken, "tasks that must succeed failed over both connections"


def test_same_files(outcome: driver.Outcome) -> None:
    if outcome.trouble:
        pytest.skip("the runs failed")
    ssh, ours = outcome.sides["ssh"], outcome.sides["pmitogen"]
    found = compare.compare_trees(ssh.target, ours.target, compare.plain_name)
    found += compare.compare_trees(ssh.controller, ours.controller, compare.plain_name)
    assert not found, _show(found)
    assert ours.leftovers == [], "temporary directories are left"


def test_differences_are_documented() -> None:
    topics = compare.documented(session.repository / "docs/differences.md")
    assert {*compare.UNIFIED, *(design.topic for design in compare.BY_DESIGN)} <= topics
