#!/usr/bin/env python3
"""Runs the tests: ``run_tests.py [--serial] [PYTEST WORD...]``

Several pytests side by side, each with its own accounts, servers and folders, since most tests wait for something; they take
about as long as each other. What the first says is shown at once, what the others said when all have ended. With ``--serial`` one
follows the other; where a word names a test or a folder, there is but one.

Fails if any fails, or if anything of theirs is left in /tmp when all have ended (looked for where nobody else is at work, which
CI says of itself). A pytest to which no test was left counts as passed if another had some.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent


def _plays(*names: str) -> list[str]:
    return [f"tests/ansible/test_{name}.py" for name in names]


WITH_DIFFERENTIAL = _plays("payload_cache", "prebuild", "preload")
WITH_UNIT = _plays("preconnect", "entry_points", "failures", "several_hubs", "toggles")
DIFFERENTIAL = ["tests/ansible/differential", "tests/hostile", *WITH_DIFFERENTIAL]
# One set of accounts, servers and folders each. The plays of tests/ansible are shared out so that all take about as long.
SHARDS = {
    "integration": ["tests/integration"],
    "plays": ["tests/ansible", *(f"--ignore={path}" for path in (DIFFERENTIAL[0], *WITH_DIFFERENTIAL, *WITH_UNIT))],
    "unit": ["tests/unit", *WITH_UNIT],
    "differential": DIFFERENTIAL,
}
NO_TESTS = 5  # pytest's exit code
_OUR_NAMES = ("pmitogen", "ansible", "mitogen", ".ansible", "_ansible", "pmt-")


def command(name: str, words: list[str], places: Sequence[str] = ()) -> list[str]:
    return [sys.executable, "-m", "pytest", "-o", f"cache_dir=.pytest_cache/{name}", *words, *places]


def side_by_side(words: list[str]) -> list[int]:
    """The exit codes of all."""
    first, *others = SHARDS
    with contextlib.ExitStack() as stack:
        running = []
        for name in others:
            said = stack.enter_context(tempfile.TemporaryFile())
            words_of = command(name, words, SHARDS[name])
            running.append((subprocess.Popen(words_of, stdout=said, stderr=said, stdin=subprocess.DEVNULL), said))
        codes = [subprocess.run(command(first, words, SHARDS[first]), stdin=subprocess.DEVNULL).returncode]
        for process, said in running:
            codes.append(process.wait())
            said.seek(0)
            sys.stdout.flush()
            shutil.copyfileobj(said, sys.stdout.buffer)
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
