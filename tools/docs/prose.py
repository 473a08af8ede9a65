#!/usr/bin/env python3
"""Check the English of pages, docstrings and comments: ``prose.py [FILE ...]``, by default of the repository's pages and package.

RULES has the rules of CONTRIBUTING.md that a program can check; on pages, proselint adds the common mistakes of English. Only
prose is read: no code, no addresses, and no quotations. A finding is one line: file, line, what is wrong, what to write
instead.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from proselint.checks import __register__
from proselint.config import DEFAULT, Config
from proselint.registry import CheckRegistry
from proselint.tools import LintFile

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PAGES = ("*.md", "docs/*.md", "pmitogen/protocol/*.md", "ansible_collections/pmitogen/core/*.md", ".github/**/*.md")
CODE = ("pmitogen/**/*.py",)
LONGEST = 32  # words of one sentence; a colon or semicolon ends one

# What proselint knows, without the checks that are matters of typesetting or have no place in a manual of programs.
UNUSED = (
    "typography",  # straight quotes and three dots are what terminals and keyboards have
    "misc.phrasal_adjectives",
    "spelling.consistency",  # BRITISH has more pairs, and says which one
)


class Rule(NamedTuple):
    """A pattern, case-insensitive, and what to write instead."""

    pattern: str
    instead: str


RULES = (
    Rule(r"\bfolders?\b", "directory"),
    Rule(r"\bbut for\b", "except"),
    Rule(r"\bfor ever\b", "forever"),
    Rule(r"\b(?:ours|theirs|yours|nobody's|stranger|strangers|doomed|moods?|bells?)\b", "the name of the thing"),
    Rule(r"\b(?:whoever|whomever|whosoever)\b", "anyone who, or the name of the role"),
    Rule(r"\b(?<!there )(?:is|are|was|were) no (?!longer|more\b|less|such)(?:\w+)(?=[.,;:]| \w+(?:ed|s)\b)", "is not a ..."),
    Rule(
        r"\bof (?:pmitogen|ssh|OpenSSH|Ansible|Paramiko|Mitogen|Python|Debian)'s"
        r"(?=\W*$|[.,;:)]| (?:is|are|was|and|or|in|on|that|which|under|while)\b)",
        "of NAME, without 's",
    ),
    Rule(r"(?:^|(?<=[.!] ))What (?:\w+ ){0,3}(?:is|are|was|has|have|keeps?|goes|comes|ends?)\b[^?|]*$", "a noun as the subject"),
    Rule(r"\bwhole or not at all\b", "atomically"),
    Rule(r"\bholes?\b", "vulnerability"),
    Rule(r"\bstands? against\b", "prevents"),
    Rule(r"\b(?:has|have|had) not(?=[.,;:]|$)", "does not have"),
    Rule(r"\b(?:perhaps|rather|quite|very|simply|just|easily|obviously|of course)\b", "nothing"),
    Rule(r"\b(?:lest|albeit|thereof|therein|hereby|whence|hence|thus|notwithstanding|save for|betwixt)\b", "a plain word"),
    Rule(r"\b(?:utili[sz]e[sd]?|leverage[sd]?)\b", "use"),
    Rule(r"\bin order to\b", "to"),
    Rule(r"\bhostkeys?\b", "host key"),
    Rule(r"\bhost-keys?\b", "host key"),
    Rule(r"\b(?:master|slave) (?:node|host)\b", "controller, target"),
    Rule(r"\b(?:remote machine|managed node|managed host)s?\b", "target, or host"),
    Rule(r"\b(?:sanity|dummy|blacklist|whitelist)\b", "check, placeholder, deny list, allow list"),
)
# Names are written as their owners write them.
NAMES = ("Ansible", "Mitogen", "OpenSSH", "Paramiko", "Python", "pmitogen", "Debian", "Linux", "BusyBox", "SFTP", "SSH", "YAML")
ELSEWHERE = ("ssh", "sftp", "ansible", "python", "mitogen", "paramiko")  # also names of programs, variables and packages
BRITISH = {
    "behavior": "behaviour",
    "color": "colour",
    "center": "centre",
    "catalog": "catalogue",
    "favor": "favour",
    "honor": "honour",
    "neighbor": "neighbour",
    "canceled": "cancelled",
    "canceling": "cancelling",
    "labeled": "labelled",
    "license": "licence",
    "defense": "defence",
    "artifact": "artefact",
    "gray": "grey",
    "analyze": "analyse",
    "fulfill": "fulfil",
    "judgment": "judgement",
}
# In docstrings: an indented block after ``::``, and a table.
_LITERAL_BLOCK = re.compile(r"(?<=::)\n\n(?P<indent> +)\S.*\n(?:(?P=indent).*\n|\n)*")
_TABLE = re.compile(r"^ *=+  =.*\n(?:.*\S.*\n)+", re.M)
_IZE = re.compile(
    r"\b(\w*(?:recogn|optim|initial|normal|organ|serial|minim|maxim|synchron|summar|custom|author|canonical|character|capital"
    r"|util|final|penal|standard|general|special|real))iz(e|es|ed|er|ing|ation|ations)\b",
    re.I,
)


class Finding(NamedTuple):
    line: int
    text: str


def prose_of(text: str) -> str:
    """Return *text*, of the same length and lines, with what is not prose replaced by ``§``."""

    def blank(found: re.Match[str]) -> str:
        return re.sub(r"[^\n]", "§", found[0])

    for pattern in (
        r"^(```|~~~).*?^\1",  # blocks of code
        r"<!--.*?-->",
        r"^---\n.*?^---$",  # settings of a template
        r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)",
        r"\]\([^)]*\)",  # the address of a link
        r"https?://\S+",
        r"\"[^\"\n]*\"",  # a quotation
        r"</?[a-z][^>]*>",
    ):
        text = re.sub(pattern, blank, text, flags=re.M | re.S)
    return text


def comments_of(source: str) -> str:
    """Return the docstrings and comments of the Python *source* as paragraphs of their own, on their own lines."""
    lines = [""] * (source.count("\n") + 2)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(node):
            first = node.body[0].lineno - 1
            text = "\n".join(source.splitlines()[first : node.body[0].end_lineno])
            for pattern in (_LITERAL_BLOCK, _TABLE):
                text = pattern.sub(lambda block: "\n" * block[0].count("\n"), text)
            prose = [re.sub(r'^\s*r?"""|"""$|^\s+', "", line.rstrip()) for line in text.split("\n")]
            lines[first : first + len(prose)] = prose
    previous = -1
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not re.match(r"#!|# (?:type|noqa|fmt|pylint|mypy)\b", token.string):
            row, alone = token.start[0] - 1, token.line.lstrip().startswith("#")
            # A comment beside code is a paragraph: the heading marks keep it apart from those of the next lines.
            lines[row] = ("" if alone and previous == row - 1 else "# ") + token.string.lstrip("# ")
            previous = row if alone else -1
    return "\n".join(lines)


def sentences(prose: str) -> Iterator[tuple[int, str]]:
    """Yield each sentence with its first line. A heading, an item of a list and a cell of a table end one."""
    for block in re.finditer(r"[^\n]+(?:\n(?!\n|[-#|*>]|\d+\. )[^\n]+)*", prose):
        start = 1 + prose.count("\n", 0, block.start())
        for cell in re.split(r"[|·]", block[0]):
            for sentence in re.split(r"(?<=[.!?:;])\s+", cell):
                yield start, " ".join(sentence.split())


def findings(text: str, is_code: bool = False) -> list[Finding]:
    """Return what is wrong with the Markdown *text*, in the order of its lines. *is_code*: it is a result of comments_of."""
    prose = prose_of(text)
    if is_code:
        prose = re.sub(r":\w+:§+|:param \w+:|\b_?\w+\(\)|\b\w+_\w+\b", lambda found: "§" * len(found[0]), prose)
    found = []

    def add(position: int, said: str) -> None:
        found.append(Finding(1 + prose.count("\n", 0, position), said))

    for rule in RULES:
        for each in re.finditer(rule.pattern, prose, re.I | re.M):
            add(each.start(), f"{each[0].splitlines()[0][:40]!r}: write {rule.instead}")
    for american, british in BRITISH.items():
        for each in re.finditer(rf"\b{american}(?:s|ed|ing|ful|al)?\b", prose, re.I):
            add(each.start(), f"{each[0]!r}: write {british}")
    for each in _IZE.finditer(prose):
        add(each.start(), f"{each[0]!r}: write {each[1]}is{each[2]}")
    for name in () if is_code else NAMES:
        for each in re.finditer(rf"(?<![\w./~-]){name}(?![\w./-]*\w)", prose, re.I):
            if each[0] != name and each[0] not in ELSEWHERE:
                add(each.start(), f"{each[0]!r}: write {name}")
    for line, sentence in sentences(prose):
        count = len(sentence.split())
        if count > LONGEST:
            found.append(Finding(line, f"a sentence of {count} words, from {re.sub('§+', '`', sentence)[:40]!r}: split it"))
    for result in [] if is_code else LintFile("page", prose).lint(_settings()):
        start, end = (each - 1 for each in result.check_result.span)  # it puts a line break before the text
        if not re.search(r"[§\n]", prose[start:end]):  # a heading and the line below it may begin alike
            add(start, f"{prose[start:end]!r}: {result.check_result.message} ({result.check_result.check_path})")
    return sorted(set(found))


def _settings() -> Config:
    checks = {**dict.fromkeys(UNUSED, False), **DEFAULT["checks"]}
    return Config(max_errors=1000, checks={name: name not in UNUSED and on for name, on in checks.items()})


def use_proselint() -> None:
    """Load proselint's checks. Call it once in a process, before :func:`findings`."""
    CheckRegistry().register_many(__register__)


def main(arguments: Sequence[str]) -> int:
    use_proselint()
    paths = [Path(name) for name in arguments] or sorted({path for pattern in PAGES + CODE for path in REPOSITORY.glob(pattern)})
    count = 0
    for path in paths:
        text, is_code = path.read_text(encoding="utf-8"), path.suffix == ".py"
        for line, said in findings(comments_of(text) if is_code else text, is_code):
            print(f"{path.relative_to(REPOSITORY) if path.is_absolute() else path}:{line}: {said}")
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
