"""pmitogen trace: the calculation of its figures, its advice, and a page that shows hostile names as text."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pmitogen import cli
from pmitogen.cli.trace import page_bars
from pmitogen.cli.trace.advice import NOTHING, advise
from pmitogen.cli.trace.timeline import Timeline

HOSTILE = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>\x1b[2J\u202e&lt;"
Event = dict[str, Any]


def _span(name: str, start: float, seconds: float, row: int = 7, **args: int) -> Event:
    event = {"name": name, "ph": "X", "pid": 1, "tid": row, "ts": 1e15 + start * 1e6, "dur": seconds * 1e6}
    return {**event, "args": args} if args else event


def _named(host: str, task: str, task_id: str = "1", row: int = 7) -> Event:
    args = {"name": f"{host}: {task}", "host": host, "task": task, "task_id": task_id}
    return {"name": "thread_name", "ph": "M", "pid": 1, "tid": row, "args": args}


def _address(address: str = "192.0.2.1") -> Event:
    return {"name": "process_name", "ph": "M", "pid": 1, "args": {"name": address}}


def _module(start: float, wire: float, module: float, row: int = 7, **totals: int) -> list[Event]:
    """Return a request as the hub records it: the network time in two halves around the module."""
    end = start + wire + module
    whole = _span("run ansible.modules.ping as login", start, wire + module, row, **totals)
    parts = [("wire", start, wire / 2), ("module", start + wire / 2, module), ("wire", end - wire / 2, wire / 2)]
    return [whole, *(_span(name, at, seconds, row) for name, at, seconds in parts)]


RUN = [
    _address(),
    _span("tcp", 0.0, 0.5, 0),
    _span("auth", 0.5, 0.5, 0),
    *_module(0.0, 1.2, 0.3, sent=1000, received=100),
    _span("prepare", 0.0, 0.1),
    _named("web1", "Gathering Facts", "a"),
    *_module(2.0, 0.2, 1.0, sent=1500, received=300),
    *_module(3.5, 0.2, 1.0, sent=1700, received=400),
    _named("web1", "Gathering Facts", "b"),
    _span("exec as login", 5.0, 0.5, sent=50, received=60),  # over another connection
    _named("web1", "say", "c"),
]


def _figures(events: list[Event]) -> dict[str, Any]:
    return Timeline.read([events]).describe()


def test_each_task_has_its_stages_round_trips_and_bytes() -> None:
    first, second, third = _figures(RUN)["tasks"]
    assert [first["task"], second["task"], third["task"]] == ["Gathering Facts", "Gathering Facts", "say"]
    assert (first["connect_seconds"], first["wire_seconds"], first["module_seconds"], first["prepare_seconds"]) == (
        1.0,
        0.2,
        0.3,
        0.1,
    )
    assert (second["round_trips"], second["bytes_sent"], second["bytes_received"]) == (2, 700, 300)
    assert (second["connect_seconds"], second["wire_seconds"], second["module_seconds"]) == (0, 0.4, 2.0)
    assert (third["other_seconds"], third["wire_seconds"], third["bytes_sent"], third["bytes_received"]) == (0.5, 0, 50, 60)


def test_the_run_has_totals() -> None:
    found = _figures(RUN)
    assert (found["seconds"], found["between_tasks_seconds"], found["round_trips"]) == (5.5, 0.8, 4)
    (host,) = found["hosts"]
    assert host["host"] == "web1" and host["bytes_sent"] == 1750 and host["waited_seconds"] == 0


def test_waiting_for_the_slowest_host_is_counted() -> None:
    events = [_address(), *_module(0, 0.1, 0.9, 1), _named("a", "t", row=1), *_module(0, 0.1, 2.9, 2), _named("b", "t", row=2)]
    assert {each["host"]: each["waited_seconds"] for each in _figures(events)["hosts"]} == {"a": 2.0, "b": 0}


def test_workers_with_the_same_pid_are_distinguished() -> None:
    events = [_address(), *_module(0, 0.1, 1), _named("a", "one", "1"), *_module(5, 0.1, 1), _named("b", "two", "2")]
    assert [(each["task"], each["seconds"]) for each in _figures(events)["tasks"]] == [("one", 1.1), ("two", 1.1)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"ph": "X"},
        {"name": [], "ph": "X", "pid": {}, "tid": [1], "ts": 1, "dur": 1},
        {"name": "wire", "ph": "X", "pid": 1, "tid": 7, "ts": float("nan"), "dur": 1},
        {"name": "wire", "ph": "X", "pid": 1, "tid": 7, "ts": 1e300, "dur": -1},
        {"name": "x", "ph": "X", "pid": 1, "tid": 7, "ts": 1, "dur": 1, "args": {"sent": "many", "received": -1}},
        {"name": "process_name", "ph": "M", "pid": 1, "args": 7},
        {"name": "thread_name", "ph": "M", "pid": 1, "tid": 7},
    ],
)
def test_an_invalid_event_is_ignored(wrong: Event) -> None:
    assert len(_figures([*RUN, wrong])["tasks"]) >= 3
    assert _figures([wrong])["round_trips"] <= 1


def test_timelines_of_several_hubs_are_combined() -> None:
    other = [_address("192.0.2.2"), *_module(1.0, 0.2, 0.5, sent=10), _named("db1", "Gathering Facts", "a")]
    found = Timeline.read([RUN, other]).describe()
    assert found["tasks"][0]["hosts"] == 2 and [each["host"] for each in found["hosts"]] == ["web1", "db1"]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([*_module(0, 0.1, 5), _named("a", "big", "1")], r"modules themselves ran: 'big' \(5\.0 s on a\)"),
        ([*(each for at in range(9) for each in _module(at, 0.5, 0.01)), _named("a", "loop", "1")], r"'loop' \(9\)"),
        ([_span("auth", 0, 4, 0), *_module(0, 4.1, 0.1), _named("a", "t")], "UseDNS"),
        ([_span("python", 0, 1.9, 0), *_module(0, 2, 0.1), _named("a", "t")], "ControlPersist"),
        ([*_module(0, 0.1, 0.1), _named("a", "t", "1"), *_module(9, 0.1, 0.1), _named("a", "u", "2")], "Ansible itself took"),
        ([*_module(0, 0.1, 0.9), _named("a", "t"), *_module(2, 0.1, 0.9), _named("b", "t")], "raise forks"),
        ([*_module(0, 0.1, 0.1, sent=60_000_000), _named("a", "copy it")], "'copy it'"),
        ([*_module(0, 0.01, 0.1), _named("a", "t")], NOTHING),
        ([], NOTHING),
    ],
)
def test_the_advice_names_the_largest_cost(events: list[Event], expected: str) -> None:
    assert re.search(expected, "\n".join(advise(Timeline.read([[_address(), *events]]))))


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def _write(directory: Path, events: list[Event]) -> Path:
    (directory / "run.json").write_text(json.dumps({"traceEvents": events}))
    assert cli.main(["trace", "--html", str(directory / "run.html"), str(directory / "run.json")]) == 0
    return directory / "run.html"


def test_the_page_shows_tasks_and_hosts(tmp_path: Path) -> None:
    path = _write(tmp_path, RUN)
    page = _Page(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for text in ("5.50 s, 1 host, 3 tasks, 4 round trips, 1.8 kB sent, 460 B received", "Gathering Facts", "web1", "192.0.2.1"):
        assert text in page.text
    assert any("Gathering Facts: module, 300.0 ms" in value for name, value in page.attributes if name == "title")


def test_the_axis_has_a_title_and_units(tmp_path: Path) -> None:
    text = " ".join(_Page(_write(tmp_path, RUN).read_text()).text.split())
    assert "time 0 ms 1.38 s 2.75 s 4.12 s 5.50 s" in text


def test_the_rows_of_the_table_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"traceEvents": RUN}))
    assert cli.main(["trace", str(tmp_path / "run.json")]) == 0
    _, *rows, summary = capsys.readouterr().out.splitlines()
    names = [row[:58].strip() for row in rows]
    at = names.index("total of all workers")
    *parts, total = (float(row.split()[-1]) for row in rows[: at + 1])
    assert sum(parts) == pytest.approx(total) == 4500
    assert names[at + 1 :] == ["connecting: tcp", "connecting: auth"]
    assert summary == "5.50 s, 1 host, 3 tasks, 4 round trips, 1.8 kB sent, 460 B received"


def _hostile_run() -> list[Event]:
    named = _named(HOSTILE, HOSTILE, HOSTILE)
    return [_address(HOSTILE), _span(HOSTILE, 0, 1, 0), _span(HOSTILE, 0, 1), *_module(0, 0.1, 5), named]


def test_hostile_names_are_text(tmp_path: Path) -> None:
    page = _Page(_write(tmp_path, _hostile_run()).read_text())
    allowed = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "ul", "li", "div", "i", "b", "span", "small"}
    assert set(page.tags) <= allowed | {"table", "tr", "th", "td"}
    names = {name for name, _ in page.attributes}
    assert names <= {"lang", "charset", "name", "content", "http-equiv", "class", "style", "title"}
    assert "<script>alert(1)</script>" in page.text and "\x1b" not in page.text and "\u202e" not in page.text
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes


def test_a_large_run_has_a_limited_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_bars, "MAX_ROWS", 2)
    monkeypatch.setattr(page_bars, "MAX_BARS", 10)
    events = [_address()]
    for index in range(5):
        events += [*_module(index, 0.1, 0.5), _named(f"host{index}", "t")]
    page = _Page(_write(tmp_path, events).read_text())
    assert "The first 2 of 5 hosts" in page.text and "many tasks" in page.text and "host4" in page.text
    assert page.tags.count("i") < 30


def test_wrong_usage_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _write(tmp_path, RUN)
    assert cli.main(["trace", "--json", "--html", str(path), str(tmp_path / "run.json")]) == 2
    assert cli.main(["trace", "--html", str(tmp_path / "none/x.html"), str(tmp_path / "run.json")]) == 1
    expected = capsys.readouterr().err.splitlines()
    assert len(expected) == 2 and "--html" in expected[0] and "none/x.html" in expected[1]


@pytest.mark.slow
@pytest.mark.needs_program("chromium")
def test_the_page_is_safe_in_a_browser(tmp_path: Path) -> None:
    """The browser shows hostile names as text, runs none of them, and draws each bar inside its track."""
    path = _write(tmp_path, [*RUN, *_hostile_run()])
    browser = shutil.which("chromium")
    args = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    offline = ["--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=2000", "--dump-dom", path.as_uri()]
    directories = dict.fromkeys(("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), str(tmp_path))
    env = {**os.environ, **directories}
    done = subprocess.run([*map(str, args), *offline], env=env, capture_output=True, text=True, timeout=60)
    page = _Page(done.stdout)
    assert "script" not in page.tags and "img" not in page.tags and "<script>alert(1)</script>" in page.text
    assert page.tags.count("i") > 20 and "Gathering Facts" in page.text
