"""Text of a peer is one harmless line in every terminal, log and message of Ansible.

The peers are SSH servers (text_attack_server.py), an account with hostile interpreters, commands and sudo, and files with names
chosen by a target. The outputs are the commands, the library's errors and prompts, Ansible's messages, -vvvv and the logs.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pmitogen
from pmitogen.cli import hubs, ping
from pmitogen.cli.trace import stages as trace
from pmitogen.errors import Error, RemoteError
from pmitogen.protocol.framing import TO_HUB_UNPACKED
from tests.hostile import raises
from tests.hostile.text_attack_server import EVIL, RAW, SHOWN, TextAttackServer
from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.sshd import Sshd

LOGINS = ["methods", "refusal", "hangup", "key"]


def check(text: str, limit: int = 4000) -> str:
    """Assert that *text* has no control characters, and no forged or endless line. Return it."""
    for line in text.split("\n"):
        bad = [char for char in line if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn")]
        assert not bad, (bad, line)
        assert not line.startswith("ok: all is well"), text
        assert len(line) <= limit, line
    return text


def command(name: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``pmitogen NAME ARGS`` as a separate process without a terminal."""
    argv = [sys.executable, "-m", "pmitogen", name, *args]
    environ = {**os.environ, "PYTHONPATH": os.getcwd(), **env}
    return subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


# Before and during the login


@pytest.mark.parametrize("attack", [*RAW, *LOGINS])
def test_text_of_a_server_is_harmless_in_ping(attack: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with TextAttackServer(attack) as server:
        done = command(
            "ping", *server.ssh_args(tmp_path / "known"), "127.0.0.1", PMITOGEN_LOG="trace", PMITOGEN_LOG_FILE=str(log)
        )
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
    check(done.stderr)
    if attack not in ("version", "key"):
        assert r"\033[2J" in done.stderr, "the text of the server must be part of the message"
    check(log.read_text())


def test_text_of_a_server_is_harmless_in_a_log_file(tmp_path: Path) -> None:
    """The option -E FILE writes Paramiko's lines."""
    log = tmp_path / "ssh-log"
    with TextAttackServer("methods") as server:
        command("ping", "-vvv", "-E", str(log), *server.ssh_args(tmp_path / "known"), "127.0.0.1")
    assert r"\033[2J" in check(log.read_text())


def test_text_of_a_server_is_harmless_in_trust_and_keyscan(tmp_path: Path) -> None:
    with TextAttackServer("key") as server:
        trusted = command("trust", *server.ssh_args(tmp_path / "known"), "127.0.0.1")
        scanned = command("keyscan", f"127.0.0.1:{server.port}")
    assert trusted.returncode == 0 and scanned.returncode == 0, (trusted, scanned)
    assert r"\033[2J" in check(trusted.stdout + trusted.stderr) and r"\033[2J" in check(scanned.stdout + scanned.stderr)


def test_text_that_the_terminal_cannot_encode_is_escaped(tmp_path: Path) -> None:
    with TextAttackServer("key") as server:
        server.version = "SSH-2.0-gr\u00fc\u00df_\u4f60\u597d"
        done = command("trust", *server.ssh_args(tmp_path / "known"), "127.0.0.1", PYTHONIOENCODING="ascii:strict")
        assert done.returncode == 0 and r"gr\xfc\xdf_\u4f60\u597d" in done.stdout, done


@pytest.mark.parametrize("attack", list(RAW))
def test_keyscan_of_a_port_that_is_no_ssh_server_is_harmless(attack: str) -> None:
    with TextAttackServer(attack) as server:
        done = command("keyscan", "-T", "3", f"127.0.0.1:{server.port}")
    assert done.returncode == 1 and done.stderr.count("\n") <= 2, done.stderr
    check(done.stdout + done.stderr)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_prompts_on_a_terminal_begin_with_the_host(tmp_path: Path) -> None:
    """Each line of the prompt begins with the requesting host, before the server's text."""
    with TextAttackServer("prompts") as server:
        args = [*server.ssh_args(tmp_path / "known"), "-o", "NumberOfPasswordPrompts=1", "127.0.0.1"]
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(sys.executable, [sys.executable, "-m", "pmitogen", "ping", *args], {**os.environ, "NO_COLOR": "1"})
        seen, answered = b"", False
        try:
            while chunk := os.read(terminal, 4096):
                seen += chunk
                if not answered and b"... " in seen:
                    answered = bool(os.write(terminal, b"\n"))
        except OSError:
            pass
        os.close(terminal)
        os.waitpid(pid, 0)
    lines = seen.decode().replace("\r\n", "\n").rstrip("\n").split("\n")
    asked = [line for line in lines if "ok: all is well" in line and not line.startswith("pmitogen ping: ")]
    assert asked and all(line.startswith("(guest@127.0.0.1) ") for line in asked), lines
    check("\n".join(lines))


def test_prompts_and_errors_of_the_library_are_harmless(tmp_path: Path) -> None:
    asked: list[str] = []

    def ask(prompt: str, echo: bool) -> str | None:
        asked.append(prompt)
        return None

    with TextAttackServer("prompts") as server, pytest.raises(Error) as caught:
        pmitogen.connect("127.0.0.1", ssh_args=server.ssh_args(tmp_path / "known"), ask=ask)
    own = "guest@127.0.0.1's password: "  # for the method "password", where the server writes nothing
    for prompt in asked:
        assert prompt == own or all(line.startswith("(guest@127.0.0.1) ") for line in check(prompt).split("\n"))
    assert len(asked) > 1
    assert r"\033[2J" in check(str(caught.value)) and "\n" not in str(caught.value)
    for attack in ("greeting", "disconnect", "hangup"):
        with TextAttackServer(attack) as server, pytest.raises(Error) as refused:
            pmitogen.connect("127.0.0.1", ssh_args=server.ssh_args(tmp_path / "known")).ping()
        check(str(refused.value) + repr(refused.value))


@pytest.mark.needs_ansible
@pytest.mark.one_core
def test_text_of_a_server_is_harmless_in_ansibles_messages(ansible: Ansible, tmp_path: Path) -> None:
    servers = {attack: TextAttackServer(attack) for attack in [*RAW, *LOGINS]}
    try:
        hosts = {}
        for attack, server in servers.items():
            arguments = " ".join(server.ssh_args(tmp_path / f"known-{attack}"))
            hosts[attack] = {"ansible_host": "127.0.0.1", "ansible_ssh_common_args": arguments, "ansible_ssh_timeout": 5}
        run = ansible.tasks([{"name": "ping", "ansible.builtin.ping": None}], hosts, args=["-f", "5", "-vvvv"])
    finally:
        for server in servers.values():
            server.__exit__()
    for task in run.tasks:
        assert task.kind == "unreachable" and "\n" not in check(task.message), task
    check(run.stderr, 6000)


# After the login

FAKE = r"""#!/usr/bin/python3
import json, os, struct, sys, time
token, size, me = sys.argv[3], int(sys.argv[4]), int(sys.argv[6])
EVIL = json.load(open(os.path.dirname(os.path.abspath(__file__)) + "/evil"))
mode = EVIL["mode"]
evil = EVIL["text"]
os.write(2, evil.encode("utf-8", "surrogateescape") + b"\n")
if mode == "no-python":
    os.write(1, evil.encode() + b"\n")
    sys.exit(70)
os.write(1, ("PMITOGEN-%s ready\n" % token).encode())
got = b""
while len(got) < size:
    got += os.read(0, 1 << 16)

def send(head, body=b""):
    text = json.dumps(head).encode()
    data = struct.pack(">II", len(text), len(body)) + text + body
    os.write(1, struct.pack(">hLLLLLL", 0x4d49, 0, me, me, EVIL["handle"], 0, len(data)) + data)

hello = {"op": "hello", "account": 0, "python_version": [3, 11, 2], "executable": evil, "user": evil}
send(dict(hello, home="/" + evil, bases={}))
send({"op": "deferred-error", "msg": evil})
for number in range(1, 50):
    send({"op": "error", "id": number, "msg": evil})
time.sleep(1)
os.write(2, evil.encode() + b"\n")
os.close(1)
"""


@pytest.mark.needs_root
@pytest.mark.needs_sshd
@pytest.mark.needs_ansible
@pytest.mark.one_core
@pytest.mark.parametrize("mode", ["agent", "no-python"])
def test_text_of_a_hostile_agent_is_harmless(
    mode: str, ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account], tmp_path: Path
) -> None:
    """Its hello (user, interpreter, home), its messages, the errors of requests, and its stderr."""
    account, honest = make_account(), make_account()
    account.write("bad/evil", json.dumps({"mode": mode, "text": EVIL, "handle": TO_HUB_UNPACKED}), 0o644)
    account.write("bad/python3.14", FAKE, 0o755)
    account.write(".bashrc", "export PATH=$HOME/bad:$PATH\n")
    log = tmp_path / "log"
    done = command("ping", *sshd.ssh_args(), f"{account.name}@{sshd.host}", PMITOGEN_LOG="trace", PMITOGEN_LOG_FILE=str(log))
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    check(done.stdout + done.stderr)
    assert r"stderr: \033[2J" in check(log.read_text())
    hosts = {"evil": ansible.target(sshd, account), "honest": ansible.target(sshd, honest)}
    run = ansible.tasks([{"name": "who", "ansible.builtin.command": "id -un"}], hosts, args=["-vvvv"])
    assert run.task("who", "evil").kind in ("failed", "unreachable") and "\n" not in check(run.task("who", "evil").message)
    assert run.task("who", "honest")["stdout"] == honest.name
    check(run.stderr, 6000)


@pytest.mark.needs_root
@pytest.mark.needs_sshd
@pytest.mark.needs_ansible
@pytest.mark.one_core
def test_text_of_a_hostile_account_is_harmless(ansible: Ansible, sshd: Sshd, make_account: Callable[..., Account]) -> None:
    """The output of its commands, of a false sudo, and the names of its files."""
    account = make_account()
    sudo = account.write("sudo", '#!/bin/sh\ncat "$HOME/evil"\ncat "$HOME/evil" >&2\nexit 1\n', 0o755)
    account.write("evil", EVIL)
    name = "\x1b[2Jfile\u202e"
    account.write(name, "x")
    tasks = [
        {"name": "root", "ansible.builtin.command": "id -un", "become": True, "ignore_errors": True},
        {"name": "fetch", "ansible.builtin.fetch": {"src": f"{account.home}/{name}", "dest": "got/", "flat": True}},
        {"name": "lost", "ansible.builtin.fetch": {"src": f"{account.home}/{name}-not", "dest": "got/"}, "ignore_errors": True},
    ]
    target = ansible.target(sshd, account, ansible_become_exe=str(sudo))
    run = ansible.tasks(tasks, {"h": target}, args=["-vvvv"])
    assert run.task("root").kind == "failed" and r"\u202e" in check(run.task("root").message)
    assert "\n" not in run.task("root").message
    assert r"FETCH %s/\033[2Jfile\u202e" % account.home in run.stdout
    for line in (run.stdout + run.stderr).split("\n"):  # -vvvv also shows process ids of workers, and output of Ansible itself
        if " hub" in line or line.startswith("<"):
            check(line, 20000)


@pytest.mark.needs_root
@pytest.mark.needs_sshd
def test_errors_of_the_library_have_the_raw_text_in_an_attribute(sshd: Sshd, make_account: Callable[..., Account]) -> None:
    account = make_account()
    account.write("evil", EVIL)
    with pmitogen.connect(f"{account.name}@{sshd.host}", ssh_args=sshd.ssh_args()) as host:
        with pytest.raises(RemoteError) as failed:
            host.run('cat "$HOME/evil" >&2; exit 3', check=True)
        assert "\n" not in check(str(failed.value)) and "status 3" in str(failed.value)
        assert failed.value.text == EVIL
        with pytest.raises(RemoteError) as raised:
            host.call(raises.fail, EVIL)
        assert "\n" not in check(str(raised.value)) and SHOWN in str(raised.value)
        assert "Traceback" in raised.value.text and "raises.py" in raised.value.text
        with pytest.raises(RemoteError) as missing:
            host.get("/nonexistent/\x1b[2J\n")
        check(str(missing.value))


# Formatting only


def test_ping_escapes_the_facts_of_a_connection() -> None:
    found: dict[str, Any] = dict.fromkeys(("exe", "user", "home", "state", "peer"), EVIL)
    found.update(python=[3, EVIL], algorithms={"server": EVIL, "kex": EVIL}, stages={"tcp": 0.1}, sent=1, received=2)
    for line in ping.describe(found):
        check(line)


def test_hubs_and_trace_escape_text_of_peers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check(hubs._line(dict.fromkeys(("pid", "run", "age", "hosts", "busy", "workers"), EVIL)))
    file = tmp_path / "trace"
    spans = [{"ph": "X", "name": EVIL, "dur": 5}, {"ph": "X", "name": "wire", "dur": EVIL}, EVIL, {"ph": "X"}]
    file.write_text(json.dumps({"traceEvents": [*spans, {"ph": "X", "name": "wire", "dur": 1000}]}))
    check(trace.table(json.loads(file.read_text())["traceEvents"]))
    for text in (EVIL, "[1]", "[" * 100_000, '{"traceEvents": 1}'):
        file.write_text(text)
        done = command("trace", str(file))
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and "Traceback" not in check(done.stderr)
