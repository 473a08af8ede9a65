"""``pmitogen explain``: what becomes of the options of ssh, sudo, su or doas, before any of them is used.

For ssh it stands in for ``ssh -G``: the resolved options, and for each that was given whether it is honoured.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pmitogen.cli.errors import WrongWords

_WIDEST = 40  # characters of a column, but for the last; one that is wider only shifts its own line

# Among the flags of a become program a conflict means that the program refuses them; among ssh's that one has no effect.
_FAILING = {"ssh": {"refused"}, "sudo": {"refused", "conflict"}, "su": {"refused", "conflict"}, "doas": {"refused", "conflict"}}


def run(options: argparse.Namespace) -> int:
    """Print the explanation, as JSON or as a table. 1 if anything is refused."""
    answer = _explain(options.program, options.config, options.words)
    if options.json:
        print(json.dumps(answer, indent=2))
    else:
        print("\n".join(_table(answer)))
    return int(any(entry["verdict"] in _FAILING[options.program] for entry in answer["report"]))


def _explain(program: str, config: str | None, words: Sequence[str]) -> Mapping[str, Any]:
    if program == "ssh":
        from pmitogen.flags.ssh.report.explain import explain_ssh

        if not words:
            raise WrongWords("no host: write pmitogen explain ssh [SSH OPTIONS] HOST")
        return explain_ssh([*(["-F", config] if config is not None else []), *words])
    if config is not None:
        raise WrongWords(f"-F {config}: {program} has no configuration file to name: leave -F out")
    from pmitogen.flags.become.plan import explain_become

    return explain_become(program, list(words))


def _table(answer: Mapping[str, Any]) -> Iterator[str]:
    """The options in two columns, then the report in four."""
    if "host" in answer:
        yield f"host {answer['host']}"
    options = [(name, text) for name, value in answer["options"].items() for text in _texts(value)]
    yield from _columns(options)
    report = [(entry["verdict"], entry["option"], entry["from"], entry["why"]) for entry in answer["report"]]
    if report:
        yield ""
        yield from _columns([("VERDICT", "OPTION", "FROM", "WHY"), *report])


def _texts(value: object) -> list[str]:
    """The value or values of an option, a line for each."""
    if isinstance(value, (list, tuple)):
        return [str(each) for each in value] or [""]
    return ["yes" if value is True else "no" if value is False else "" if value is None else str(value)]


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows under one another, the last column as wide as it likes."""
    if not rows:
        return
    widths = [min(_WIDEST, max(len(row[column]) for row in rows)) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join([*cells, row[-1]]).rstrip()
