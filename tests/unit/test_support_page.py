"""docs/support.md has the versions that are tested."""

from __future__ import annotations

import importlib.util
import re

from tests.support.session import repository


def test_every_ansible_core_with_its_pythons() -> None:
    spec = importlib.util.spec_from_file_location("prepare_tool", repository / "tools/prepare.py")
    assert spec and spec.loader
    prepare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(prepare)
    page = (repository / "docs/support.md").read_text()
    listed = dict(re.findall(r"^\| (2\.\d+) \| ([^|]+) \|", page, re.M))
    assert {core: set(pythons.split(", ")) for core, pythons in listed.items()} == {
        core: set(pythons) for core, pythons in prepare.PYTHONS_OF_CORE.items()
    }
