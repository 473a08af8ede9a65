#!/usr/bin/env python3
"""Runs the tests: ``run_tests.py [--serial] [PYTEST WORD...]``

Several pytests side by side, each with its own accounts, servers and directories, since most tests wait for something; they take
the same time. The output of the first is shown at once, that of the others when all have ended. With ``--serial`` one
follows the other; where a word names a test or a directory, there is but one.

Fails if any fails, or if any of their files is left in /tmp when all have ended (looked for where nobody else is at work, which
CI says of itself). A pytest to which no test was left counts as passed if another had some.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent


def _plays(*names: str) -> list[str]:
    return [f"tests/ansible/test_{name}.py" for name in names]


WITH_DIFFERENTIAL = _plays("payload_cache", "prebuild", "preload")
DIFFERENTIAL = ["tests/ansible/differential", *WITH_DIFFERENTIAL]
BECOME_PLAYS = _plays(*(f"become_{name}" for name in ("failures", "files", "lifetime", "plays", "programs", "secrets")))
BECOME_PLAYS += _plays("broken_python", "login_state", "secrets", "stray_output")
BECOME_PLAYS += _plays("preconnect", "entry_points", "failures", "several_hubs", "toggles")  # its pytest has time for them
ELSEWHERE = (DIFFERENTIAL[0], *WITH_DIFFERENTIAL, *BECOME_PLAYS)
BECOME = [f"tests/integration/test_{name}.py" for name in ("become", "become_others", "api_become")]  # wait most of their time


def _named(*beginnings: str) -> list[str]:
    paths = [path for name in beginnings for path in sorted(HERE.glob(f"tests/integration/test_{name}*.py"))]
    return [place for path in paths if (place := str(path.relative_to(HERE))) not in BECOME]


COMMANDS = _named("cli_")
WITHOUT_PYTHON = _named("channel_timeout", "sftp", "shell_requests", "simple", "transfer")
LIBRARY = _named("api", "aio", "executors", "library", "testing")
# One set of accounts, servers and directories each. The plays of tests/ansible are shared out so that all take about as long.
SHARDS = {
    "integration": ["tests/integration", *(f"--ignore={path}" for path in (*BECOME, *LIBRARY, *COMMANDS, *WITHOUT_PYTHON))],
    "commands": COMMANDS,
    "library": LIBRARY,
    "without-python": WITHOUT_PYTHON,
    "become": BECOME,
    "hostile": ["tests/hostile"],
    "plays": ["tests/ansible", *(f"--ignore={path}" for path in ELSEWHERE)],
    "become-plays": BECOME_PLAYS,
    "unit": ["tests/unit"],
    "differential": DIFFERENTIAL,
}
NO_TESTS = 5  # pytest's exit code
_OUR_NAMES = ("pmitogen", "ansible", "mitogen", ".ansible", "_ansible", "pmt-")


def command(name: str, argv: list[str], places: Sequence[str] = ()) -> list[str]:
    return [sys.executable, "-m", "pytest", "-o", f"cache_dir=.pytest_cache/{name}", *argv, *places]


def side_by_side(argv: list[str]) -> list[int]:
    """The exit codes of all."""
    first, *others = SHARDS
    with contextlib.ExitStack() as stack:
        running = []
        for name in others:
            output = stack.enter_context(tempfile.TemporaryFile())
            pytest_argv = command(name, argv, SHARDS[name])
            running.append((subprocess.Popen(pytest_argv, stdout=output, stderr=output, stdin=subprocess.DEVNULL), output))
        codes = [subprocess.run(command(first, argv, SHARDS[first]), stdin=subprocess.DEVNULL).returncode]
        for process, output in running:
            codes.append(process.wait())
            output.seek(0)
            sys.stdout.flush()
            shutil.copyfileobj(output, sys.stdout.buffer)
    return codes


def ours() -> set[str]:
    return {name for name in os.listdir("/tmp") if name.startswith(_OUR_NAMES)}


def names_tests(argv: list[str]) -> bool:
    return any((HERE / arg.partition("::")[0]).exists() for arg in argv if not arg.startswith("-"))


def main(argv: list[str]) -> int:
    os.chdir(HERE)
    # Background jobs and nohup ignore them, and so would all programs under test.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    before = ours()
    serial = "--serial" in argv
    argv = [arg for arg in argv if arg != "--serial"]
    if names_tests(argv):
        codes = [subprocess.run(command("named", argv)).returncode]
    elif serial:
        codes = [subprocess.run(command(name, argv, SHARDS[name])).returncode for name in SHARDS]
    else:
        codes = side_by_side(argv)
    left = sorted(ours() - before) if os.environ.get("CI") else []
    if left:
        print("left in /tmp: " + " ".join(left))
    ran = [code for code in codes if code != NO_TESTS] or codes
    return next((code for code in ran if code), 1 if left else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
