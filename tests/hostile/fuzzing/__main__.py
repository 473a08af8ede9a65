"""Fuzz the targets one after another for a given time: ``python -m tests.hostile.fuzzing [--seconds N] [TARGET...]``.

With atheris, each target is fuzzed guided by coverage, in a process of its own; otherwise by mutation. Prints a line for each
target; at the first finding, prints the input and exits with 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import subprocess
import sys
import tempfile
from pathlib import Path


def _with_atheris(name: str, seconds: float) -> int:
    """Run this program for one target under atheris, and return its exit status."""
    from tests.hostile.fuzzing import targets

    with tempfile.TemporaryDirectory(prefix="pmt-fuzz") as directory:
        (target,) = targets.by_name([name])
        corpus = Path(directory, "corpus")
        corpus.mkdir()
        for index, data in enumerate(target.seeds(Path(directory))):
            (corpus / str(index)).write_bytes(data)
        command = [sys.executable, "-m", "tests.hostile.fuzzing", "--one", name, str(corpus)]
        options = [f"-max_total_time={max(1, round(seconds))}", "-max_len=65536", "-timeout=10", "-rss_limit_mb=2048"]
        done = subprocess.run([*command, *options, f"-artifact_prefix={directory}/"], capture_output=True, text=True)
        last = [line for line in done.stderr.splitlines() if line.startswith("Done ")]
        print(f"{name}: {last[-1] if last else 'ended'}" if done.returncode == 0 else f"{name}: FOUND\n{done.stderr[-4000:]}")
        return done.returncode


def _one(name: str, arguments: list[str]) -> None:
    """The process under atheris, which measures the coverage of modules that are imported after it."""
    import atheris

    with atheris.instrument_imports(include=["pmitogen"]):
        from tests.hostile.fuzzing import mutation, targets
    (target,) = targets.by_name([name])
    atheris.Setup([sys.argv[0], *arguments], lambda data: mutation.run_once(target, data))
    atheris.Fuzz()


def main() -> int:
    """Return the exit status: 0 without a finding."""
    if sys.argv[1:2] == ["--one"]:
        _one(sys.argv[2], sys.argv[3:])
        return 0
    from tests.hostile.fuzzing import mutation, targets

    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzzing")
    parser.add_argument("--seconds", type=float, default=60, help="for all targets together")
    parser.add_argument("target", nargs="*")
    options = parser.parse_args()
    try:
        chosen = list(targets.by_name(options.target))
    except KeyError as error:
        parser.error(f"unknown target {error}; the targets are {' '.join(target.name for target in targets.TARGETS)}")
    each = options.seconds / len(chosen)
    guided = importlib.util.find_spec("atheris") is not None
    for target in chosen:
        if guided:
            if _with_atheris(target.name, each):
                return 1
        else:
            seed = random.randrange(1 << 32)
            try:
                print(f"{target.name}: {mutation.search(target, each, seed)} inputs in {each:.0f} s, seed {seed}", flush=True)
            except mutation.Finding as finding:
                print(f"{finding}\nseed {seed}")
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
