"""The public CI definition parses, and runs nothing but targets of the Makefile and a few plain commands."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.session import repository

yaml = pytest.importorskip("yaml")
if not (repository / ".github/workflows").is_dir():
    pytest.skip("the source distribution has no CI definition", allow_module_level=True)

WORKFLOWS = sorted((repository / ".github/workflows").glob("*.yml"))
PLAIN = re.compile(r"git config --global --add safe\.directory |test -e |mkdir dist && cp ")


def _load(path: Path) -> dict[Any, Any]:
    loaded = yaml.safe_load(path.read_text())
    assert isinstance(loaded, dict)
    return loaded


def _steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in _load(path)["jobs"].values() for step in job["steps"]]


def _commands() -> list[str]:
    return [line for path in WORKFLOWS for step in _steps(path) for line in step.get("run", "").splitlines() if line]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_parses_and_grants_little(path: Path) -> None:
    workflow = _load(path)
    assert workflow["name"] == path.stem and workflow["jobs"]
    assert workflow[True], "yaml reads the key 'on' as true"
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert job["runs-on"] and job["steps"]
        assert set(job.get("permissions", {"id-token": "write"})) == {"id-token"}
    assert all(("uses" in step) != ("run" in step) for step in _steps(path))
    assert all(re.search(r"@(v\d+|release/v1|[0-9a-f]{40})$", step["uses"]) for step in _steps(path) if "uses" in step)


def test_every_command_is_a_target_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (repository / "Makefile").read_text(), re.M))
    called = set()
    for line in _commands():
        words = line.split()
        if words[0] == "make":
            called.add(words[1])
            assert words[1] in targets, line
            assert all(re.fullmatch(r"[A-Z]+=.*|\$\{\{|\}\}|matrix\.python", word) for word in words[2:]), line
        else:
            assert PLAIN.match(line), line
    assert {"lint", "unit", "portable", "unit-oldest", "unit-upstream", "test", "test-all", "docs", "release"} <= called


def test_make_knows_what_to_do_for_each() -> None:
    for line in {re.sub(r"\$\{\{.*?\}\}", "3.12", line) for line in _commands()}:
        if line.startswith("make "):
            done = subprocess.run(["make", "-n", *line.split()[1:]], cwd=repository, capture_output=True, text=True, timeout=30)
            assert done.returncode == 0 and "prepare.py" in done.stdout, line + done.stderr


def test_every_promised_python_is_tested() -> None:
    promised = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (repository / "pyproject.toml").read_text())
    tested = _load(repository / ".github/workflows/checks.yml")["jobs"]["unit"]["strategy"]["matrix"]["python"]
    assert promised and set(promised) <= set(tested)


def test_the_listed_portable_tests_exist() -> None:
    done = subprocess.run(["make", "-n", "portable"], cwd=repository, capture_output=True, text=True, timeout=30)
    files = re.findall(r"tests/unit/\S+\.py", done.stdout)
    assert len(files) > 8 and all((repository / name).is_file() for name in files)
