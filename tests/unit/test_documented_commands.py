"""Commands in the documentation exist, with their options, in the documented form."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Iterator

import pytest

from pmitogen import cli
from pmitogen.cli import manual
from pmitogen.cli.completion import commands
from tests.support.session import repository

PAGES = [repository / "README.md", *sorted((repository / "docs").glob("*.md"))]
THREADS = "architecture.md"  # names of threads in it look like commands
NAMES = {one.name for one in commands()}
OTHERS = {"ssh", "keygen", "agent", "add", "copy-id"}  # their command lines are those of OpenSSH's programs


def _command_lines() -> Iterator[tuple[str, list[str]]]:
    """Yield each command line of pmitogen in a code block, or in code inside a sentence."""
    for page in PAGES:
        if page.name == THREADS:
            continue
        text = re.sub(r"^\| `[^`]*` \|", "|", page.read_text(), flags=re.M)  # messages in the first column
        found = re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S)
        blocks = "\n".join(block for kind, block in found if kind in ("", "sh"))
        lines = re.findall(r"^(?:[A-Z_]+=\S+ )*(pmitogen .*)$", blocks, re.M) + re.findall(r"`(pmitogen [^`]+)`", text)
        for line in lines:
            with contextlib.suppress(ValueError):  # a quotation that ends on another line
                yield f"{page.name}: {line}", shlex.split(line.partition(" > ")[0], comments=True)[1:]


TYPED = dict(_command_lines())


def test_the_documentation_has_commands() -> None:
    assert len(TYPED) > 30


def test_the_manual_has_the_options_of_commands_that_take_those_of_ssh() -> None:
    page = "\n".join(manual.page()).replace("\\-", "-")
    assert "pmitogen trust [--json] [--fingerprint SHA256:...] [SSH OPTIONS] HOST" in page
    assert "usage: pmitogen ping [SSH OPTIONS] HOST" in page and "-vv adds the messages" in page


def _help(command: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) if command in OTHERS else contextlib.nullcontext():
        cli.main([command, "--help"])
    return out.getvalue()


@pytest.mark.parametrize("line", sorted(TYPED))
def test_each_documented_command_exists_with_its_options(line: str) -> None:
    args = TYPED[line]
    if args[0].startswith("-"):
        assert args[0] in ("--version", "--help")
        return
    for name in args[0].split("|"):
        assert name in NAMES, f"{line}: no such command"
    if args[0] in OTHERS or args[0] == "explain":  # arguments of explain are options of ssh and sudo
        return
    shown = _help(args[0])
    for option in re.findall(r"--[a-z][a-z-]+", " ".join(args[1:])):
        assert option in shown, f"{line}: no option {option}"
