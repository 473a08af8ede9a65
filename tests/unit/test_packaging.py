"""Distributions: one version, complete and reproducible wheels and source distributions, a description that renders."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import pmitogen
from tests.support.session import repository

EPOCH = 1700000000
COLLECTION = repository / "ansible_collections/pmitogen/core"
in_git = pytest.mark.skipif(not (repository / ".git").exists(), reason="needs a git checkout")


def _run(*args: object, cwd: Path = repository) -> str:
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}
    done = subprocess.run(
        list(map(str, args)), cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _release_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release_tool", repository / "tools/release.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _files() -> list[str]:
    if not (repository / ".git").exists():
        skipped = ("/.venv", "/build/", "/dist/", "__pycache__", ".egg-info")
        found = (path for path in repository.rglob("*") if path.is_file())
        return [str(path.relative_to(repository)) for path in found if not any(word in f"/{path}" for word in skipped)]
    listed = _run("git", "ls-files", "-co", "--exclude-standard").splitlines()
    return [name for name in listed if (repository / name).is_file()]


def _build(place: Path) -> Path:
    """Build source distribution and wheel from a copy, because setuptools writes into the source; return their directory."""
    source, out = place / "source", place / "out"
    for name in _files():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(repository / name, source / name)
    _run(sys.executable, "-m", "build", "-q", "--no-isolation", "--outdir", out, source, cwd=source)
    return out


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    pytest.importorskip("build")
    place = tmp_path_factory.mktemp("built")
    yield _build(place)
    shutil.rmtree(place)


def _wheel(directory: Path) -> Path:
    (found,) = directory.glob("pmitogen-*.whl")
    return found


def _sdist(directory: Path) -> Path:
    (found,) = directory.glob("pmitogen-*.tar.gz")
    return found


def test_one_version_everywhere(built: Path) -> None:
    assert pmitogen.__version__ == _release_tool().version_of(repository)
    assert _wheel(built).name.split("-")[1] == pmitogen.__version__
    assert (repository / "CHANGELOG.md").read_text().count(f"\n## {pmitogen.__version__} (") == 1


def test_the_wheel_holds_every_module_the_plugin_and_the_collection(built: Path) -> None:
    held = {name for name in zipfile.ZipFile(_wheel(built)).namelist() if ".dist-info/" not in name}
    modules = {str(path.relative_to(repository)) for path in (repository / "pmitogen").rglob("*.py")}
    collection = {str(path.relative_to(repository)) for path in COLLECTION.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert modules | collection | {"pmitogen/py.typed"} == held
    assert "pmitogen/ansible/plugins/connection/pmitogen.py" in held


def test_the_source_distribution_has_the_tests_and_pages(built: Path) -> None:
    with tarfile.open(_sdist(built)) as tar:
        held = {name.partition("/")[2] for name in tar.getnames()}
    assert {
        "Makefile",
        "LICENSE",
        "CHANGELOG.md",
        "tools/prepare.py",
        "tests/conftest.py",
        "docs/options.md",
        "docs/performance.svg",
    } <= held


@in_git
def test_the_source_distribution_is_complete() -> None:
    pytest.importorskip("check_manifest")
    _run(sys.executable, "-m", "check_manifest", "-q", "--no-build-isolation")


def test_the_metadata_is_complete(built: Path) -> None:
    archive = zipfile.ZipFile(_wheel(built))
    (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
    output = archive.read(name).decode()
    lines = output.partition("\n\n")[0].splitlines()
    assert {"License-Expression: GPL-3.0-or-later", "License-File: LICENSE", "Author: pmitogen contributors"} <= set(lines)
    assert "Requires-Python: >=3.10" in lines and "Provides-Extra: test" in lines
    assert sum(line.startswith("Project-URL: ") for line in lines) >= 4
    required = [line for line in lines if line.startswith("Requires-Dist: ") and "extra ==" not in line]
    assert len(required) == 2 and all("<" in line and ">=" in line for line in required), "each dependency must have bounds"
    assert re.search(r"^pmitogen = pmitogen.cli:main$", archive.read(name.replace("METADATA", "entry_points.txt")).decode(), re.M)


def test_the_description_has_absolute_links_to_one_address(built: Path) -> None:
    archive = zipfile.ZipFile(_wheel(built))
    (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
    output = archive.read(name).decode()
    (site,) = re.findall(r"^Project-URL: Documentation, (.+)$", output, re.M)
    targets = re.findall(r"\]\(([^)]+)\)", output.partition("\n\n")[2])
    assert len(targets) > 15 and all(target.startswith("https://") for target in targets)
    assert {f"{site}summary.svg", f"{site}start.html", f"{site}contributing.html"} <= set(targets)
    assert site not in (repository / "README.md").read_text(), "the address must be in pyproject.toml only"


def test_the_description_renders(built: Path) -> None:
    pytest.importorskip("twine")
    _run(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir())


def test_two_builds_are_equal(built: Path, tmp_path: Path) -> None:
    tool, again = _release_tool(), _build(tmp_path)
    assert _wheel(again).read_bytes() == _wheel(built).read_bytes()
    first, second = (
        shutil.copy(_sdist(directory), tmp_path / f"{index}.tar.gz") for index, directory in enumerate((built, again))
    )
    for path in (first, second):
        tool.normalise(path, EPOCH)
    assert first.read_bytes() == second.read_bytes()
    with tarfile.open(first) as tar, tarfile.open(_sdist(built)) as original:
        assert sorted(tar.getnames()) == sorted(original.getnames())
        assert {member.mtime for member in tar} == {EPOCH} and {member.uname for member in tar} == {""}


@in_git
def test_a_tag_needs_a_date_and_real_addresses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The owner sets both: a dated heading in the change log, and addresses in place of the placeholders."""
    tool = _release_tool()
    names = ("CHANGELOG.md", "SECURITY.md", "galaxy.yml", "tests/x.py")
    answers = {"status": "", "tag": "", "ls-files": "\n".join(names)}
    monkeypatch.setattr(tool, "run", lambda *args, **more: answers[args[1]])
    monkeypatch.setattr(tool, "HERE", tmp_path)
    (tmp_path / "tests").mkdir()
    for name in names:
        (tmp_path / name).write_text("https://ssh.invalid/")
    (tmp_path / "tests/x.py").write_text(tool.PLACEHOLDER)
    (tmp_path / "CHANGELOG.md").write_text("## 1.2.3 (2026-01-02)\n")
    tool.check_taggable("1.2.3")
    for name, text in (
        ("CHANGELOG.md", "## 1.2.3 (not yet released)\n"),
        ("galaxy.yml", f"https://{tool.PLACEHOLDER}/"),
        ("SECURITY.md", "Until the first release this address is a placeholder."),
    ):
        before = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text)
        with pytest.raises(tool.Failure, match=name):
            tool.check_taggable("1.2.3")
        (tmp_path / name).write_text(before)
    for name, wrong in (("status", " M x"), ("tag", "v1.2.3")):
        monkeypatch.setitem(answers, name, wrong)
        with pytest.raises(tool.Failure):
            tool.check_taggable("1.2.3")
        monkeypatch.setitem(answers, name, "")


@in_git
def test_every_placeholder_is_listed_for_the_owner() -> None:
    rows = (repository / "CONTRIBUTING.md").read_text().partition("### Before the first release")[2]
    listed = {name for row in rows.splitlines() if row.startswith("|") for name in re.findall(r"^\| `([^`]+)`", row)}
    assert listed >= set(_release_tool().placeholders())
    assert all((repository / name).is_file() for name in listed)


@pytest.mark.slow
@in_git
@pytest.mark.needs_ansible
@pytest.mark.timeout(900)
def test_make_release_works_on_a_clone(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    _run("git", "clone", "-q", "--no-tags", repository, clone)
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(["make", "release"], cwd=clone, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    names = {path.name for path in (clone / "dist").iterdir()}
    version = pmitogen.__version__
    assert f"pmitogen-core-{version}.tar.gz" in names and f"pmitogen-{version}.cdx.json" in names
    assert "OK" in _run("sha256sum", "--check", "SHA256SUMS", cwd=clone / "dist")
    assert not _run("git", "tag", cwd=clone)
