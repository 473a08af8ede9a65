"""A program may be started in another account only if everybody can run it and only root can change it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pmitogen.become import interpreter

pytestmark = [pytest.mark.needs_root]


def test_path_elements_include_links_and_their_targets(short_path: Path) -> None:
    for name in ("a", "b"):
        (short_path / name).mkdir()
    (short_path / "b/python").touch()
    (short_path / "a/python").symlink_to("../c/./python")
    (short_path / "c").symlink_to(short_path / "b")
    found = [step.decode() for step in interpreter.path_components(os.fsencode(short_path / "a/python"))]
    assert found[0] == "/" and {str(short_path / name) for name in ("a", "a/python", "c", "b", "b/python")} <= set(found)
    (short_path / "b/loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        interpreter.path_components(os.fsencode(short_path / "b/loop"))


def test_a_system_program_is_root_controlled_and_world_executable() -> None:
    """A relative or a missing path is neither."""
    assert interpreter.is_root_controlled(b"/usr/bin/env") and interpreter.is_world_executable(b"/usr/bin/env")
    assert not interpreter.is_world_executable(b"bin/env") and not interpreter.is_world_executable(b"/nowhere/python")


@pytest.mark.parametrize("where", ["file", "directory", "link", "its link's directory"])
def test_a_program_that_another_account_can_change_is_rejected(where: str, short_path: Path) -> None:
    target, places = short_path / "own" / "python", short_path / "places"
    for directory in (target.parent, places):
        directory.mkdir()
        directory.chmod(0o755)
    target.touch()
    target.chmod(0o755)
    link = places / "python"
    link.symlink_to(target)
    path = os.fsencode(link)
    assert interpreter.is_root_controlled(path) and interpreter.is_world_executable(path)
    changed = {"file": target, "directory": target.parent, "link": link, "its link's directory": places}[where]
    os.chown(changed, 65534, -1, follow_symlinks=False)
    assert not interpreter.is_root_controlled(path)
    os.chown(changed, 0, -1, follow_symlinks=False)
    if where != "link":
        changed.chmod(0o777)
        assert not interpreter.is_root_controlled(path)


def test_the_first_suitable_interpreter_is_chosen(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, system = short_path / "own", short_path / "system"
    for path in (own, system):
        path.touch()
        path.chmod(0o755)
    monkeypatch.setattr(interpreter, "SYSTEM_PYTHON", os.fsencode(system))
    assert interpreter.choose(os.fsencode(own), is_named=False) == os.fsencode(own)
    os.chown(own, 65534, -1)
    assert interpreter.choose(os.fsencode(own), is_named=False) == os.fsencode(system)
    assert interpreter.choose(os.fsencode(own), is_named=True) == os.fsencode(own)
    own.chmod(0o700)
    assert interpreter.choose(os.fsencode(own), is_named=True) == os.fsencode(system)
    system.unlink()
    assert interpreter.choose(os.fsencode(own), is_named=False) == os.fsencode(own)
