"""The command line: output, exit status and errors."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pmitogen
from pmitogen import cli
from pmitogen.cli import dispatch, explain, hubs, prompt
from pmitogen.cli.errors import CommandLineError
from pmitogen.cli.ssh_args import split_destination

COMMANDS = ["setup", "plugin-path", "demo", "explain", "ping", "keyscan", "trust", "hubs", "version"]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    output = capsys.readouterr().out
    assert all(command in output for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    assert f"pmitogen {command}" in capsys.readouterr().out


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["plugin-path"], ["version"], ["explain", "sudo", "--", "-H"]])
def test_simple_commands_import_no_large_module(args: list[str]) -> None:
    code = (
        "import sys; from pmitogen.cli import main; code = main(sys.argv[1:]);"
        "sys.exit(code or any(name in sys.modules for name in ('paramiko', 'mitogen', 'ansible', 'cryptography')))"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "pmitogen", "--version"], capture_output=True, text=True, timeout=30)
    assert done.stdout == f"pmitogen {pmitogen.__version__}\n"


def test_plugin_path_is_a_directory_with_the_plugin(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plugin-path"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert (Path(line) / "pmitogen.py").is_file()


def test_version_lists_the_dependencies(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        *("pmitogen", "paramiko", "cryptography", "mitogen", "ansible-core", "python")
    ]


@pytest.mark.parametrize(
    "args",
    [
        ["nonsense"],
        ["hubs", "--nonsense"],
        ["setup", "extra"],
        ["setup", "--", "extra"],
        ["explain"],
        ["explain", "scp", "--", "x"],
        ["explain", "ssh"],
        ["explain", "sudo", "-F", "file", "--", "-H"],
        ["ping", "-p", "22"],
        ["ping", "-o", "ConnectTimeout=abc", "h"],
        ["trust", "-p", "22"],
        ["trust", "-o", "ConnectTimeout=abc", "h"],
        ["explain", "ssh", "-o", "ConnectTimeout=abc", "h"],
        ["explain", "su", "--", "--nonsense"],
        ["explain", "doas", "--", "-Z"],
        ["keyscan"],
    ],
)
def test_wrong_usage_is_one_line_with_status_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(args) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1 and output.err.startswith("pmitogen")


@pytest.mark.parametrize(
    ("args", "suggestion"),
    [
        (["pign", "h"], "ping"),
        (["key-scan", "h"], "keyscan"),
        (["--versoin"], "--version"),
        (["trace", "--htlm", "x", "y"], "--html"),
        (["version", "--jsno"], "--json"),
        (["hubs", "--al"], None),  # an abbreviation, which argparse accepts
        (["keyscan", "--jsno", "h"], "--json"),
        (["ping", "--jsno", "h"], "--json"),
        (["trust", "--fingerprin=SHA256:x", "h"], "--fingerprint"),
        (["demo", "--hepl"], "--help"),
        (["explain", "shs", "h"], "ssh"),
        (["completion", "zhs"], "zsh"),
        (["explain", "ssh", "-o", "StrictHostKeyCheking=no", "h"], "StrictHostKeyChecking"),
        (["trust", "-o", "userknownhostfile=x", "h"], "UserKnownHostsFile"),
        (["explain", "sudo", "--", "--prserve-env"], "--preserve-env"),
        (["frobnicate"], None),
        (["ping", "-o", "Frobnicate=1", "h"], None),
    ],
)
def test_a_misspelt_command_or_option_gets_a_suggestion(
    args: list[str], suggestion: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(args) == 2
    output = capsys.readouterr().err
    assert output.count("\n") == 1 and (
        f"(did you mean {suggestion}?)" in output if suggestion else "did you mean" not in output
    ), output


@pytest.mark.parametrize(
    "args",
    [
        ["explain", "ssh", "-F", "/nonexistent", "h"],
        ["trace", "/nonexistent"],
    ],
)
def test_an_error_is_one_line_with_status_1(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(args) == 1
    output = capsys.readouterr()
    assert output.err.count("\n") == 1 and output.err.startswith(f"pmitogen {args[0]}: ")


def test_explain_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "sudo", "--json", "--", "-H", "-E"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {entry["option"] for entry in answer["report"]} == {"-H", "-E"}
    assert all(set(entry) == {"option", "from", "verdict", "why"} for entry in answer["report"])


def test_explain_ssh_prints_json(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "config").write_text("Host web*\n  User deploy\n  Port 2222\n")
    args = ["explain", "ssh", "--json", "-F", str(home / "config"), "--", "-p", "22", "-A", "web1"]
    assert cli.main(args) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == {"host", "options", "report"}
    assert (answer["host"], answer["options"]["user"], answer["options"]["port"]) == ("web1", "deploy", "22")
    assert all(set(entry) == {"option", "from", "verdict", "why"} for entry in answer["report"])
    assert cli.main([*args[:-1], "-L", "1:h:2", "web1"]) == 1
    refused = [entry["option"] for entry in json.loads(capsys.readouterr().out)["report"] if entry["verdict"] == "refused"]
    assert refused == ["-L"]


def test_a_refused_option_is_in_the_table_with_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["explain", "sudo", "--", "-H", "-A"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[-2:]] == [["honoured", "-H"], ["refused", "-A"]]


def test_the_table_has_a_line_for_each_value() -> None:
    answer = {"host": "h", "options": {"identityfile": ["a", "b"], "compression": False}, "report": []}
    assert list(explain._table(answer)) == ["host h", "identityfile  a", "identityfile  b", "compression   no"]


@pytest.mark.parametrize(
    ("args", "config", "json", "expected"),
    [
        (["ssh", "-J", "a,b", "h"], None, False, ["-J", "a,b", "h"]),
        (["ssh", "--json", "-F", "f", "-p", "22", "h"], "f", True, ["-p", "22", "h"]),
        (["--json", "ssh", "-Ff", "h", "-v"], "f", True, ["h", "-v"]),
        (["sudo", "-H", "-u", "bob", "--json"], None, False, ["-H", "-u", "bob", "--json"]),
        (["sudo", "-n", "--", "-H"], None, False, None),
    ],
)
def test_dashes_before_options_of_the_explained_program_are_optional(
    args: list[str], config: str | None, json: bool, expected: list[str] | None
) -> None:
    if expected is None:  # before them, every option is pmitogen's
        with pytest.raises(SystemExit):
            dispatch._parse(["explain", *args])
    else:
        options = dispatch._parse(["explain", *args])
        assert (options.config, options.json, options.arguments) == (config, json, expected)


def test_ping_names_the_origin_of_a_wrong_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ping", "-o", "ConnectTimeout=abc", "h"]) == 2
    assert capsys.readouterr().err.startswith("pmitogen ping: command line: ConnectTimeout: invalid time 'abc'")


def test_a_second_double_dash_is_an_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    options = dispatch._parse(["explain", "ssh", "--json", "-F", "f", "--", "-p", "22", "--", "host", "--json"])
    assert (options.config, options.arguments) == ("f", ["-p", "22", "--", "host", "--json"])


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["h"], ([], "h")),
        (["-p", "22", "u@h"], (["-p", "22"], "u@h")),
        (["-p22", "-vAp", "23", "h", "-4", "-l", "u"], (["-p22", "-vAp", "23", "-4", "-l", "u"], "h")),
        (["-o", "Port=1", "--", "h"], (["-o", "Port=1"], "h")),
    ],
)
def test_ping_separates_the_host_from_the_options(args: list[str], expected: tuple[list[str], str]) -> None:
    assert split_destination(args, "ping") == expected


@pytest.mark.parametrize("args", [["-p", "22"], ["-p"], ["--"], ["h", "uptime"], ["--", "h", "-v"]])
def test_ping_accepts_one_host_and_no_command(args: list[str]) -> None:
    with pytest.raises(CommandLineError):
        split_destination(args, "ping")


class _HostWithoutPython:
    """A host without Python."""

    def __enter__(self) -> _HostWithoutPython:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def info(self) -> dict[str, object]:
        return {
            "peer": "root@h port 22",
            "state": "shell only",
            "python": None,
            "no_python": "no Python was found",
            "stages": {"tcp": 0.001},
        }


def test_ping_reports_a_host_without_python(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(pmitogen, "connect", lambda *_, **__: _HostWithoutPython(), raising=False)
    assert cli.main(["ping", "h"]) == 1
    output = capsys.readouterr()
    assert re.fullmatch(r"stages: load .* ms, tcp 1\.0 ms\nother: .* between the stages\ntotal: .*\n", output.out), output.out
    assert output.err == "pmitogen ping: root@h port 22: logged in, but no Python was found\n"


def test_ping_prompts_on_a_terminal_only_and_stops_after_an_empty_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    people: list[prompt.TerminalPrompt | None] = []

    def connect(*_: object, **options: Any) -> _HostWithoutPython:
        people.append(options["ask"])
        return _HostWithoutPython()

    answers = ["s3cret", "", "never asked for"]
    monkeypatch.setattr(pmitogen, "connect", connect, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: answers.pop(0))
    assert cli.main(["ping", "h"]) == 1
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    cli.main(["ping", "h"])
    nobody, person = people
    assert nobody is None and person is not None
    assert [person("Password: ", False) for _ in range(3)] == ["s3cret", None, None]


def test_hubs_without_a_hub_has_no_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["hubs"]) == 0
    assert capsys.readouterr().out == "no hub is running\n"
    assert cli.main(["hubs", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert cli.main(["hubs", "--stop"]) == 0
    assert capsys.readouterr().out == "0 hubs ended\n"


def test_hubs_prints_a_line_for_each_hub() -> None:
    hub = {"pid": 7, "run": 5, "age": 12.4, "hosts": 2, "busy": 1, "workers": 3}
    assert hubs._line(hub) == "hub 7 of run 5: 2 hosts, 1 busy, 12 s old"
    assert hubs._line({**hub, "run": None, "hosts": 1, "busy": 0}) == "hub 7 kept for a later run: 1 host, 0 busy, 12 s old"


def test_a_closed_output_pipe_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "pmitogen", "plugin-path"], stdout=write, stderr=subprocess.PIPE, timeout=30)
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")
