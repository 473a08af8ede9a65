"""The public checks run only the Makefile's targets. make lint compares them with the schema of workflows."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.session import repository

yaml = pytest.importorskip("yaml")
WORKFLOWS = sorted((repository / ".github/workflows").glob("*.yml"))
MAKEFILE = (repository / "Makefile").read_text()
# Commands that prepare a checkout, or pass files from one job to the next.
OTHERS = ("git config ", "test -e ", "mkdir dist && cp ")

pytestmark = pytest.mark.skipif(not WORKFLOWS, reason="a source distribution has no workflows")


def _commands(path: Path) -> list[str]:
    jobs = yaml.safe_load(path.read_text())["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_each_command_is_a_target_of_the_makefile(path: Path) -> None:
    (phony,) = re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.M)
    found = [command for command in _commands(path) if not command.startswith(OTHERS)]
    assert found
    for command in found:
        make = re.fullmatch(r"make ([a-z-]+)((?: [A-Z]+=\S+| PY=\$\{\{ matrix\.python \}\})*)", command)
        assert make and make[1] in phony.split(), command
        for variable in re.findall(r"([A-Z]+)=", make[2]):
            assert f"$({variable})" in MAKEFILE, command


def _unit_pythons() -> list[str]:
    checks = yaml.safe_load((repository / ".github/workflows/checks.yml").read_text())
    return list(checks["jobs"]["unit"]["strategy"]["matrix"]["python"])


def test_the_workflows_use_the_pythons_of_the_package() -> None:
    classifiers = re.findall(r"Python :: (3\.\d+)", (repository / "pyproject.toml").read_text())
    assert set(_unit_pythons()) >= set(classifiers)


def test_each_python_gets_an_ansible_core_that_supports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("prepare_tool", repository / "tools/prepare.py")
    assert spec and spec.loader
    prepare: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(prepare)
    monkeypatch.setattr(prepare, "find_python", lambda version: f"python{version}")
    for python in _unit_pythons():
        core, chosen = prepare.choose(prepare.MAIN_CORES, python)
        assert chosen == f"python{python}" and python in prepare.PYTHONS_OF_CORE[core]
    assert prepare.choose(prepare.MAIN_CORES, "3.9") is None
