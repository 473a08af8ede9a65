"""``python -m bench.library``: pmitogen as a library beside asyncssh, Paramiko, fabric and parallel-ssh.

Each case of each library is a process of its own (library_clients.py); they take turns, on a private sshd. It prints seconds,
seconds of the client's CPU, its largest memory and number of threads, and the ratios of pmitogen to the best of the others. It
needs root, sshd and ``.venv-library`` (tools/prepare.py library).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support.accounts import Accounts
from tests.support.keys import make_key
from tests.support.session import repository
from tests.support.sshd import Sshd, find_sshd

PYTHON = repository / ".venv-library" / "bin" / "python"
LIBRARIES = ("pmitogen", "asyncssh", "paramiko", "fabric", "parallel-ssh")
CASES = {
    "sequential": "200 commands one after another on one host",
    "one": "one command on each of 100 hosts",
    "ten": "ten commands on each of 100 hosts",
    "put": "256 MiB to a host",
    "get": "256 MiB from a host",
    "small": "1,000 small files to a host",
    "idle": "idle connections",
}
TIMEOUT = 300.0  # seconds for one case
LARGE = 256 << 20  # bytes


@dataclasses.dataclass(frozen=True)
class Figures:
    """What one process took."""

    wall: float
    cpu: float
    memory: float  # MiB at most
    threads: int  # at most


def _status(pid: int) -> tuple[float, int]:
    """Memory at most so far, in MiB, and threads now."""
    text = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in text.splitlines())
    return int(fields["VmHWM"].split()[0]) / 1024, int(fields["Threads"])


def measure(library: str, case: str, settings: dict[str, Any]) -> Figures | str:
    """Run one case in a process. Returns why it failed, if it did."""
    argv = [str(PYTHON), "-m", "bench.library_clients", library, case, json.dumps(settings)]
    env = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }  # a cache of pmitogen's heeds it
    process = subprocess.Popen(
        argv, cwd=repository, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    memory, threads, deadline = 0.0, 0, time.monotonic() + TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, KeyError, ValueError):
            now = _status(process.pid)
            memory, threads = max(memory, now[0]), max(threads, now[1])
        time.sleep(0.02)
    process.kill()
    out, err = process.communicate()
    try:
        found = json.loads(out.splitlines()[-1])
        return Figures(found["wall"], found["cpu"], memory, threads)
    except (ValueError, IndexError, TypeError, KeyError):
        return (err.strip().splitlines() or [f"status {process.returncode}"])[-1]


@contextlib.contextmanager
def rig(hosts: int) -> Iterator[dict[str, Any]]:
    """An sshd, an account and files for as long as they are used."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pmb-", dir="/tmp")))
        directory.chmod(0o711)
        accounts = Accounts()
        stack.callback(accounts.remove_all)
        account = accounts.make()
        key = make_key(directory / "id_ed25519")
        (directory / "sshd").mkdir(mode=0o711)
        config = ["MaxSessions 1000", "MaxStartups 2000", "PrintLastLog no"]
        with socket.create_server(("0.0.0.0", 0)) as free:  # every host of a case is an address of this machine
            port = free.getsockname()[1]
        server = Sshd(directory / "sshd", key, config=config, addresses=["0.0.0.0"], log_level="INFO", port=port).start()
        stack.callback(server.stop)
        with open(directory / "large", "wb") as large:
            for _ in range(LARGE >> 20):
                large.write(os.urandom(1 << 20))
        (directory / "small").mkdir()
        for index in range(1000):
            (directory / "small" / f"file{index}").write_bytes(os.urandom(1 + index % 4096))
        yield {
            "hosts": [f"127.0.{2 + index // 250}.{1 + index % 250}" for index in range(hosts)],
            "port": server.port,
            "user": account.name,
            "key": str(key.path),
            "large": str(directory / "large"),
            "small": str(directory / "small"),
            "remote": str(account.home),
        }


def clean(settings: dict[str, Any], case: str) -> None:
    """Remove what a case has written; the case ``get`` needs a file."""
    remote = Path(settings["remote"])
    subprocess.run(["rm", "-rf", str(remote / "small"), str(remote / "large"), settings["large"] + ".back"], check=True)
    if case == "get":
        subprocess.run(["cp", settings["large"], str(remote / "large")], check=True)
        (remote / "large").chmod(0o644)


def table(results: dict[str, dict[str, list[Figures]]], failures: dict[tuple[str, str], str]) -> Iterator[str]:
    """The lines of the report."""
    for case, row in results.items():
        yield f"\n{CASES[case]}"
        yield f"{'':14}{'seconds':>9}{'CPU':>8}{'MiB':>8}{'threads':>9}"
        middle = {library: _median(runs) for library, runs in row.items() if runs}
        for library, found in middle.items():
            yield f"{library:14}{found.wall:9.2f}{found.cpu:8.2f}{found.memory:8.0f}{found.threads:9}"
        for (library, failed), reason in failures.items():
            if failed == case:
                yield f"{library:14} failed: {reason[:100]}"
        ours, others = middle.get("pmitogen"), [found for library, found in middle.items() if library != "pmitogen"]
        if ours and others:
            best = [min(getattr(found, name) for found in others) for name in ("wall", "cpu", "memory", "threads")]
            ratios = [value / least for value, least in zip(dataclasses.astuple(ours), best, strict=True)]
            yield f"{'to the best':14}{ratios[0]:9.2f}{ratios[1]:8.2f}{ratios[2]:8.2f}{ratios[3]:9.2f}"


def _median(runs: Sequence[Figures]) -> Figures:
    wall, cpu, memory, threads = (statistics.median(values) for values in zip(*map(dataclasses.astuple, runs), strict=True))
    return Figures(wall, cpu, memory, round(threads))


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.library", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one run of each, and 100 idle connections instead of 1,000")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="runs of each (default: 3)")
    parser.add_argument("--cases", default=",".join(CASES), metavar="A,B", help="only these: " + ", ".join(CASES))
    parser.add_argument("--libraries", default=",".join(LIBRARIES), metavar="A,B", help="only these: " + ", ".join(LIBRARIES))
    options = parser.parse_args(argv)
    for given, known in ((options.cases, CASES), (options.libraries, LIBRARIES)):
        for name in given.split(","):
            if name not in known:
                parser.error(f"{name}: unknown; use one of: {', '.join(known)}")
    if os.geteuid() != 0 or find_sshd() is None or not PYTHON.exists():
        print("bench.library: needs root, sshd, and .venv-library: run tools/prepare.py library", file=sys.stderr)
        return 1
    repeat = 1 if options.quick else options.repeat
    results: dict[str, dict[str, list[Figures]]] = {}
    failures: dict[tuple[str, str], str] = {}
    for case in options.cases.split(","):
        hosts = 100 if case != "idle" or options.quick else 1000
        libraries = options.libraries.split(",")
        results[case] = {library: [] for library in libraries}
        with rig(hosts) as settings:
            for _ in range(repeat):
                for library in libraries:
                    if (library, case) in failures:
                        continue
                    clean(settings, case)
                    found = measure(library, case, settings)
                    if isinstance(found, str):
                        failures[library, case] = found
                    else:
                        results[case][library].append(found)
                    print(f"bench: {case} {library}: {found}", file=sys.stderr, flush=True)
    load = os.getloadavg()[0]
    print(f"\n{os.cpu_count()} cores, load {load:.1f} at the end, medians of {repeat}")
    print("\n".join(table(results, failures)))
    return 1 if any(library == "pmitogen" for library, _ in failures) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
