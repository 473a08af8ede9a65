#!/usr/bin/env python3
"""Runs the tests: ``run_tests.py [--serial] [PYTEST WORD...]``

Two pytests side by side, each with its own accounts, servers and folders, since most tests wait for something: one plays
playbooks, the other does the rest, and some plays, so that both take about as long. What the second says is shown at once,
what the first said when both have ended. With ``--serial`` one follows the other; where a word names a test or a folder, there
is but one.

Fails if either fails, or if anything of theirs is left in /tmp when both have ended (looked for where nobody else is at work,
which CI says of itself). A pytest to which no test was left counts as passed if the other had some.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
LENT = [f"tests/ansible/test_{name}.py" for name in ("entry_points", "failures", "main_path", "modules")]
SHARDS = {
    "plays": ["tests/ansible", *(f"--ignore={path}" for path in LENT)],
    "rest": ["tests/integration", "tests/unit", *LENT],
}
NO_TESTS = 5  # pytest's exit code
_OUR_NAMES = ("pmitogen", "ansible", "mitogen", ".ansible", "_ansible", "pmt-")


def command(name: str, words: list[str], places: Sequence[str] = ()) -> list[str]:
    return [sys.executable, "-m", "pytest", "-o", f"cache_dir=.pytest_cache/{name}", *words, *places]


def side_by_side(words: list[str]) -> list[int]:
    """The exit codes of both."""
    with tempfile.TemporaryFile() as said:
        plays = subprocess.Popen(command("plays", words, SHARDS["plays"]), stdout=said, stderr=said, stdin=subprocess.DEVNULL)
        rest = subprocess.run(command("rest", words, SHARDS["rest"]), stdin=subprocess.DEVNULL).returncode
        codes = [plays.wait(), rest]
        said.seek(0)
        sys.stdout.flush()
        for line in said:
            sys.stdout.buffer.write(line)
    return codes


def ours() -> set[str]:
    return {name for name in os.listdir("/tmp") if name.startswith(_OUR_NAMES)}


def names_tests(words: list[str]) -> bool:
    return any((HERE / word.partition("::")[0]).exists() for word in words if not word.startswith("-"))


def main(words: list[str]) -> int:
    os.chdir(HERE)
    before = ours()
    serial = "--serial" in words
    words = [word for word in words if word != "--serial"]
    if names_tests(words):
        codes = [subprocess.run(command("named", words)).returncode]
    elif serial:
        codes = [subprocess.run(command(name, words, SHARDS[name])).returncode for name in SHARDS]
    else:
        codes = side_by_side(words)
    left = sorted(ours() - before) if os.environ.get("CI") else []
    if left:
        print("left in /tmp: " + " ".join(left))
    ran = [code for code in codes if code != NO_TESTS] or codes
    return next((code for code in ran if code), 1 if left else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
