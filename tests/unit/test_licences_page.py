"""docs/licences.md lists every package, and the files that use Ansible."""

from __future__ import annotations

import re

from tests.support.session import repository

PAGE = (repository / "docs/licences.md").read_text()
PACKAGE = repository / "pmitogen"


def test_every_package_is_listed() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages <= set(re.findall(r"`pmitogen/(\w+)/`", PAGE))


def test_files_that_use_ansible_are_named() -> None:
    """Files outside pmitogen/ansible, all of which must be GPL."""
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        if re.search(r"^\s*(?:from|import) ansible\b", path.read_text(), re.M) and not name.startswith("ansible/"):
            assert f"`{name}`" in PAGE, name
