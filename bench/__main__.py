"""``python -m bench``: play every case with every contender, and compare them."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from tests.support.ansible import installed_cores
from tests.support.session import repository
from tests.support.sshd import find_sshd

from . import against_floor, chart, report, stages
from .cases import CASES, Case
from .contenders import NAMES, Contender, ask, make_contenders
from .environment import Environment
from .results import Cell, Results


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few repeats")
    parser.add_argument("--repeat", type=int, metavar="N", help="runs of each cell, instead of each case's own number")
    parser.add_argument("--cases", metavar="A,B", help="only these: " + ", ".join(case.name for case in CASES))
    parser.add_argument("--contenders", metavar="A,B", help="only these: " + ", ".join(NAMES))
    parser.add_argument("--core", metavar="2.21", help="the ansible-core to play with; by default the newest found")
    parser.add_argument("--python", metavar="3.12", help="its Python: one of the environments CORE@PYTHON of tools/prepare.py")
    parser.add_argument("--docs", action="store_true", help="also write the tables and charts of docs/")
    options = parser.parse_args(argv)
    options.cases = _pick(parser, options.cases, [case.name for case in CASES])
    options.contenders = _pick(parser, options.contenders, list(NAMES))
    return options


def _pick(parser: argparse.ArgumentParser, given: str | None, known: list[str]) -> list[str]:
    chosen = given.split(",") if given else known
    for name in chosen:
        if name not in known:
            parser.error(f"{name}: unknown; write one of: {', '.join(known)}")
    return chosen


def _play_case(environment: Environment, case: Case, contenders: list[Contender], repeat: int) -> dict[str, Cell]:
    """Run one case with all contenders in rotation."""
    contenders = [contender for contender in contenders if not case.contenders or contender.name in case.contenders]
    cells = {contender.name: Cell() for contender in contenders}
    for index in range(repeat):
        for contender in contenders:
            cell = cells[contender.name]
            if not cell.failed:
                cell.runs.append(environment.play(case, contender, through_relay=bool(case.delay)))
                _say(case, contender, f"{index + 1}/{repeat}", cell.runs[-1])
    if case.traffic and not case.delay:
        for contender in contenders:
            cell = cells[contender.name]
            if not contender.baseline and not cell.failed:
                cell.relayed.append(environment.play(case, contender, through_relay=True))
                _say(case, contender, "relay", cell.relayed[-1])
    return cells


def _trace_case(environment: Environment, case: Case, contenders: list[Contender]) -> dict[str, float]:
    """Seconds of each stage of one more run over pmitogen."""
    for contender in contenders:
        if case.traced and contender.name == "pmitogen":
            path = environment.directory / "trace.json"
            env = {**contender.env, "PMITOGEN_TRACE": str(path)}
            _say(case, contender, "traced", environment.play(case, replace(contender, env=env), through_relay=bool(case.delay)))
            return stages.read(path)
    return {}


def _log_in(environment: Environment, results: Results, repeat: int) -> None:
    """ssh's bare login, near and far, for the rows about the first task."""
    for name, case, title in (("login", "cold", "ssh host true"), ("login-far", "cold-far", "ssh host true, 180 ms round trip")):
        if case in results.cells and "ssh" in results.contenders:
            results.cases[name] = title
            delay = next(each.delay for each in CASES if each.name == case)
            results.cells[name] = {"ssh": Cell([environment.login(delay) for _ in range(repeat)])}


def _say(case: Case, contender: Contender, which: str, run: dict[str, object]) -> None:
    outcome = f"FAILED with {run['code']}" if run["code"] else f"{run['wall']:.2f} s, CPU {run['cpu']:.2f} s"
    traffic = (
        f", {run['up']:,} up, {run['down']:,} down, {run['direction_changes']} direction changes"
        if "direction_changes" in run
        else ""
    )
    print(f"bench: {case.name} {contender.name} {which}: {outcome}{traffic}", file=sys.stderr, flush=True)


def _save(results: Results, docs: bool) -> None:
    directory = repository / "bench" / "results"
    results.save(directory / f"core-{results.core}.json")
    (directory / f"core-{results.core}.svg").write_text(chart.as_svg(chart.groups(results)))
    print(f"\nbench: written: {directory.relative_to(repository)}/core-{results.core}.json and .svg")
    if docs:
        page = repository / "docs" / "benchmark.md"
        page.write_text(report.in_page(page.read_text(), results))
        chart.write_documents(repository / "docs")
        print("bench: written: the tables of docs/benchmark.md and docs/performance.md, docs/performance.svg, docs/summary.svg")


def main(argv: list[str]) -> int:
    options = _parse(argv)
    if os.geteuid() != 0 or find_sshd() is None:
        print("bench: needs root and sshd: it starts a private sshd and makes a temporary account", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the environment is removed
    cores = installed_cores()
    core = options.core or next(iter(cores), "")
    if core not in cores:
        print(f"bench: ansible-core {core}: not found; there are: {', '.join(cores) or 'none'}", file=sys.stderr)
        return 1
    name, python = core, Path(cores[core])
    if options.python:
        name = f"{core}-py{options.python}"
        python = repository / f".venv-{name}" / "bin" / "python"
        if not python.exists():
            print(f"bench: {python}: not found; make it by: tools/prepare.py {core}@{options.python}", file=sys.stderr)
            return 1
    contenders = make_contenders(python, tuple(options.contenders))
    results = Results(name, contenders={contender.name: contender.title for contender in contenders})
    before = os.getloadavg()[0]
    with Environment(python) as environment:
        for case in CASES:
            if case.name in options.cases:
                repeat = options.repeat or (case.quick if options.quick else case.repeat)
                results.cases[case.name] = case.title
                results.cells[case.name] = _play_case(environment, case, contenders, repeat)
                results.stages[case.name] = _trace_case(environment, case, contenders)
        _log_in(environment, results, options.repeat or 3)
    results.load = (before, os.getloadavg()[0])
    version = ask(str(python), "-c", "import platform; print(platform.python_version())").strip()
    print(f"\nansible-core {core} on Python {version}, medians\n\n{report.as_text(report.table(results))}\n")
    print(report.as_text(report.goal_table(results)))
    print(f"\n{report.as_text(against_floor.table(results))}\n\n{report.as_text(against_floor.layer_table(results))}")
    print(f"\nload of the machine: {results.load[0]:.1f} before, {results.load[1]:.1f} after, on {os.cpu_count()} processors")
    _save(results, options.docs)
    return 1 if any(cell.failed for row in results.cells.values() for cell in row.values()) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
