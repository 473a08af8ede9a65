"""docs/support.md is the only table of supported versions, and all other files that name versions agree with it."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

import pytest

from tests.ansible.test_target_pythons import OLDEST
from tests.support.session import repository

PAGE = (repository / "docs/support.md").read_text()
PROJECT = (repository / "pyproject.toml").read_text()
ROWS = dict(re.findall(r"^\| (2\.\d+) \| (.+) \|$", PAGE, re.M))
UNTESTED = "3.14*"


@pytest.fixture(scope="module")
def prepare() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_tool", repository / "tools/prepare.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _cell(core: str, column: int) -> str:
    return ROWS[core].split(" | ")[column]


def test_every_ansible_core_has_its_pythons(prepare: ModuleType) -> None:
    listed = {core: set(_cell(core, 0).replace("*", "").split(", ")) for core in ROWS}
    assert listed == {core: set(pythons) for core, pythons in prepare.PYTHONS_OF_CORE.items()}


def test_the_pythons_of_targets_are_tested() -> None:
    """tests/ansible/test_target_pythons.py runs them."""
    assert OLDEST.keys() == ROWS.keys()
    for core, oldest in OLDEST.items():
        text = "2.7, 3.6" if oldest == (2, 7) else "%d.%d" % oldest
        assert _cell(core, 1) == f"{text} and later"


def test_the_makefile_tests_every_version() -> None:
    """make test names one core besides that of .venv; make test-all names the others."""
    makefile = (repository / "Makefile").read_text()
    (always,) = re.findall(r"^test:\n\t@\$\(PREPARE\) (.+)$", makefile, re.M)
    (all_of_them,) = re.findall(r"^test-all:\n\t@\$\(PREPARE\) (.+)$", makefile, re.M)
    for core in ROWS:
        if _cell(core, 2) == "`make test`":
            assert core in always or core == "2.21"  # the first of MAIN_CORES in tools/prepare.py
        else:
            assert core in all_of_them


def test_the_metadata_of_the_package_agrees(prepare: ModuleType) -> None:
    cores = list(prepare.PYTHONS_OF_CORE)
    assert f'ansible = ["ansible-core>={cores[-1]},<{prepare.following(cores[0])}"]' in PROJECT
    pythons = {python for core in ROWS for python in _cell(core, 0).split(", ")} - {UNTESTED}
    assert pythons == set(re.findall(r"Python :: (3\.\d+)", PROJECT))
    oldest = min(pythons, key=lambda version: int(version[2:]))
    assert f'requires-python = ">={oldest}"' in PROJECT


def test_the_bounds_of_paramiko_and_mitogen_agree() -> None:
    assert '"paramiko>=4,<6"' in PROJECT and "| Paramiko | 4 and 5 |" in PAGE
    assert '"mitogen>=0.3.50,<0.4"' in PROJECT and "| Mitogen | 0.3.50 and later 0.3 |" in PAGE


def test_the_readme_agrees() -> None:
    readme = (repository / "README.md").read_text()
    newest = max(
        (python for core in ROWS for python in _cell(core, 0).split(", ") if python != UNTESTED), key=lambda v: int(v[2:])
    )
    assert f"Python 3.10 to {newest}, ansible-core {min(ROWS)} to {max(ROWS)}." in readme
    assert "(docs/support.md)" in readme
