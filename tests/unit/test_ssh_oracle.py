"""Hand-written cases of ssh options compared with the installed ``ssh -G``: all keywords that both print have the same value, and
errors are on the same line.

The name of the directory is part of some values, so both answers of a case use the same directory; files that ``Match exec``
creates are removed in between.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from tests.support import ssh_oracle
from tests.support.ssh_cases import LINES, SESSION_FILE, SESSION_LINES, WORDS
from tests.support.ssh_files import CASES, Case

MANY = 400  # minimum number of cases

pytestmark = pytest.mark.usefixtures("ssh")


@pytest.fixture
def ssh() -> str:
    return ssh_oracle.need_ssh()


_WORDS = [(keyword, value) for keyword, values in WORDS.items() for value in values.split("|")]


@pytest.mark.parametrize("start", range(0, len(_WORDS), 50), ids=lambda start: _WORDS[start][0])
def test_values_are_read_as_by_ssh(start: int, tmp_path: Path) -> None:
    """Each value with -o; each invalid one and every third one also in a file."""
    wrong = []
    path = tmp_path / "config"
    for index, (keyword, value) in enumerate(_WORDS[start : start + 50]):
        argv = ["-F", "none", "-o", f"{keyword}={value}", "h"]
        wrong.append((argv, ssh_oracle.difference(argv)))
        if index % 3 == 0 or ssh_oracle.run_ours(argv).error:
            path.write_text(f"\n{keyword} {value}\n")
            wrong.append((["file", keyword, value], ssh_oracle.difference(["-F", str(path), "h"], str(path))))
    assert not [one for one in wrong if one[1]]


@pytest.mark.parametrize("start", range(0, len(LINES), 50))
def test_command_lines_are_read_as_by_ssh(start: int) -> None:
    wrong = []
    for line in LINES[start : start + 50]:
        argv = shlex.split(line) if "-F" in line else ["-F", "none", *shlex.split(line)]
        wrong.append((line, ssh_oracle.difference(argv)))
    assert not [one for one in wrong if one[1]]


def test_match_criteria_for_sessions_are_tested_as_by_ssh(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(SESSION_FILE)
    flags = ["-F", str(path)]
    if "Unsupported Match attribute" in (ssh_oracle.run_ssh([*flags, "h"]).error or ""):
        pytest.skip("needs the ssh of OpenSSH 10, which has Match command and sessiontype")
    wrong = [(line, ssh_oracle.difference([*flags, *shlex.split(line)])) for line, _ in SESSION_LINES]
    assert not [one for one in wrong if one[1]]


def _write(directory: Path, case: Case) -> None:
    for name, text in {**case.more, "config": case.text}.items():
        path = directory / name
        path.write_bytes(text.replace("@/", f"{directory}/").replace("@\n", f"{directory}\n").encode())
        path.chmod(case.modes.get(name, 0o600))


@pytest.mark.parametrize("start", range(0, len(CASES), 25))
def test_files_are_read_as_by_ssh(start: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path
    theirs = ssh_oracle.run_ssh

    def ask_ssh(argv: list[str]) -> ssh_oracle.Answer:
        answer = theirs(argv)
        (directory / "ran").unlink(missing_ok=True)
        return answer

    monkeypatch.setattr(ssh_oracle, "run_ssh", ask_ssh)
    wrong = []
    for index, case in enumerate(CASES[start : start + 25]):
        directory = tmp_path / str(index)
        directory.mkdir()
        _write(directory, case)
        for ask in case.queries:
            what = ssh_oracle.difference(["-F", str(directory / "config"), *shlex.split(ask)], str(directory))
            (directory / "ran").unlink(missing_ok=True)
            if what:
                wrong.append((case.text[:300], ask, what))
    assert not wrong


def test_the_files_of_system_and_user_are_read_as_by_ssh() -> None:
    for line in ("h", "u@h -p 5", "-C -o ControlMaster=auto -o ControlPersist=60s h"):
        assert ssh_oracle.difference(shlex.split(line)) is None


def test_relative_includes_are_searched_in_the_home(home: Path, tmp_path: Path) -> None:
    (home / ".ssh").mkdir(mode=0o700)
    (home / ".ssh" / "more").write_text("Port 77\n")
    (tmp_path / "config").write_text("Include more\nInclude ~/.ssh/mo*\nInclude ~nosuchuser_x/y\n")
    argv = ["-F", str(tmp_path / "config"), "h"]
    assert ssh_oracle.difference(argv) is None
    assert ssh_oracle.run_ours(argv).values["port"] == ["77"]


def test_there_are_enough_cases() -> None:
    args = sum(len(values.split("|")) for values in WORDS.values())
    assert args + len(LINES) + sum(len(case.queries) for case in CASES) >= MANY


def test_options_that_need_a_command_are_no_difference() -> None:
    lines = ["-f -q h", "-q -o ForkAfterAuthentication=yes h", "-q -s h", "-f -o LogLevel=quiet h", "-q -o RemoteCommand=x h w"]
    for line in lines:
        assert ssh_oracle.run_ssh(["-F", "none", *shlex.split(line)]).error is not None, line
        assert ssh_oracle.difference(["-F", "none", *shlex.split(line)]) is None, line


def test_the_oracle_detects_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    """A different value, or an error on one side only."""
    monkeypatch.setattr(ssh_oracle, "run_ours", lambda argv: ssh_oracle.Answer({"port": ["1"]}))
    assert "port" in (ssh_oracle.difference(["-F", "none", "h"]) or "")
    assert ssh_oracle.difference(["-F", "none", "-p", "x", "h"])
    assert ssh_oracle.difference(["-F", "none", "-q", "-p", "x", "h"])
    assert os.path.isabs(ssh_oracle.need_ssh())
