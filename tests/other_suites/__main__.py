"""``python -m tests.other_suites``: runs tests of another project with pmitogen's commands, and prints a line for each.

Exit status: 0; 1 if a test fails; 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import sys
import time
from pathlib import Path

from tests.support.session import repository

from . import commands, git, openssh, rsync

SUITES = {"openssh": openssh, "rsync": rsync, "git": git}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.other_suites", description=__doc__)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("source", type=Path, help="directory of the source, which is built there")
    parser.add_argument("names", nargs="*", metavar="TEST", help="by default all that apply")
    parser.add_argument("--jobs", type=int, default=1, help="how many tests to run at a time")
    args = parser.parse_args()
    suite = SUITES[args.suite]
    source = args.source.resolve()
    folder = repository / "build/other-suites" / args.suite
    folder.mkdir(parents=True, exist_ok=True)
    shims = commands.make_shims(folder / "bin")
    suite.prepare(source)
    failed = False

    def run(name: str) -> str:
        nonlocal failed
        reason = suite.EXCLUDED.get(name)
        if reason is not None and name not in args.names:
            return f"{name}: does not apply: {reason}"
        began = time.monotonic()
        status, output = suite.run(name, source, folder / name, shims)
        last = output.strip().splitlines()[-1:] or [""]
        failed |= status != 0
        return f"{name}: {'passes' if not status else f'FAILS ({status})'} {time.monotonic() - began:.0f} s: {last[0]}"

    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for line in pool.map(run, args.names or suite.names(source)):
            print(line, flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
