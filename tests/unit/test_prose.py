"""Pages, docstrings and comments are in plain English: tools/docs/prose.py has no findings there, and finds planted mistakes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from types import ModuleType

import pytest

from tests.support.session import repository

CHECK = repository / "tools/docs/prose.py"
pytest.importorskip("proselint")


@pytest.fixture(scope="module")
def prose() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prose_tool", CHECK)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["prose_tool"] = module
    spec.loader.exec_module(module)
    module.use_proselint()
    return module


def test_pages_and_the_package_have_no_findings() -> None:
    done = subprocess.run([sys.executable, CHECK], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "bad, text",
    [
        ("Put it into a folder.", "'folder': write directory"),
        ("The first connection is ours.", "'ours'"),
        ("What keeps a hub from starting is told to all.", "a noun as the subject"),
        ("It uses a process of OpenSSH's.", "without 's"),
        ("Its behavior is the same.", "write behaviour"),
        ("It can be recognized.", "write recognised"),
        ("A run of openssh and PyThon.", "write OpenSSH"),
        ("It is an unnecessary and very easy step.", "'very'"),
        ("It reads the the file.", "phrase is repeated"),
        ("| a | it waits for ever |", "write forever"),
        ("It reads " + "one file and " * 11 + "ends.", "split it"),
    ],
)
def test_mistakes_are_found(prose: ModuleType, bad: str, text: str) -> None:
    found = prose.findings(f"# A page\n\n{bad}\n")
    assert any(text in each.text for each in found), found
    assert {each.line for each in found} == {3}


@pytest.mark.parametrize(
    "good",
    [
        "Run `make folder behavior`, or [this](../folder/behavior.md).",
        "```\nfor ever in folder\n```",
        'The message is "no such folder".',
        "There is no terminal.",
        "The programs ssh and ansible, and OpenSSH's ssh.",
        "## What differs\n\nDifferences are few.",
        "One. " * 40,
        "| one two three four five six seven eight nine ten | " * 4,
    ],
)
def test_correct_text_has_no_findings(prose: ModuleType, good: str) -> None:
    assert prose.findings(f"# A page\n\n{good}\n") == []


CODE = '''"""Reads a table.

See :func:`folder_of`::

    folder = "whatever a hub has, that it keeps for ever, in a folder of ours that is of course quite hidden" * 40

====  ========================
ever  for ever is in a folder
====  ========================
"""

def folder_of(behavior):  # noqa: D103
    """{docstring}"""
    return behavior["for ever"]  # {comment}
'''


@pytest.mark.parametrize(
    ("docstring", "comment", "line", "text"),
    [
        ("Return the name.", "of the reader", 0, ""),
        ("What it has is returned.", "of the reader", 13, "a noun as the subject"),
        ("Return the name.", "it is ours", 14, "'ours'"),
        ("Return " + "one file and " * 11 + "ends.", "of the reader", 13, "split it"),
    ],
)
def test_docstrings_and_comments_of_code_are_checked(
    prose: ModuleType, docstring: str, comment: str, line: int, text: str
) -> None:
    """Names, strings, literal blocks and tables are not checked."""
    code = CODE.replace("{docstring}", docstring).replace("{comment}", comment)
    found = prose.findings(prose.comments_of(code), is_code=True)
    assert [each.line for each in found] == ([line] if line else []), found
    assert all(text in each.text for each in found)
