"""Hostile programs in place of sudo: each fails alone, in one line, in time, and receives the password at most once.

The login account of the same host stays usable meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pmitogen
from tests.integration.test_api import connect
from tests.support.accounts import Account
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]
SECRET = "become s3cret"
TIMEOUT = 2.0  # seconds for an escalation

# $p: the given prompt. told: records the answers. run: starts the given command. up: announces that command as started.
HEAD = r"""#!/bin/bash
for word; do [ "$last" = -p ] && p=$word && break; last=$word; done
line=$*
told() { while IFS= read -r -t 2 word </dev/tty; do printf '%s\n' "$word" >>NOTES; done; sleep 9; }
run() { while [ "$1" != -- ]; do shift; done; shift; "$@"; }
up() { echo "PMITOGEN-`printf %s "$line" | grep -o '[0-9a-f]\{16\}' | tail -1` ready"; }
hide() { stty -echo </dev/tty; }
show() { stty echo </dev/tty; }
ask() { printf "$p" >&3; }
exec 3>/dev/tty
"""
PROGRAMS = {
    "asks for ever": "hide; for n in 1 2 3 4 5 6; do ask; IFS= read -r -t 1 w </dev/tty && echo $w >>NOTES; done; sleep 9",
    "asks at once and again": r'hide; printf "$p$p\r\n$p" >&3; told',
    "asks in two pieces": 'hide; printf "${p%%word*}" >&3; sleep 0.5; printf "xyz: " >&3; told',
    "erases the prompt": r'hide; for n in {1..40}; do ask; printf "\r\033[2K" >&3; done; told',
    "toggles echo": r'for n in {1..200}; do show; printf "\r$p" >&3; hide; show; done; told',
    "shows what is typed": "ask; told",
    "floods the terminal": 'hide; yes "$p" >&3',
    "floods without lines": r"hide; tr '\0' x </dev/zero >&3",
    "floods stdout": "yes BECOME-SUCCESS-abcdefghijklmnopqrstuvwxyzabcdef",
    "floods both": "yes '' >&3 & exec cat /dev/urandom",
    "announces the wrong marker": "echo BECOME-SUCCESS-$RANDOM >&3; hide; printf 'Password: ' >&3; told",
    "announces the command itself": "up; exec cat /dev/zero",
    "announces the command and is silent": "up; sleep 9",
    "announces the command and sends no frame": 'up; echo "HTTP/1.1 200 OK and more"; sleep 9',
    "asks after the command has started": 'run "$@" & sleep 1; hide; ask; told',
    "asks while the command starts": r'run "$@" & hide; for n in {1..30}; do ask; printf "\r" >&3; done; told',
    "closes everything": "exec 0<&- 1>&- 2>&- 3>&-; sleep 9",
    "stops": "kill -STOP $$; sleep 9",
    "leaves a process on the terminal": "(trap '' HUP; sleep 9) & exit 1",
    "dies": "kill -SEGV $$",
    "escapes": r"""printf '\033[2J\033]0;owned\007\033P$q\033\\%s' "$p" >&3; exit 1""",
    "prints megabytes": "head -c 3000000 /dev/urandom | base64 -w0 >&3; exit 1",
}


def test_each_hostile_program_fails_alone(sshd: Sshd, make_account: Callable[..., Account], short_path: Path) -> None:
    short_path.chmod(0o777)
    login = make_account(sudo="nopasswd")

    def path(name: str, end: str) -> Path:
        return short_path / (name.replace(" ", "-") + end)

    for name, text in PROGRAMS.items():
        path(name, "").write_text((HEAD + text).replace("NOTES", str(path(name, ".notes"))))
        path(name, "").chmod(0o755)

    def enter(name: str) -> tuple[str, float]:
        began = time.monotonic()
        exe = str(path(name, ""))
        try:
            entered = host.become("root", exe=exe, password=SECRET, timeout=TIMEOUT)
            return entered.run("echo in", timeout=8).stdout.decode().strip(), time.monotonic() - began
        except (pmitogen.Error, TimeoutError) as error:
            return str(error), time.monotonic() - began

    slowest = 0.0
    with connect(sshd, login) as host, ThreadPoolExecutor(len(PROGRAMS)) as pool:
        assert host.run("true").ok
        running = {name: pool.submit(enter, name) for name in PROGRAMS}
        while not all(each.done() for each in running.values()):
            began = time.monotonic()
            assert host.run("echo here").stdout == b"here\n"
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.1)
        for name, each in running.items():
            args, took = each.result()
            assert args == "in" or took < 14, (name, args, took)
            assert "\n" not in args and "\x1b" not in args and SECRET not in args and len(args) < 900, (name, args)
            notes = path(name, ".notes")
            assert not notes.exists() or notes.read_text().count(SECRET) <= 1, name
            # Not if the prompt was gone, was none, or would have shown the password.
            if name not in ("asks for ever", "asks at once and again"):
                assert not notes.exists() or SECRET not in notes.read_text(), name
        assert host.become("root").run("id -un").stdout == b"root\n"
    assert slowest < 3, slowest
