"""``pmitogen agent`` and ``pmitogen add`` beside OpenSSH's ssh-agent, ssh-add and ssh: each works with the other."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.accounts import Account
from tests.support.processes import wait_until
from tests.support.sshd import Sshd

pytestmark = pytest.mark.needs_program("ssh-agent")
PMITOGEN = (sys.executable, "-m", "pmitogen")
AGENT, ADD = (*PMITOGEN, "agent"), (*PMITOGEN, "add")


def run(*argv: str, environment: dict[str, str] | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program without a terminal."""
    return subprocess.run(
        argv,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
        env={**os.environ, **(environment or {})},
    )


@pytest.fixture(params=[AGENT, ("ssh-agent",)], ids=["ours", "openssh"])
def agent(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Run an agent; yield its environment."""
    started = run(*request.param, "-s", "-a", str(tmp_path / "agent"))
    assert started.returncode == 0, started.stderr
    environment = dict(re.findall(r"(SSH_\w+)=([^;]+);", started.stdout))
    yield {**environment, "HOME": str(tmp_path)}
    os.kill(int(environment["SSH_AGENT_PID"]), signal.SIGTERM)
    wait_until(lambda: not (tmp_path / "agent").exists())


def make_key(path: Path, kind: str = "ed25519", comment: str = "a comment") -> Path:
    """Make a key pair without a passphrase."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", comment, "-f", path], check=True)
    return path


@pytest.mark.parametrize("add", [ADD, ("ssh-add",)], ids=["ours", "openssh"])
def test_keys_of_every_type_are_added_listed_and_removed(agent: dict[str, str], add: tuple[str, ...], tmp_path: Path) -> None:
    keys = [make_key(tmp_path / kind, kind) for kind in ("ed25519", "ecdsa", "rsa")]
    subprocess.run(["ssh-keygen", "-q", "-s", keys[0], "-I", "id", f"{keys[1]}.pub", f"{keys[2]}.pub"], check=True)
    added = run(*add, *map(str, keys), environment=agent)
    assert added.returncode == 0 and "Certificate added: " in added.stderr, added.stderr
    for flags in (["-l"], ["-L"]):
        ours, theirs = (run(*program, *flags, environment=agent) for program in (ADD, ("ssh-add",)))
        assert ours.stdout == theirs.stdout and ours.stdout.count("\n") == 5, ours.stderr + theirs.stderr
    signed = tmp_path / "signed"
    signed.write_text("text")
    for key in keys:  # ssh-keygen requests a signature from the agent
        key.rename(f"{key}.away")
        made = run("ssh-keygen", "-Y", "sign", "-n", "file", "-f", f"{key}.pub", str(signed), environment=agent)
        assert made.returncode == 0, made.stderr
        (tmp_path / "signed.sig").unlink()
        Path(f"{key}.away").rename(key)
    assert run(*add, "-d", str(keys[0]), environment=agent).returncode == 0
    assert run("ssh-add", "-l", environment=agent).stdout.count("\n") == 4
    assert run(*add, "-D", environment=agent).returncode == 0
    empty = [run(*program, "-l", environment=agent) for program in (ADD, ("ssh-add",))]
    assert [(done.returncode, done.stdout) for done in empty] == [(1, "The agent has no identities.\n")] * 2


@pytest.mark.needs_root
@pytest.mark.needs_sshd
def test_ssh_logs_in_with_a_key_of_the_agent(agent: dict[str, str], sshd: Sshd, account: Account, tmp_path: Path) -> None:
    assert run(*ADD, "-q", str(sshd.key.path), environment=agent).returncode == 0
    # The client has no key of its own: HOME is empty, and no file is named.
    options = ["-o", "BatchMode=yes", *sshd.ssh_args()]
    at = options.index("-i")
    del options[at : at + 4]
    for program in (("ssh",), (*PMITOGEN, "ssh")):
        done = run(*program, *options, f"{account.name}@{sshd.host}", "echo in", environment=agent)
        assert done.stdout == "in\n", done.stderr


def test_lifetimes_locks_and_confirmations_are_honoured(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    askpass = tmp_path / "askpass"
    askpass.write_text('#!/bin/sh\nprintf "%s\\n" "$*" >> "$0.log"\ncat "$0.answer"\n')
    askpass.chmod(0o700)
    answer = tmp_path / "askpass.answer"
    answer.write_text("open sesame\n")
    asking = {"SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force"}
    started = run(*AGENT, "-s", environment=asking)
    environment = {**asking, **dict(re.findall(r"(SSH_\w+)=([^;]+);", started.stdout))}
    path = Path(environment["SSH_AUTH_SOCK"])
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700 and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"phrase" not in Path(f"/proc/{environment['SSH_AGENT_PID']}/cmdline").read_bytes()
    try:
        assert run("ssh-add", "-t", "1", str(key), environment=environment).returncode == 0
        wait_until(lambda: run("ssh-add", "-l", environment=environment).returncode == 1)
        assert run(*ADD, "-c", str(key), environment=environment).returncode == 0
        assert run(*ADD, "-x", environment=environment).returncode == 0
        assert run("ssh-add", "-l", environment=environment).returncode == 1
        answer.write_text("wrong\n")
        assert run("ssh-add", "-X", environment=environment).returncode == 1
        answer.write_text("open sesame\n")
        assert run("ssh-add", "-X", environment=environment).returncode == 0
        key.rename(tmp_path / "away")
        (tmp_path / "text").write_text("text")
        sign = ("ssh-keygen", "-Y", "sign", "-n", "file", "-f", f"{key}.pub", str(tmp_path / "text"))
        assert run(*sign, environment=environment).returncode != 0, "a key that needs a confirmation must not sign without it"
        answer.write_text("yes\n")
        done = run(*sign, environment=environment)
        assert done.returncode == 0, done.stderr
        assert "Allow use of key a comment?" in Path(f"{askpass}.log").read_text()
        restricted = make_key(tmp_path / "restricted")
        (tmp_path / "known").write_text(f"host {(tmp_path / 'key.pub').read_text()}")
        refused = run("ssh-add", "-H", str(tmp_path / "known"), "-h", "host", str(restricted), environment=environment)
        assert refused.returncode == 1, "a key with a restriction that the agent does not support is refused"
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall((256 * 1024 + 1).to_bytes(4, "big"))
            client.settimeout(10)
            assert client.recv(1) == b"", "a message that is too long ends the connection"
    finally:
        ended = run(*AGENT, "-k", environment=environment)
    assert ended.returncode == 0 and "unset SSH_AUTH_SOCK;" in ended.stdout
    wait_until(lambda: not path.parent.exists())


@pytest.mark.needs_root
@pytest.mark.parametrize("program", [AGENT, ("ssh-agent",)], ids=["ours", "openssh"])
def test_the_agent_does_not_answer_another_account(program: tuple[str, ...], account: Account, short_path: Path) -> None:
    """Even where the socket lets it connect."""
    path = short_path / "agent"
    started = run(*program, "-s", "-a", str(path))
    assert started.returncode == 0, started.stderr
    path.chmod(0o666)
    listing = (
        "import socket, sys\n"
        "agent = socket.socket(socket.AF_UNIX)\n"
        "agent.settimeout(20)\n"
        "agent.connect(sys.argv[1])\n"
        "try:\n"
        "    agent.sendall(bytes([0, 0, 0, 1, 11]))\n"
        "    print(agent.recv(1))\n"
        "except OSError:\n"
        "    print(b'')\n"
    )
    try:
        python = ("/usr/bin/python3", "-c", listing, str(path))
        assert run(*python).stdout == "b'\\x00'\n"
        done = account.run(*python)
        assert done.stdout == "b''\n", done.stderr
    finally:
        os.kill(int(re.findall(r"SSH_AGENT_PID=(\d+)", started.stdout)[0]), signal.SIGTERM)
    wait_until(lambda: not path.exists())


def test_the_agent_runs_a_command_and_ends_with_it(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    script = 'ssh-add -q "$0" && ssh-add -l && echo "$SSH_AUTH_SOCK" && exit 7'
    done = run(*AGENT, "sh", "-c", script, str(key))
    assert done.returncode == 7 and "a comment" in done.stdout, done.stderr
    path = Path(done.stdout.splitlines()[-1])
    wait_until(lambda: not path.parent.exists())
    failed = run(*AGENT, "--", str(tmp_path / "absent"))
    assert failed.returncode == 1 and "No such file or directory" in failed.stderr


@pytest.mark.parametrize("line", ["-z", "-t", "-t nonsense", "-c -s", "-k", "-a /nonexistent/dir/socket"])
def test_wrong_use_ends_as_with_ssh_agent(line: str) -> None:
    environment = {"SSH_AGENT_PID": "nonsense"}
    ours, theirs = (run(*program, *line.split(), environment=environment) for program in (AGENT, ("ssh-agent",)))
    assert ours.returncode == theirs.returncode == 1 and "Traceback" not in ours.stderr and ours.stderr, theirs.stderr


@pytest.mark.parametrize("line", ["-z", "-l", "-t nonsense key", "absent", "-d absent"])
def test_wrong_use_ends_as_with_ssh_add(line: str, tmp_path: Path) -> None:
    environment = {"SSH_AUTH_SOCK": str(tmp_path / "absent")}
    ours, theirs = (run(*program, *line.split(), environment=environment) for program in (ADD, ("ssh-add",)))
    assert ours.returncode == theirs.returncode and "Traceback" not in ours.stderr and ours.stderr, theirs.stderr


@pytest.mark.parametrize("add", [ADD, ("ssh-add",)], ids=["ours", "openssh"])
def test_add_prompts_for_passphrases_as_ssh_add(agent: dict[str, str], add: tuple[str, ...], tmp_path: Path) -> None:
    """After a wrong passphrase it prompts again; an empty one skips the key; the last correct one is tried for the next key."""
    keys = [make_key(tmp_path / name) for name in ("one", "two")]
    for key in keys:
        subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "right", "-f", key], check=True)
    askpass, answers, log = tmp_path / "askpass", tmp_path / "answers", tmp_path / "log"
    askpass.write_text(f'#!/bin/sh\necho "$*" >> {log}\nsed -n 1p {answers}\nsed -i 1d {answers}\n')
    askpass.chmod(0o700)
    environment = {**agent, "SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force"}

    def asked(typed: str, *names: Path) -> tuple[int, list[str]]:
        answers.write_text(typed)
        log.write_text("")
        status = run(*add, *map(str, names), environment=environment).returncode
        return status, [line.strip() for line in log.read_text().splitlines()]

    first, again = (f"{text} {keys[0]}:" for text in ("Enter passphrase for", "Bad passphrase, try again for"))
    assert asked("wrong\n\n", keys[0]) == (1, [first, again])
    assert asked("wrong\nright\n", *keys) == (0, [first, again])
    assert run("ssh-add", "-l", environment=agent).stdout.count("\n") == 2


def test_a_key_is_read_from_a_fifo(agent: dict[str, str], tmp_path: Path) -> None:
    """ansible-runner writes the key into a FIFO once."""
    key, fifo = make_key(tmp_path / "key"), tmp_path / "fifo"
    os.mkfifo(fifo, 0o600)
    writer = subprocess.Popen(["sh", "-c", 'exec cat "$1" > "$2"', "sh", key, fifo])
    assert run(*ADD, str(fifo), environment=agent).returncode == 0
    assert writer.wait(20) == 0
    assert run("ssh-add", "-l", environment=agent).stdout.count("\n") == 1


@pytest.mark.parametrize("add", [ADD, ("ssh-add",)], ids=["ours", "openssh"])
def test_certificates_are_removed_and_keys_tested(agent: dict[str, str], add: tuple[str, ...], tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    other = make_key(tmp_path / "other")
    subprocess.run(["ssh-keygen", "-q", "-s", other, "-I", "id", f"{key}.pub"], check=True)

    def act(*argv: str, stdin: str = "") -> tuple[int, list[str]]:
        done = run(*add, *argv, environment=agent, stdin=stdin)
        listed = run("ssh-add", "-L", environment=agent).stdout
        return done.returncode, [line.split()[0] for line in listed.splitlines() if line.startswith("ssh-")]

    plain, cert = "ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com"
    assert act("-q", str(key)) == (0, [plain, cert])
    assert act("-T", f"{key}.pub")[0] == 0 and act("-T", f"{other}.pub")[0] == 1 and act("-T")[0] == 255
    assert act("-qdk", str(key)) == (0, [cert])
    assert act("-q", str(key)) == (0, [cert, plain])
    assert act("-qd", str(key)) == (0, [])
    act("-q", str(key))
    assert act("-d", "-", stdin="# a comment\n" + (tmp_path / "key-cert.pub").read_text()) == (0, [plain])
    assert act("-d", "-", stdin="nonsense\n") == (1, [plain])
    assert act("-d", "-", stdin=Path(f"{key}.pub").read_text()) == (0, [])


def test_without_a_terminal_standard_input_answers(agent: dict[str, str], tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret phrase", "-f", key], check=True)
    for add in (ADD, ("ssh-add",)):
        assert run(*add, str(key), environment=agent).returncode == 1
        assert run(*add, "-t", "0", str(key), environment=agent, stdin="secret phrase\n").returncode == 0
        assert run(*add, "-D", environment=agent).returncode == 0


@pytest.mark.parametrize("argv", [("-a", "x" * 200), *(("-k", pid) for pid in ("x", "0", "-5", "9" * 14))])
def test_wrong_usage_of_the_agent(argv: tuple[str, ...]) -> None:
    """Its messages and status are those of ssh-agent."""
    environment = {"SSH_AGENT_PID": argv[1]} if argv[0] == "-k" else {}
    given = argv[:1] if environment else argv
    ours, theirs = (run(*agent, *given, environment=environment) for agent in (AGENT, ("ssh-agent",)))
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)


def test_an_agent_around_a_command() -> None:
    done = run(*AGENT, "")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "No such file or directory\n")
    done = run(*AGENT, "-t", "0", *ADD, "-l")
    assert (done.returncode, done.stdout, done.stderr) == (1, "The agent has no identities.\n", "")


@pytest.mark.parametrize("argv", [("-l", "-L"), ("-x", "-X")])
def test_ssh_add_does_one_thing(argv: tuple[str, ...], agent: dict[str, str]) -> None:
    ours, theirs = (run(*add, *argv, environment=agent) for add in (ADD, ("ssh-add",)))
    assert (ours.returncode, ours.stderr) == (theirs.returncode, theirs.stderr.replace("\r", ""))
