"""The cached bundle beside Python's bytecode is used only if no other user can have written it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pmitogen.hub import artifact_cache

pytestmark = pytest.mark.needs_root
MADE = iter(bytes([index]) for index in range(100))


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(artifact_cache.importlib.util, "cache_from_source", lambda _path: str(tmp_path / "x.pyc"))
    monkeypatch.setattr(artifact_cache.sys, "dont_write_bytecode", False)
    return tmp_path


def _artifact() -> bytes:
    return artifact_cache.cached("name", (), lambda: next(MADE))


def test_the_artifact_is_made_once(directory: Path) -> None:
    first = _artifact()
    assert _artifact() == first
    (path,) = directory.iterdir()
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.chmod(0o666),
        lambda path: os.chown(path, 12345, 0),
        lambda path: os.link(path, path.with_name("second")),
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
    ],
    ids=["mode", "owner", "names", "content"],
)
def test_a_file_that_others_could_write_is_replaced(directory: Path, spoil: Callable[[Path], object]) -> None:
    first = _artifact()
    (path,) = directory.iterdir()
    spoil(path)
    second = _artifact()
    assert second != first and _artifact() == second
