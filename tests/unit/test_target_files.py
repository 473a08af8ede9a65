"""Small operations on an account's files: pmitogen/target/files.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from pmitogen.target import files


@pytest.mark.usefixtures("another_process_makes_directories")
def test_directories_that_another_process_creates_are_used(tmp_path: Path) -> None:
    """Two hosts of an inventory may be the same account, and both create its temporary directory first."""
    answer = files.mkdtemp({"name": "mine", "bases": [str(tmp_path / ".ansible" / "tmp")]})
    assert answer == {"path": str(tmp_path / ".ansible" / "tmp" / "mine")}
    assert (tmp_path / ".ansible" / "tmp" / "mine").stat().st_mode & 0o777 == 0o700


def test_directories_that_cannot_be_created_are_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Not a directory|File exists"):
        files.mkdtemp({"name": "mine", "bases": [str(tmp_path / "file"), str(tmp_path / "file" / "under")]})
