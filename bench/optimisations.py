"""``python -m bench.optimisations``: what each optimisation is worth, measured by switching it off alone.

Most optimisations have no switch of their own, because a switch is code in every run. So each is switched off by a change of text
in a copy of the package, which a run then imports. A text that is not found exactly once is an error: the table is out of date.

All variants take turns with the package as it is. The tables show by how many percent each figure is higher without the
optimisation. One that gains less than ``WORTH`` percent in every case is a candidate for removal.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.support.ansible import installed_cores
from tests.support.session import repository

from . import report
from .cases import CASES, Case
from .contenders import Contender, make_contenders
from .environment import Environment

WORTH = 3.0  # percent
Found = dict[str, dict[str, list[dict[str, float]]]]  # runs by variant ("" is the package as it is) and case
METRICS = ("wall", "cpu", "target_cpu")
TITLES = {"wall": "wall", "cpu": "controller's CPU", "target_cpu": "targets' CPU"}


@dataclass(frozen=True)
class Change:
    """In *file* of the package, *old* becomes *new*."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Variant:
    """The package without one optimisation."""

    name: str
    changes: Sequence[Change] = ()
    env: dict[str, str] = field(default_factory=dict)


_BEFORE_FORK, _PAYLOADS = "ansible/preload/before_fork.py", "ansible/preload/payload_cache.py"
_SUBPROCESS, _MODULES = "target/payload/fast_subprocess.py", "target/payload/module_cache.py"


def _without_step(*steps: str) -> tuple[Change, ...]:
    return tuple(Change(_BEFORE_FORK, f"        {step},\n", "") for step in steps)


# The package as it is, once more: what it seems to be worth is the noise of the measurement.
NOISE = Variant("nothing")
VARIANTS: tuple[Variant, ...] = (
    NOISE,
    Variant(
        "payload cache", [Change(_PAYLOADS, "        if hasattr(module_common,", "        if False and hasattr(module_common,")]
    ),
    Variant("prebuild", [Change("ansible/preload/prebuild.py", "        if not _should_prebuild():", "        if True:")]),
    Variant(
        "preloaded lookups",
        _without_step("_load_json_profiles", "_load_result_types", "_find_plugins", "_compile_template_patterns"),
    ),
    Variant("early hub", _without_step("_start_hub")),
    Variant(
        "early connect",
        [Change("ansible/hub_session.py", "if self._client is not None or self._early_requested or", "if True or")],
    ),
    Variant(
        "frozen heap of workers",
        [
            Change("ansible/connection.py", "            gc.freeze()", "            pass"),
            Change(_BEFORE_FORK, "    gc.freeze()", "    pass"),
        ],
    ),
    Variant("shared bytecode", [Change("target/agent/main.py", "        if 0 in self._runners:", "        if False:")]),
    Variant("vfork", [Change(_SUBPROCESS, '    for name in ("PollSelector",', '    return\n    for name in ("PollSelector",')]),
    Variant("modules imported ahead", [Change(_MODULES, "        before = len(self.files)\n", "        return 0\n")]),
    Variant("packed stream", [Change("protocol/framing.py", "COMPRESS_BELOW = 16 << 10", "COMPRESS_BELOW = 0")]),
    Variant("request pipelining", env={"PMITOGEN_PIPELINE": "0"}),
    Variant("all of the controller's", env={"PMITOGEN_PRELOAD": "0"}),
    Variant("all of the target's", env={"PMITOGEN_TARGET_PRELOAD": "0"}),
)
USUAL = ("commands", "mix", "mix-far", "cold", "cold-far", "hosts")


def _cases() -> list[Case]:
    """The cases of the bench, two of them smaller: there are many variants."""
    known = {case.name: case for case in CASES}
    fewer = replace(known["hostname"], name="commands", title="20 x command: hostname", steps=known["hostname"].steps[:20])
    eight = replace(known["hosts"], title="8 hosts x 10 steps", hosts=8)
    return [fewer, *(known[name] for name in USUAL[1:-1]), eight]


def copy_without(variant: Variant, place: Path) -> Path:
    """Make a copy of the package without an optimisation; return its directory. Raises ValueError if a text is not found.

    The package as it is is copied as well, so that all variants are imported from the same kind of place.
    """
    root = place / (variant.name.replace(" ", "-").replace("'", "") or "as-it-is")
    for package in ("pmitogen", "ansible_collections"):
        shutil.copytree(repository / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    for change in variant.changes:
        path = root / "pmitogen" / change.file
        text = path.read_text()
        if text.count(change.old) != 1:
            raise ValueError(
                f"{variant.name}: pmitogen/{change.file}: expected once, found {text.count(change.old)} times: {change.old!r}"
            )
        path.write_text(text.replace(change.old, change.new))
    return root


def _contender(contender: Contender, variant: Variant, place: Path) -> Contender:
    root = copy_without(variant, place)
    plugins = root / "pmitogen/ansible/plugins/connection"
    return replace(contender, source=root, env={**contender.env, "ANSIBLE_CONNECTION_PLUGINS": str(plugins), **variant.env})


def table(found: Found, cases: Sequence[str], metric: str) -> list[tuple[str, ...]]:
    """Percent by which *metric* changes without each variant."""
    rows: list[tuple[str, ...]] = [(f"{TITLES[metric]}, without", "", *cases)]
    for name in found:
        if name:
            rows.append((name, "", *(f"{change(found, name, case, metric):+.0f} %" for case in cases)))
    return rows


def change(found: Found, name: str, case: str, metric: str) -> float:
    """Percent by which *metric* is higher without an optimisation: the median of the rounds, in each of which both have a run."""
    pairs = zip(found[name][case], found[""][case], strict=True)
    ratios = [without[metric] / as_it_is[metric] for without, as_it_is in pairs if as_it_is[metric]]
    return 100 * (statistics.median(ratios) - 1) if ratios else 0.0


def candidates(found: Found, cases: Sequence[str]) -> list[str]:
    """The optimisations that gain less than ``WORTH`` percent of any figure in every case, beyond the noise."""

    def noise(case: str, metric: str) -> float:
        return max(0.0, change(found, NOISE.name, case, metric)) if NOISE.name in found else 0.0

    figures = [(case, metric) for case in cases for metric in METRICS]
    names = [name for name in found if name and name != NOISE.name]
    return [
        name for name in names if all(change(found, name, case, metric) - noise(case, metric) < WORTH for case, metric in figures)
    ]


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.optimisations", description=__doc__)
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="runs of each variant in each case")
    parser.add_argument("--cases", default=",".join(USUAL), metavar="A,B", help=f"by default {','.join(USUAL)}")
    parser.add_argument("--without", metavar="A,B", help="only these: " + ", ".join(variant.name for variant in VARIANTS))
    options = parser.parse_args(argv)
    for given, known in ((options.cases, [case.name for case in _cases()]), (options.without, [each.name for each in VARIANTS])):
        for name in given.split(",") if given else ():
            if name not in known:
                parser.error(f"{name}: unknown; use one of: {', '.join(known)}")
    return options


def main(argv: list[str]) -> int:
    options = _parse(argv)
    wanted = [NOISE.name, *options.without.split(",")] if options.without else [variant.name for variant in VARIANTS]
    chosen = [case for case in _cases() if case.name in options.cases.split(",")]
    python = next(iter(installed_cores().values()))
    before = os.getloadavg()[0]
    with Environment(python) as environment:
        (plain,) = make_contenders(python, ("pmitogen",))
        variants = [Variant(""), *(variant for variant in VARIANTS if variant.name in wanted)]
        contenders = {variant.name: _contender(plain, variant, environment.directory) for variant in variants}
        found: Found = {name: {case.name: [] for case in chosen} for name in contenders}
        for case in chosen:
            for contender in contenders.values():  # once without a figure: the payload cache fills, Python compiles
                environment.play(case, contender, through_relay=bool(case.delay))
            for index in range(options.repeat):
                order = list(contenders.items())
                begin = index % len(order)  # each comes first in turn, because a place in the order has an effect of its own
                for name, contender in order[begin:] + order[:begin]:
                    run = environment.play(case, contender, through_relay=bool(case.delay))
                    if run["code"]:
                        print(f"bench: {case.name} without {name or 'nothing'}: failed with {run['code']}", file=sys.stderr)
                        return 1
                    found[name][case.name].append(run)
                print(f"bench: {case.name} {index + 1}/{options.repeat}", file=sys.stderr, flush=True)
    names = [case.name for case in chosen]
    for metric in METRICS:
        print(f"\n{report.as_markdown(table(found, names, metric))}")
    print(f"\nless than {WORTH:g} % in every case: {', '.join(candidates(found, names)) or 'none'}")
    print(
        f"medians of {options.repeat}; load {before:.1f} before, {os.getloadavg()[0]:.1f} after, on {os.cpu_count()} processors"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
