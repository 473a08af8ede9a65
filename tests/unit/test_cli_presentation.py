"""Presentation of the commands: JSON, the list of commands, colour, completion, the manual page."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pmitogen
from pmitogen import cli
from pmitogen.cli import completion
from pmitogen.cli.colour import paint
from pmitogen.cli.ssh_args import take_flag, verbosity
from pmitogen.cli.trace import stages as trace

NAMES = [one.name for one in completion.commands()]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_command_all_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    output = capsys.readouterr()
    assert output.out == "" and all(re.search(rf"^ +{name}\b", output.err, re.M) for name in NAMES)


def test_version_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pmitogen"] == pmitogen.__version__ and found["python"] == sys.version.split()[0] and found["paramiko"]


def test_trace_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = [{"ph": "X", "name": "wire", "dur": 1000.0 * each} for each in (1, 2, 6)] + [{"ph": "X", "name": "kex", "dur": 5}, 7]
    (tmp_path / "run.json").write_text(json.dumps({"traceEvents": events}))
    assert cli.main(["trace", "--json", str(tmp_path / "run.json")]) == 0
    first, second = json.loads(capsys.readouterr().out)["stages"]
    assert {**first, "title": ""} == {
        "name": "wire",
        "title": "",
        "count": 3,
        "median_seconds": 0.002,
        "mean_seconds": 0.003,
        "total_seconds": 0.009,
    }
    assert second["name"] == "kex" and second["title"] == "connecting: kex"
    assert re.search(r"^total of all workers +9\.0$", trace.table(events), re.M), "the time of connecting is included"
    assert re.search(r"^wire|hub, network.* 3 +2\.00 +3\.00 +9\.0$", trace.table(events), re.M)


def test_pmitogens_flags_are_found_among_those_of_ssh() -> None:
    assert take_flag(["-p", "22", "--json", "h"], "--json") == (True, ["-p", "22", "h"])
    assert take_flag(["h", "--json"], "--json") == (True, ["h"])
    assert take_flag(["-o", "--json", "h"], "--json") == (False, ["-o", "--json", "h"])
    assert take_flag(["--", "--json"], "--json") == (False, ["--", "--json"])


@pytest.mark.parametrize(
    ("args", "count"),
    [([], 0), (["-v"], 1), (["-vv", "-4v"], 3), (["-l", "-v"], 0), (["-lv"], 0), (["-vl", "v"], 1), (["-o", "x=-v"], 0)],
)
def test_v_is_counted(args: list[str], count: int) -> None:
    assert verbosity(args) == count


def test_colour_is_used_on_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert paint("ok", "green", io.StringIO()) == "ok"
    assert paint("ok", "green", _Terminal()) == "\033[32mok\033[0m"
    monkeypatch.setenv("TERM", "dumb")
    assert paint("ok", "green", _Terminal()) == "ok"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert paint("ok", "green", _Terminal()) == "ok"


def _completion(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["completion", shell]) == 0
    return capsys.readouterr().out


def test_bash_completes_commands_and_options(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_text(_completion("bash", capsys))

    def complete(*args: str) -> set[str]:
        code = f'. {script}; COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _pmitogen; printf "%s\\n" "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", code, "-", "pmitogen", *args], capture_output=True, text=True, timeout=20)
        assert not done.stderr
        return set(done.stdout.split())

    assert set(NAMES) <= complete("") and complete("tr") == {"trust", "trace"}
    assert complete("hubs", "--") == {"--help", "--stop", "--all", "--json"}
    assert {"--json", "-J", "-p"} <= complete("ping", "-") and complete("completion", "") >= {"bash", "zsh", "fish"}
    assert {"sudo", "doas"} <= complete("explain", "") and {"-H", "--json"} <= complete("keyscan", "-")
    assert {"-3", "-r", "-J", "--resume"} <= complete("cp", "-") and {"-l", "-v", "-F"} <= complete("keygen", "-")


@pytest.mark.needs_program("fish")
def test_fish_completes_commands_and_options(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    script = tmp_path / "pmitogen.fish"
    script.write_text(_completion("fish", capsys))
    (tmp_path / "stop-file").touch()
    for line, expected in (
        ("pmitogen tr", {"trust", "trace"}),
        ("pmitogen hubs --st", {"--stop"}),
        ("pmitogen cp --res", {"--resume"}),
        ("pmitogen hubs st", set()),  # this command accepts no file
        ("pmitogen trace st", {"stop-file"}),
    ):
        args = ["fish", "--no-config", "-c", f"source {script}; cd {tmp_path}; complete -C '{line}'"]
        done = subprocess.run(
            args, capture_output=True, text=True, timeout=20, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
        )
        assert {found.split("\t")[0] for found in done.stdout.splitlines()} == expected and not done.stderr


# A zsh on a terminal of its own completes each line and prints the content of the terminal.
ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'unsetopt beep; fpath=($PWD $fpath); autoload -U compinit; compinit -u -D; echo LOAD"ED"'
zpty -r -m shell out '*LOADED*'
for line in "$@"; do
  zpty -w -n shell "$line"$'\t'
  sleep 0.7
  out=
  while zpty -r -t shell more; do out+=$more; done
  print -r -- "== $line"
  print -r -- "$out"
  zpty -w -n shell $'\x15'
done
zpty -d shell
"""


def test_zsh_gets_every_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    script = _completion("zsh", capsys)
    assert script.startswith("#compdef pmitogen\n") and all(f"      '{name}:" in script for name in NAMES)


@pytest.mark.needs_program("zsh")
def test_zsh_completes_on_a_terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "_pmitogen").write_text(_completion("zsh", capsys))
    (tmp_path / "stop-file").touch()
    lines = ("pmitogen tru", "pmitogen cp --res", "pmitogen hubs st", "pmitogen trace st")
    args = ["zsh", "-f", "-c", ZSH, "-", *lines]
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "TERM": "dumb"}
    done = subprocess.run(args, cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    shown = done.stdout.split("== pmitogen ")[1:]
    expected = ("trust", "--resume", None, "stop-file")
    assert len(shown) == len(expected), done
    for text, word in zip(shown, expected, strict=True):
        assert word in text if word else "stop-file" not in text, done.stdout


def test_the_manual_page_is_valid_and_complete(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["manual"]) == 0
    output = capsys.readouterr().out
    assert output.startswith(".TH PMITOGEN 1 ") and all(rf".SS {name}".replace("-", r"\-") in output for name in NAMES)
    assert r"usage: pmitogen keygen [\-q]" in output and r"\fB\-\-stop PID\fR" in output and r"\fB\-p PORT\fR" in output
    assert not re.search(r"^[.'](?!TH|SH|SS|TP|PP|nf|fi|B |I )", output, re.M)
    if groff := shutil.which("groff"):
        done = subprocess.run([groff, "-man", "-Tutf8", "-ww"], input=output, capture_output=True, text=True, timeout=20)
        assert done.returncode == 0 and not done.stderr and "keyscan" in done.stdout
