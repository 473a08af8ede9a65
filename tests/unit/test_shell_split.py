"""Arguments of a ProxyCommand: exactly those that a shell would pass on, or none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pmitogen.flags.ssh.local_host import LocalHost
from pmitogen.flags.ssh.shell_split import split_command
from pmitogen.util.caller import CallerEnvironment

ENVIRON = {
    "HOME": "/home/with blank",
    "A": "plain",
    "EMPTY": "",
    "TWO": "two words",
    "STAR": "*",
    "TOKEN": "%h",
    "QUOTE": "it's",
    "TILDE": "~",
    "PATH": "/usr/bin:/bin",
    "PWD": "/elsewhere",
    "LC_ALL": "C.UTF-8",
}
LOCAL = LocalHost.detect(CallerEnvironment(ENVIRON))
SHELLS = [shell for shell in ("dash", "bash", "busybox") if shutil.which(shell)]


def split_by_pmitogen(command: str) -> list[str] | None:
    return split_command(command, LOCAL, lambda text: text)


def split_by_shell(shell: str, command: str, directory: str = "/") -> list[str]:
    argv = [shell, "sh", "-c"] if shell == "busybox" else [shell, "-c"]
    done = subprocess.run([*argv, f"printf '%s\\0' x {command}"], capture_output=True, env=ENVIRON, cwd=directory, timeout=10)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().split("\0")[1:-1]


@pytest.mark.parametrize(
    ("command", "args"),
    [
        ("ssh -F ~/bs.cfg n", ["ssh", "-F", "/home/with blank/bs.cfg", "n"]),
        ("~ ~/ ~root ~root/x", ["/home/with blank", "/home/with blank/", "/root", "/root/x"]),
        ("'~' \"~/x\" \\~ a~ -F~/x x=~/y --x=~", ["~", "~/x", "~", "a~", "-F~/x", "x=~/y", "--x=~"]),
        ("$A ${A}x \"$A y\" '$A' \\$A", ["plain", "plainx", "plain y", "$A", "$A"]),
        ('$EMPTY "$EMPTY" x$EMPTY', ["", "x"]),
        ('"$TWO" "$STAR" "${QUOTE}"', ["two words", "*", "it's"]),
        ('$TILDE/x $EMPTY~ $EMPTY#x a#b "$TOKEN"', ["~/x", "~", "#x", "a#b", "%h"]),
        ("'' \"\" a''b 'a'\"b\"c", ["", "", "ab", "abc"]),
        ('"a\\"b\\\\c\\$A\\x" \'a\\b\' a\\ b a\\\\b', ['a"b\\c$A\\x', "a\\b", "a b", "a\\b"]),
        ("a$ $/ \"$\" a$. \t b", ["a$", "$/", "$", "a$.", "b"]),
        ("", []),
        ("é \u00a0 x", ["é", "\u00a0", "x"]),
    ],
)  # fmt: skip
def test_simple_commands_are_split(command: str, args: list[str]) -> None:
    assert split_by_pmitogen(command) == args


@pytest.mark.parametrize(
    "command",
    [
        "a | b", "a; b", "a && b", "a > b", "a 2>/dev/null", "(a)", "`a`", '"`a`"', "$(a)", '"$(a)"', "${A:-x}", "$$", "$1",
        "$?", "$@", "$-", "$'a'", '$"a"', "*", "a?", "[ab]", "{a,b}", "!x", "# x", "a # x", "'a", '"a', "a\\", "a\nb", "a\\\nb",
        '"a\\\nb"', "$TWO", "$STAR", "x$TWO", "~nosuchuser_x", "~+", "~-", "~1", "~$A", "~'root'", "~ro\\ot", "${A", "${", "${}",
        "a\0b", "a\rb", "$NOTHING", "$_", "$PWD",
    ],
)  # fmt: skip
def test_commands_that_need_a_shell_are_not_split(command: str) -> None:
    assert split_by_pmitogen(command) is None


def test_a_tilde_that_shells_expand_differently_is_not_split() -> None:
    for environ in ({}, {"HOME": ""}):
        local = LocalHost.detect(CallerEnvironment(environ))
        assert split_command("~/x", local, str) is None


def test_tokens_are_expanded_after_splitting() -> None:
    assert split_command('a%h \'%h\' "%h" "$TOKEN"', LOCAL, lambda text: text.replace("%h", "H")) == ["aH", "H", "H", "%h"]


PIECES = [*"ab/.:=~#$\\'\" \t-_%é[*", "$A", "${A}", "$EMPTY", "$TWO", "~/", "~root", '"$TWO"', "$TILDE", "''", "2>"]


@pytest.mark.skipif(not SHELLS, reason="needs a shell")
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@example("$EMPTY~ $EMPTY# x$EMPTY")
def test_arguments_are_those_of_shells(tmp_path: Path, command: str) -> None:
    args = split_by_pmitogen(command)
    if args is not None:
        for shell in SHELLS:
            assert split_by_shell(shell, command, str(tmp_path)) == args, shell
