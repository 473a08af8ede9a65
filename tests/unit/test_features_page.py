"""The page of features names existing tests, in one row for each feature."""

from __future__ import annotations

import re

from tests.support import session

PAGE = session.repository / "docs/features.md"


def test_every_row_names_existing_tests() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\| (.*) \|$", PAGE.read_text(), re.M)
    numbers = [int(number) for number, _ in rows]
    assert numbers == sorted(set(numbers)) and numbers[:31] == list(range(1, 32))
    for number, shown in rows:
        file = ""
        for word in re.findall(r"`([^`]+)`", shown):
            path, _, test = word.partition("::")
            file = path or file
            if file.startswith(("tests/", "bench/")):
                assert (session.repository / file).exists(), f"row {number}: {file}"
            if test:
                assert f"def {test}(" in (session.repository / file).read_text(), f"row {number}: {word}"
            if file.endswith(".yml"):
                assert (session.repository / "tests/ansible/differential/plays" / file).exists(), f"row {number}: {file}"
