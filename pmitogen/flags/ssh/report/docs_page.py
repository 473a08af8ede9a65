"""docs/ssh-options.md, made from the tables of keywords and flags.

``python -m pmitogen.flags.ssh.report.docs_page`` prints it; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pmitogen.flags.ssh.command_line_flags import FLAGS
from pmitogen.flags.ssh.keywords import ALIASES, BLOCK_KEYWORDS, OBSOLETE, ROWS, Keyword
from pmitogen.flags.ssh.report import in_commands

_HEAD = """\
# Options of ssh

The effect of every keyword of ssh_config(5) and every flag of ssh(1). This page is generated from the program's tables:
`python -m pmitogen.flags.ssh.report.docs_page > docs/ssh-options.md`. For one command line,
`pmitogen explain ssh -- ARGS... HOST` prints the same.

- **honoured**: as in ssh.
- **emulated**: by other means, or within the limits named.
- **harmless**: accepted, without effect.
- **refused**: an error before any connection, if the option is given to pmitogen (`ssh_args` and similar options, a `-F` file).
  In `~/.ssh/config` and `/etc/ssh/ssh_config`, which serve all of the user's sessions, it is ignored with a warning; with
  *always*, it is an error there too.

These are the verdicts for plays and for the library, which also honours `-L`, `-R` and `-D` and their keywords. Options that only
`pmitogen ssh` honours are listed under [With pmitogen ssh](#with-pmitogen-ssh); the other commands pass their options to it.

Files are read as ssh reads them: first value wins, `Host`, `Match` and `Include`, quotes, tokens, `${VARIABLES}`, a second pass
with `CanonicalizeHostname` or `Match final`. An unknown keyword is an error, unless `IgnoreUnknown` matches it.
"""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def _keyword(row: Keyword) -> tuple[str, ...]:
    verdict = row.verdict.value + (", always" if row.strict else "")
    aliases = [name for name, key in ALIASES.items() if key == row.key]
    also = f" Also: {', '.join(aliases)}." if aliases else ""
    return row.name, f"`{row.value_type.syntax}`", f"`{row.default}`" if row.default else "", verdict, row.effect + also


def _flags() -> Iterator[tuple[str, ...]]:
    for flag in sorted(FLAGS.values(), key=lambda flag: (flag.letter.lower(), flag.letter)):
        yield f"-{flag.letter}" + (f" {flag.argument}" if flag.argument else ""), flag.verdict.value, flag.effect


def document() -> str:
    """Return the page as Markdown."""
    lines = [_HEAD, "## Flags", "", *_table(("flag", "verdict", "effect"), _flags()), ""]
    keywords = (_keyword(row) for row in ROWS)
    lines += ["## Keywords", "", *_table(("keyword", "value", "default", "verdict", "effect"), keywords), ""]
    commands = [*((f"-{letter}", effect) for letter, effect in in_commands.FLAGS.items()), *in_commands.KEYWORDS.items()]
    lines += ["## With pmitogen ssh", "", *_table(("option", "effect"), commands), ""]
    structure = ((name.capitalize(), reason) for name, reason in BLOCK_KEYWORDS.items())
    lines += ["## Structure of files", "", *_table(("keyword", "effect"), structure), ""]
    ignored = ((name, reason) for name, reason in sorted(OBSOLETE.items()))
    lines += ["## Old keywords", "", "They have no effect.", "", *_table(("keyword", "why"), ignored), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    print(document(), end="")
