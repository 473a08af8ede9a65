"""``pmitogen explain``: show how the options of ssh, sudo, su or doas are resolved, and the support of each.

For ssh this replaces ``ssh -G``. It makes no connection and runs no command.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pmitogen.cli.errors import CommandLineError
from pmitogen.cli.json_output import print_json

MAX_COLUMN_WIDTH = 40  # characters, except for the last column; a wider cell shifts the rest of its line only

# A conflict of flags is an error in a become program; in ssh, one of the two options has no effect.
_FAILING = {"ssh": {"refused"}, "sudo": {"refused", "conflict"}, "su": {"refused", "conflict"}, "doas": {"refused", "conflict"}}


def run(options: argparse.Namespace) -> int:
    """Print the explanation, as JSON or as a table. 1 if anything is refused."""
    answer = _explain(options.program, options.config, options.arguments)
    if options.json:
        print_json(answer)
    else:
        print("\n".join(_table(answer)))
    return int(any(entry["verdict"] in _FAILING[options.program] for entry in answer["report"]))


def _explain(program: str, config: str | None, arguments: Sequence[str]) -> Mapping[str, Any]:
    if program == "ssh":
        from pmitogen.flags.ssh.report.explain import explain_ssh

        if not arguments:
            raise CommandLineError("no host; usage: pmitogen explain ssh [SSH OPTIONS] HOST")
        return explain_ssh([*(["-F", config] if config is not None else []), *arguments])
    if config is not None:
        raise CommandLineError(f"-F {config}: only ssh reads a configuration file; remove -F")
    from pmitogen.flags.become.plan import explain_become

    return explain_become(program, list(arguments))


def _table(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the options, in two columns, and of the report, in four."""
    if "host" in answer:
        yield f"host {answer['host']}"
    options = [(name, text) for name, value in answer["options"].items() for text in _texts(value)]
    yield from _columns(options)
    report = [(entry["verdict"], entry["option"], entry["from"], entry["why"]) for entry in answer["report"]]
    if report:
        yield ""
        yield from _columns([("VERDICT", "OPTION", "FROM", "WHY"), *report])


def _texts(value: object) -> list[str]:
    """Return the value of an option as text, one entry for each value of a list."""
    if isinstance(value, (list, tuple)):
        return [str(each) for each in value] or [""]
    return ["yes" if value is True else "no" if value is False else "" if value is None else str(value)]


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the rows as aligned lines. The last column is not padded."""
    if not rows:
        return
    widths = [min(MAX_COLUMN_WIDTH, max(len(row[column]) for row in rows)) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join([*cells, row[-1]]).rstrip()
