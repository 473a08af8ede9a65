#!/usr/bin/env python3
"""Writes the plays in the pages' blocks of YAML to files, for ansible-lint: ``plays.py DIRECTORY``"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PAGES = ("README.md", "docs/*.md", "ansible_collections/pmitogen/core/README.md")


def plays() -> Iterator[tuple[str, str]]:
    """Yield each play of the pages with the name of its file: page and line."""
    for path in sorted(each for pattern in PAGES for each in REPOSITORY.glob(pattern)):
        text = path.read_text(encoding="utf-8")
        for block in re.finditer(r"^```yaml\n(.*?)^```", text, re.M | re.S):
            if re.search(r"^(?:- |  )hosts: ", block[1], re.M):
                yield f"{path.stem.lower()}_{text.count(chr(10), 0, block.start(1)) + 1}.yml", "---\n" + block[1]


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: plays.py DIRECTORY", file=sys.stderr)
        return 2
    for name, text in plays():
        (Path(arguments[0]) / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
