"""The documentation site: its menu has every page, and the check of links finds what is wrong with a built site."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.session import repository

CHECK = repository / "tools/docs/links.py"


def _pages(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for item in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from _pages(item)


def test_each_page_of_the_menu_exists() -> None:
    """In docs/, or made by tools/docs/pages.py. A page that the menu lacks is added to its end."""
    yaml = pytest.importorskip("yaml")
    settings = yaml.safe_load((repository / "mkdocs.yml").read_text())
    made = (repository / "tools/docs/pages.py").read_text()
    for page in _pages(settings["nav"]):
        name = page.removeprefix("api/").removesuffix(".md") if page.startswith("api/") else page
        assert (repository / "docs" / page).is_file() or f'"{name}"' in made, page
    assert settings["strict"]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "sitemap.xml").write_text("<urlset><url><loc>https://a.example/docs/index.html</loc></url></urlset>")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/other.html").write_text('<h2 id="part">x</h2><a href="../index.html">up</a>')
    return tmp_path


def _problems(site: Path, text: str) -> list[str]:
    (site / "index.html").write_text(text)
    spec = importlib.util.spec_from_file_location("site_links", CHECK)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.problems(site))


@pytest.mark.parametrize(
    "good",
    [
        '<a href="deep/other.html#part">x</a>',
        '<a id="here"></a><a href="#here">x</a>',
        '<a href="/docs/deep/other.html">x</a>',
        '<a href="https://elsewhere.example/">x</a><a href="mailto:a@b.example">x</a>',
        '<link rel="canonical" href="https://a.example/docs/index.html">',
    ],
)
def test_what_is_right(site: Path, good: str) -> None:
    assert not _problems(site, good)


@pytest.mark.parametrize(
    "bad, expected",
    [
        ('<a href="nowhere.html">x</a>', "nowhere.html: no such file"),
        ('<a href="deep/other.html#none">x</a>', "no such part"),
        ('<img src="none.png">', "no such file"),
        ('<script src="https://cdn.example/x.js"></script>', "from a network"),
        ('<link rel="stylesheet" href="//fonts.example/x.css">', "from a network"),
    ],
)
def test_what_is_wrong(site: Path, bad: str, expected: str) -> None:
    (found,) = _problems(site, bad)
    assert found.startswith("index.html: ") and expected in found


def test_a_style_sheet_that_loads_from_a_network(site: Path) -> None:
    (site / "site.css").write_text("@font-face { src: url(https://fonts.example/f.woff2) }")
    assert _problems(site, "") == ["site.css: loads https://fonts.example/f.woff2 from a network"]


def test_the_command(site: Path) -> None:
    (site / "index.html").write_text('<a href="nowhere.html">x</a>')
    args = [sys.executable, str(CHECK), str(site)]
    done = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1 and done.stderr == "links: index.html: nowhere.html: no such file\n"
    assert subprocess.run(args[:2], capture_output=True, timeout=30).returncode == 2


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not (repository / ".git").exists(), reason="not a git checkout")
def test_make_docs_on_a_clone(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--no-tags", repository, clone], check=True)
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(["make", "docs"], cwd=clone, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in ("index", "api/host", "command-reference", "changelog", "protocol"):
        assert (clone / f"build/site/{page}.html").is_file()
