"""docs/ssh-options.md, made from the tables of keywords and flags. A test holds the file equal to this."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pmitogen.flags.ssh.command_line_flags import FLAGS
from pmitogen.flags.ssh.keywords import ALIASES, BLOCK_KEYWORDS, OBSOLETE, ROWS, Row

_HEAD = """\
# Options of ssh

What becomes of every keyword of ssh_config(5) and every flag of ssh(1). This page is made from the program's own tables:
`python -m pmitogen.flags.ssh.keywords > docs/ssh-options.md`. For one command line, `pmitogen explain ssh -- ARGS... HOST` says
the same.

- **honoured**: it does what it does in ssh.
- **emulated**: it does so by other means, or within the limits named.
- **harmless**: it is accepted, and has no effect here.
- **refused**: it is an error before anything is connected when it is given for us (`ssh_args` and its like, a `-F` file). In
  `~/.ssh/config` and `/etc/ssh/ssh_config`, which are there for people's own sessions, it is ignored with a warning; where
  *always* is added, it is an error there too.

Files are read as ssh reads them: first value wins, `Host`, `Match` and `Include`, quotes, tokens, `${VARIABLES}`, a second pass
where `CanonicalizeHostname` or `Match final` asks for one. A word that no table knows is an error, unless `IgnoreUnknown` names
it.
"""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def _keyword(row: Row) -> tuple[str, ...]:
    verdict = row.verdict.value + (", always" if row.strict else "")
    aliases = [name for name, key in ALIASES.items() if key == row.key]
    also = f" Also: {', '.join(aliases)}." if aliases else ""
    return row.name, f"`{row.kind.syntax}`", f"`{row.default}`" if row.default else "", verdict, row.effect + also


def _flags() -> Iterator[tuple[str, ...]]:
    for flag in sorted(FLAGS.values(), key=lambda flag: (flag.letter.lower(), flag.letter)):
        yield f"-{flag.letter}" + (f" {flag.argument}" if flag.argument else ""), flag.verdict.value, flag.effect


def document() -> str:
    """The whole page."""
    lines = [_HEAD, "## Flags", "", *_table(("flag", "verdict", "effect"), _flags()), ""]
    keywords = (_keyword(row) for row in ROWS)
    lines += ["## Keywords", "", *_table(("keyword", "value", "default", "verdict", "effect"), keywords), ""]
    structure = ((name.capitalize(), why) for name, why in BLOCK_KEYWORDS.items())
    lines += ["## Structure of files", "", *_table(("keyword", "effect"), structure), ""]
    ignored = ((name, why) for name, why in sorted(OBSOLETE.items()))
    lines += ["## Old keywords", "", "They are harmless.", "", *_table(("keyword", "why"), ignored), ""]
    return "\n".join(lines)
