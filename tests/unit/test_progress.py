"""Progress of long transfers: the text, the times at which it is shown, and the output that shows it."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

from pmitogen.cli import hubs
from pmitogen.util.sizes import format_bytes
from pmitogen.util.sizes import progress as shown

progress = pytest.importorskip("pmitogen.ansible.progress", reason="needs ansible-core")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1549, "1.5 kB"),
        (99_960, "100 kB"),
        (999_600, "1.0 MB"),
        (5e9, "5.0 GB"),
        (7e15, "7000 TB"),
    ],
)
def test_sizes_have_units(count: float, text: str) -> None:
    assert format_bytes(count) == text


def test_the_text_has_sizes_percentage_and_rate() -> None:
    assert shown(1_200_000_000, 4_000_000_000, 10) == "1.2 GB of 4.0 GB (30 %), 120 MB/s"
    assert shown(500, None, 1) == "500 B, 500 B/s"
    assert shown(500, 400) == "500 B of 400 B (100 %)"
    assert shown(0, 0) == "0 B"


class _Display:
    verbosity = 0
    lines: list[str] = []

    def v(self, line: str, host: str) -> None:
        self.lines.append(f"v <{host}> {line}")

    def display(self, line: str) -> None:
        self.lines.append(f"display {line}")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [100.0]
    _Display.lines, _Display.verbosity = [], 0
    monkeypatch.setattr(progress, "Display", _Display)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    yield now


def _read(clock: list[float], seconds: list[float]) -> list[str]:
    stream = progress.Progress(io.BytesIO(b"x" * 4000), "PUT /srv/a\nb", "web1", 4000)
    for each in seconds:
        clock[0] += each
        stream.read(1000)
    return _Display.lines


def test_a_line_is_shown_at_each_interval(clock: list[float]) -> None:
    _Display.verbosity = 1
    assert _read(clock, [1, 5, 1, 6]) == [
        "v <web1> PUT /srv/a b: 2.0 kB of 4.0 kB (50 %), 333 B/s",
        "v <web1> PUT /srv/a b: 4.0 kB of 4.0 kB (100 %), 308 B/s",
    ]


def test_a_short_transfer_shows_nothing(clock: list[float]) -> None:
    _Display.verbosity = 1
    assert _read(clock, [1, 1, 1, 1]) == []


@pytest.mark.parametrize("watched", [True, False])
def test_without_v_progress_is_shown_on_a_terminal_only(
    watched: bool, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_is_watched", lambda: watched)
    assert _read(clock, [9]) == ["display <web1> PUT /srv/a b: 1.0 kB of 4.0 kB (25 %), 111 B/s"] * watched


def test_written_bytes_count_too(clock: list[float]) -> None:
    _Display.verbosity, stream = 1, io.BytesIO()
    written = progress.Progress(stream, "FETCH x", "web1")
    clock[0] += 10
    assert written.write(b"abc") == 3 and stream.getvalue() == b"abc"
    assert _Display.lines == ["v <web1> FETCH x: 3 B, 0 B/s"]


def test_the_path_of_a_task_with_no_log_is_not_shown() -> None:
    assert progress.name_transfer("PUT", "/secret", True) == "PUT" and progress.name_transfer("PUT", "/x", False) == "PUT /x"


@pytest.mark.parametrize(
    "wrong", [None, 7, ["x"], [{"host": [], "action": None, "path": "\x1b[2J", "transferred": "y", "size": -1}]]
)
def test_invalid_reports_of_a_hub_are_ignored(wrong: object) -> None:
    for transfer in hubs._transfers({"transfers": wrong}):
        assert "\x1b" not in hubs._transfer_line(transfer)
