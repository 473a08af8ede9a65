"""The description on the package index: README.md with absolute links. Everything else is in pyproject.toml."""

import posixpath
import re
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).resolve().parent
# Files of the repository that the documentation site shows under another name.
PAGES = {"CONTRIBUTING.md": "contributing.html", "CHANGELOG.md": "changelog.html", "SECURITY.md": "security-policy.html"}


def description() -> str:
    """Return README.md with links to the documentation site, whose address is in pyproject.toml alone."""
    (site,) = re.findall(r'^Documentation = "(.+)"$', (HERE / "pyproject.toml").read_text(encoding="utf-8"), re.M)

    def absolute(found: "re.Match[str]") -> str:
        target, _, part = found[1].partition("#")
        page = PAGES.get(target) or re.sub(r"\.md$", ".html", posixpath.relpath(target, "docs"))
        return f"]({posixpath.join(site, page)}{'#' + part if part else ''})"

    return re.sub(r"\]\((?!https?:|#)([^)\s]+)\)", absolute, (HERE / "README.md").read_text(encoding="utf-8"))


setup(long_description=description(), long_description_content_type="text/markdown")
