"""``python -m tests.core_targets``: run targets or playbooks over both connections, and print a line for each.

With ``--shims``, Ansible's ssh connection with pmitogen's programs takes the place of the connection pmitogen.
Exit status: 0; 1 if a target that passes over ssh fails over the other; 2 for wrong usage or an unsuitable machine.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from tests.support import no_openssh
from tests.support.ansible import PLUGINS, installed_cores
from tests.support.session import repository

from . import compare, machine, sources, targets

RESULTS = sources.FOLDER / "results"
_SHOWN = 20  # number of printed differences between two runs; the directory of results has all of them
_CALLBACKS = repository / "tests/support/callbacks"


def _play(target: str, core: str, python: Path, connection: str, args: argparse.Namespace) -> compare.Outcome:
    results = RESULTS / core / Path(target).stem / connection
    shutil.rmtree(results, ignore_errors=True)
    orders = {
        "playbook" if args.playbooks else "target": target,
        "connection": connection,
        "expectations": targets.expectations(connection, target, core),
        "openssh": no_openssh.PROGRAMS,
        "python": str(python),
        "integration": str(sources.integration_directory(python)),
        "packages": str(sources.packages_directory(python, core)),
        "repository": str(repository),
        "plugins": str(PLUGINS),
        "callbacks": str(_CALLBACKS),
        "results": str(results),
    }
    machine.run([str(python), str(Path(__file__).parent / "play.py"), json.dumps(orders)], results, args.limit)
    return compare.read_outcome(results)


def _both(target: str, core: str, python: Path, args: argparse.Namespace) -> bool:
    """Run *target* and print the outcome; run it over ssh only if that can change the verdict. Return True if it is good."""
    name = "shims" if args.shims else "pmitogen"
    ours = _play(target, core, python, name, args)
    if ours.passed and not (args.results or args.playbooks):
        print(f"{core} {target}: {name} {ours}", flush=True)
        return True
    ssh = _play(target, core, python, "ssh", args)
    fault = ssh.passed and not ours.passed
    found = compare.differences(ssh, ours)
    verdict = f"FAILS OVER {name.upper()} ALONE" if fault else f"{len(found)} differences"
    print(f"{core} {target}: {name} {ours}; ssh {ssh}; {verdict}", flush=True)
    (RESULTS / core / Path(target).stem / "differences").write_text("".join(f"{one}\n" for one in found))
    for one in found[:_SHOWN]:
        print(f"    {one}", flush=True)
    return not fault


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.core_targets", description=__doc__)
    parser.add_argument("--core", help="an installed ansible-core, such as 2.22; by default the newest")
    parser.add_argument("--results", action="store_true", help="also play over ssh what passes, and compare every task's result")
    parser.add_argument("--limit", type=float, default=600.0, metavar="SECONDS", help="for one run (600)")
    parser.add_argument("--playbooks", action="store_true", help="TARGET is a playbook, which is played twice on the same host")
    parser.add_argument(
        "--shims", action="store_true", help="Ansible's ssh connection with pmitogen's programs, without OpenSSH's client"
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="by default those of tests/core_targets/targets.py")
    args = parser.parse_args()
    cores = installed_cores()
    core = args.core or next(iter(cores), None)
    if core not in cores:
        parser.error(f"ansible-core {core} is not installed; there are: {', '.join(cores) or 'none'}")
    lacking = machine.missing()
    if lacking:
        parser.error(f"needs {lacking}")
    try:
        known = sources.integration_directory(cores[core]) / "targets"
    except sources.NoSources as error:
        parser.error(str(error))
    if args.playbooks:
        wanted = [str(Path(name).resolve(strict=True)) for name in args.targets]
    else:
        wanted = args.targets or [name for name in targets.DEFAULT if (known / name).exists()]
    for name in wanted:
        if not args.playbooks and not (known / name).is_dir():
            parser.error(f"ansible-core {core} has no target {name!r}")
    results = [_both(target, core, cores[core], args) for target in wanted]
    print(f"{sum(results)} of {len(results)} as over ssh; what they printed is in {RESULTS / core}")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
