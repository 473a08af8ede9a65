"""``python -m bench.scale [HOSTS] [FORKS] [--copy] [--hubs N]``: one play over many hosts, and what a hub takes for it.

Four steps on each host (200, if not said), all of them addresses of this machine, which also does the targets' work: so the time
says little, the sizes much. The hub's processor time stands beside that of ansible-playbook's main process, which is one process
too and hands out every task: while the hub takes less than that, a second hub would have nothing to do.

With ``--copy`` the one step is a large file: how much of that a hub can send in a second of its processor's, which is where a
second hub pays. ``--hubs`` shares the hosts out among several; sizes are then those of the largest.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path

from tests.support import processes
from tests.support.ansible import installed_cores

from .cases import BIG_FILE, Case, Step
from .contenders import make_contenders
from .environment import Environment

INTERVAL = 0.5  # seconds between two looks
HUB, MAIN = "pmitogen.hub.daemon.main", "ansible playbook"  # what their command lines hold
STEPS: list[Step] = [
    {"ansible.builtin.command": {"cmd": "hostname"}},
    {"ansible.builtin.copy": {"content": "some text\n", "dest": "{{ work }}", "mode": "0644"}},
    {"ansible.builtin.stat": {"path": "{{ work }}"}},
    {"ansible.builtin.file": {"path": "{{ work }}", "state": "absent"}},
]
COPY: list[Step] = [{"ansible.builtin.copy": {"src": "big", "dest": "{{ work }}.big", "mode": "0600"}}]


class Watch(threading.Thread):
    """Looks at the hubs from time to time, and keeps the largest of each figure."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = {"MB": 0, "threads": 0, "open files": 0, "connections": 0}
        self.hubs: dict[int, float] = {}  # seconds, by pid
        self.main = 0.0  # seconds
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(INTERVAL):
            for process in processes.descendants(os.getpid()):
                if HUB in process.command:
                    self._look(process.pid)
                    self.hubs[process.pid] = max(self.hubs.get(process.pid, 0.0), processes.cpu(process.pid))
                elif MAIN in process.command:
                    self.main = max(self.main, processes.cpu(process.pid))

    def _look(self, pid: int) -> None:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            files = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            return
        fields = dict(line.split(":", 1) for line in status.splitlines())
        found = {
            "MB": int(fields["VmRSS"].split()[0]) // 1024,
            "threads": int(fields["Threads"]),
            "open files": len(files),
            "connections": sum(name.startswith("socket:") for name in files),
        }
        self.most = {name: max(self.most[name], value) for name, value in found.items()}

    def end(self) -> None:
        self._over.set()
        self.join()


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("hosts", type=int, nargs="?", default=200)
    parser.add_argument("forks", type=int, nargs="?", default=20)
    parser.add_argument("--hubs", type=int, default=1, help="how many hubs share the hosts out")
    parser.add_argument("--copy", action="store_true", help=f"copy a file of {BIG_FILE >> 20} MiB to each, and nothing else")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    options = _parse(argv)
    hosts, forks, steps = options.hosts, options.forks, COPY if options.copy else STEPS
    python = installed_cores()[next(iter(installed_cores()))]
    title = f"{hosts} hosts x {'a large file' if options.copy else f'{len(steps)} steps'}"
    case = Case("scale", title, steps, hosts=hosts, forks=forks, big_file=options.copy)
    failed = False
    with Environment(python, hosts) as environment:
        for plain in make_contenders(python, ("pmitogen", "baseline")):
            contender = replace(plain, env={**plain.env, "PMITOGEN_HUBS": str(options.hubs)})
            watch = Watch()
            watch.start()
            run = environment.play(case, contender, through_relay=False)
            watch.end()
            failed = failed or bool(run["code"])
            sizes = ", ".join(f"{value} {name}" for name, value in watch.most.items() if value)
            took = f"{run['wall']:.1f} s, CPU {run['cpu']:.1f} s, targets' CPU {run['target_cpu']:.1f} s"
            each = " + ".join(f"{seconds:.1f} s" for seconds in watch.hubs.values() if seconds) or "none"
            cpu = f"hubs {each}, ansible-playbook's main process {watch.main:.1f} s"
            print(f"{case.title}, {forks} forks, {contender.title}: {took} ({cpu}); a hub at most: {sizes or 'none'}", flush=True)
            if options.copy and any(watch.hubs.values()):
                sent = hosts * BIG_FILE / 1e6
                rate = sent / sum(watch.hubs.values())
                print(f"a hub sends {rate:.0f} MB per second of its processor time; {sent / run['wall']:.0f} MB/s in all")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
