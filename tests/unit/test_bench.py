"""The instruments of the benchmark: relay, measurements, tables and charts."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as xml
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import against_floor, chart, goals, optimisations, report, stages
from bench.cases import CASES
from bench.environment import Relay
from bench.results import Cell, Results
from tests.support.session import repository

DELAY = 0.05  # seconds in each direction


@pytest.fixture
def echo_port(home: Path) -> Iterator[int]:
    """A server that sends back what it receives; after the end of its input it sends one more text."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                with link:
                    while data := link.recv(1 << 16):
                        link.sendall(data)
                    link.sendall(b"end")

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def make_relay(echo_port: int) -> Iterator[Callable[[float], Relay]]:
    made: list[Relay] = []

    def make(delay: float) -> Relay:
        made.append(Relay(["127.0.0.1", "127.0.0.2"], echo_port, delay))
        return made[-1]

    yield make
    for relay in made:
        relay.close()


def _talk(port: int, direction_changes: int) -> tuple[float, bytes]:
    """Send a text and wait for its echo, *direction_changes* times; return seconds for each, and the data after end-of-file."""
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.sendall(b"first")
        link.recv(100)
        start = time.monotonic()
        for _ in range(direction_changes):
            link.sendall(b"word")
            assert link.recv(100) == b"word"
        took = (time.monotonic() - start) / direction_changes
        link.shutdown(socket.SHUT_WR)
        return took, b"".join(iter(lambda: link.recv(100), b""))


@pytest.mark.parametrize("delay", [0.0, DELAY])
def test_the_relay_counts_bytes_turns_and_connections(make_relay: Callable[[float], Relay], delay: float) -> None:
    relay = make_relay(delay)
    took, rest = _talk(relay.port, 4)
    assert rest == b"end"
    assert relay.counts() == {"connections": 1, "up": 21, "down": 24, "direction_changes": 10}
    assert relay.counts() == {"connections": 0, "up": 0, "down": 0, "direction_changes": 0}
    assert took < DELAY if not delay else 2 * DELAY <= took < 4 * DELAY


def test_delay_does_not_limit_throughput(make_relay: Callable[[float], Relay]) -> None:
    relay = make_relay(DELAY)
    data = bytes(24 << 20)
    with socket.create_connection(("127.0.0.1", relay.port)) as link:
        start = time.monotonic()
        sender = threading.Thread(target=link.sendall, args=(data,))
        sender.start()
        got = 0
        while got < len(data):
            got += len(link.recv(1 << 20))
        took = time.monotonic() - start
        sender.join()
    # A window of 2 MiB, for example, would need 12 round trips of 100 ms.
    assert took < 1.0


def test_a_refused_connection_is_closed(make_relay: Callable[[float], Relay]) -> None:
    with socket.create_connection(("127.0.0.2", make_relay(0.0).port)) as link:  # no server on this address
        link.settimeout(5)
        try:
            assert link.recv(1) == b""
        except ConnectionResetError:
            pass


def _measure(directory: Path, *command: str, limit: float = 20) -> dict[str, object]:
    args = [sys.executable, "-m", "bench.measure", str(directory / "result"), str(limit), *command]
    subprocess.run(args, cwd=repository, check=True, stdin=subprocess.DEVNULL, timeout=30)
    result: dict[str, object] = json.loads((directory / "result").read_text())
    return result


_BURN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


def test_cpu_time_of_processes_that_outlive_a_run_is_counted(tmp_path: Path) -> None:
    detached = f"import os, sys\nif os.fork():\n os.wait()\n sys.exit(3)\nos.setsid()\nif os.fork(): os._exit(0)\n{_BURN}"
    result = _measure(tmp_path, sys.executable, "-c", detached)
    assert result["code"] == 3 and len(result["outlived"]) == 1  # type: ignore[arg-type]
    assert 0.3 <= result["cpu"] < 0.9  # type: ignore[operator]


def test_a_run_that_hangs_is_ended(tmp_path: Path) -> None:
    result = _measure(tmp_path, "sleep", "60", limit=0.3)
    assert result["code"] == -1 and 0.3 <= result["wall"] < 2  # type: ignore[operator]


@pytest.fixture
def results() -> Results:
    made = Results("2.21", {"hostname": "a <case>"}, {"ssh": "ssh", "mitogen": "Mitogen", "pmitogen": "pmitogen"})
    walls = {"ssh": (20, 22, 24), "mitogen": (6, 5, 100), "pmitogen": (3, 3, 3)}
    for contender, each in walls.items():
        runs = [{"code": 0, "wall": float(wall), "cpu": wall / 2} for wall in each]
        relayed = [{"code": 0, "wall": 99.0, "cpu": 99.0, "up": 151_000, "down": 5, "direction_changes": 9}]
        made.cells.setdefault("hostname", {})[contender] = Cell(runs, relayed)
    return made


def test_medians_ratios_and_goals(results: Results) -> None:
    assert results.value("hostname", "mitogen", "wall") == 6.0
    assert results.ratio("hostname", "pmitogen", "ssh") == pytest.approx(3 / 22)
    verdicts = {str(goal): is_met for goal, _, is_met in goals.judged(results)}
    assert verdicts["wall time at most 0.65 times that of mitogen"] and not verdicts["KB up at most 150"]
    assert verdicts["direction changes at most 220"]


def test_a_failed_run_has_no_figures(results: Results) -> None:
    results.cells["hostname"]["pmitogen"].runs[1]["code"] = 2
    assert results.value("hostname", "pmitogen", "wall") is None
    assert "pmitogen FAILED" in report.as_text(report.table(results)) and not list(goals.judged(results))


def test_tables_and_chart_can_be_read(results: Results, tmp_path: Path) -> None:
    lines = report.as_text(report.table(results)).splitlines()
    assert len({len(line.split("  ")) > 3 for line in lines[2:]}) == 1 and "0.14" in lines[4]
    assert report.as_markdown(report.goal_table(results)).count("|") > 20
    bars = [node for node in xml.fromstring(chart.as_svg(chart.groups(results))).iter() if node.tag.endswith("rect")]
    assert [bar.get("class") for bar in bars] == ["ssh", "mitogen", "pmitogen"]
    results.save(tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text())["medians"]["hostname"]["ssh"]["wall"] == 22.0


def test_a_page_gets_the_tables_of_the_newest_results(results: Results) -> None:
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    once = report.in_page(page, results)
    assert once.startswith("before\n") and once.endswith("\nafter\n") and "old" not in once
    assert report.as_markdown(report.table(results)) in once
    assert report.in_page(once, results) == once
    with pytest.raises(ValueError, match="marks"):
        report.in_page("no marks", results)


def test_the_published_page_has_markers_for_its_tables(results: Results) -> None:
    assert report.in_page((repository / "docs" / "benchmark.md").read_text(), results)


def test_every_goal_names_a_case() -> None:
    assert {goal.case for goal in goals.GOALS} <= {case.name for case in CASES}
    assert len(next(case for case in CASES if case.name == "mix").steps) == 11


def test_the_pictures_and_the_short_table_show_the_figures_of_the_page() -> None:
    for path, text in chart.documents(repository / "docs"):
        assert path.read_text() == text, "run: python -m bench.chart"


def test_a_picture_of_a_page_is_that_of_its_results(results: Results) -> None:
    page = report.in_page(f"{report.BEGIN}\n{report.END}\n", results)
    shown = {case: [(*bar[:2], round(bar[2], 2)) for bar in bars] for case, bars in chart.groups(results).items()}
    assert chart.groups_of_page(page) == shown


def test_costs_above_the_baseline_are_compared_with_their_goals() -> None:
    made = Results("2.21", {"hostname": "100 commands"}, {"pmitogen": "pmitogen", "baseline": "baseline"})
    for contender, wall in (("pmitogen", 3.0), ("baseline", 2.0)):
        runs = [{"code": 0, "wall": wall, "cpu": wall / 2, "target_cpu": 0.7}]
        made.cells.setdefault("hostname", {})[contender] = Cell(runs)
    made.stages["hostname"] = {"module": 0.95, "wire": 0.02}
    rows = {row[0]: row[2:] for row in against_floor.table(made)}
    assert rows["100 x command: (wall - floor - modules) per task"] == ("0.50", "1", "met")
    assert rows["100 x command: controller's CPU per task, over the floor"] == ("5.00", "2", "MISSED")
    assert rows["100 x command: target's CPU per task"] == ("7.00", "", "")
    assert not any(row.startswith("mix") for row in rows), "cases that were not measured have no row"
    assert ("module", "", "950") in against_floor.layer_table(made)


def test_stages_are_read_from_a_timeline(tmp_path: Path) -> None:
    spans = [{"ph": "X", "name": name, "dur": 1500} for name in ("module", "wire", "module", "#1 run")]
    (tmp_path / "run.json").write_text(json.dumps({"traceEvents": [*spans, {"ph": "M", "name": "module"}]}))
    assert stages.read(tmp_path / "run.json") == pytest.approx({"module": 0.003, "wire": 0.0015})
    assert stages.read(tmp_path / "run.json") == {}


@pytest.mark.parametrize("variant", optimisations.VARIANTS, ids=lambda variant: variant.name)
def test_each_optimisation_can_be_switched_off(variant: optimisations.Variant, tmp_path: Path) -> None:
    root = optimisations.copy_without(variant, tmp_path)
    for change in variant.changes:
        source = (root / "pmitogen" / change.file).read_text()
        compile(source, change.file, "exec")
        assert source != (repository / "pmitogen" / change.file).read_text()


def test_an_optimisation_without_a_gain_is_a_candidate_for_removal() -> None:
    runs = {"": 1.0, "worth it": 1.2, "not worth it": 1.02}
    found = {name: {"mix": [{"wall": 1.0, "cpu": value, "target_cpu": 1.0}]} for name, value in runs.items()}
    assert optimisations.candidates(found, ["mix"]) == ["not worth it"]
    found["nothing"] = {"mix": [{"wall": 1.0, "cpu": 1.18, "target_cpu": 1.0}]}
    assert optimisations.candidates(found, ["mix"]) == ["worth it", "not worth it"], "both differences are within the noise"
    assert ("worth it", "", "+20 %") in optimisations.table(found, ["mix"], "cpu")
