"""``pmitogen keyscan`` and ``pmitogen trust`` against a real sshd, and beside the installed ssh-keyscan."""

from __future__ import annotations

import contextlib
import getpass
import io
import json
import os
import pty
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pmitogen import cli
from tests.support.keys import KeyFile
from tests.support.programs import find_program
from tests.support.sshd import Sshd

pytestmark = pytest.mark.needs_sshd
MakeSshd = Callable[..., Sshd]
MakeKey = Callable[..., KeyFile]
ALL = ["rsa", "ecdsa", "ed25519"]


def run(*args: object) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, which has no terminal."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(list(map(str, args)))
    return subprocess.CompletedProcess([], code, out.getvalue(), err.getvalue())


def keyscan(*args: object) -> subprocess.CompletedProcess[str]:
    program = find_program("ssh-keyscan")
    assert program
    return subprocess.run([program, *map(str, args)], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)


def keys(done: subprocess.CompletedProcess[str]) -> list[str]:
    return sorted(line for line in done.stdout.splitlines() if not line.startswith("#"))


# -- keyscan


@pytest.mark.needs_program("ssh-keyscan")
def test_keyscan_prints_the_lines_of_ssh_keyscan(make_sshd: MakeSshd, tmp_path: Path) -> None:
    first, second = make_sshd(host_keys=ALL, addresses=["127.0.0.1", "127.0.0.2"]), make_sshd(host_keys=["ecdsa384"])
    port = first.port
    (tmp_path / "hosts").write_text("# two\n127.0.0.2\n\n127.0.0.1,127.0.0.2 One.example,two # both\n")
    for args in (
        ["-t", "rsa,ed25519", "-T", "10s", "-4p", port, "LOCALHOST", "127.0.0.2"],
        ["-p", port, "-f", tmp_path / "hosts"],
        ["-p", second.port, "127.0.0.1"],
    ):
        ours, theirs = run("keyscan", *args), keyscan(*args)
        assert keys(ours) == keys(theirs) != [], args
        comments = {line for line in (theirs.stderr + theirs.stdout).splitlines() if line.startswith("#")}
        assert (ours.returncode, set(ours.stderr.splitlines())) == (0, comments), args


@pytest.mark.needs_program("ssh-keyscan")
def test_ssh_keyscan_succeeds_if_one_host_has_sent_a_key(sshd: Sshd) -> None:
    for args in (["-p", sshd.port, "127.0.0.1", "nosuch.invalid"], ["-p", sshd.port, "nosuch.invalid"], [""]):
        ours, theirs = run("ssh-keyscan", *args), keyscan(*args)
        assert (ours.returncode, keys(ours)) == (theirs.returncode, keys(theirs)), args
    assert run("keyscan", "-p", sshd.port, "127.0.0.1", "nosuch.invalid").returncode == 1


def test_keyscan_prints_each_type_once_and_accepts_each_form_of_a_port(make_sshd: MakeSshd) -> None:
    server = make_sshd(host_keys=[*ALL, "ecdsa521"])
    mark = server.mark()
    expected = sorted(f"[127.0.0.1]:{server.port} {key.public}" for key in server.host_keys)
    for args in ([f"127.0.0.1:{server.port}"], [f"[127.0.0.1]:{server.port}"], ["-q", "-p", server.port, "127.0.0.1"]):
        done = run("keyscan", *args)
        assert (done.returncode, keys(done)) == (0, expected)
        assert done.stderr.count("\n") == ("-q" not in args)
    assert server.connections(mark) == 3 * len(expected) and "Accepted" not in server.log(mark)


@pytest.mark.needs_program("ssh-keygen")
def test_keyscan_hashes_names(make_sshd: MakeSshd, tmp_path: Path) -> None:
    server = make_sshd(host_keys=ALL)
    done = run("keyscan", "-H", f"127.0.0.1:{server.port}")
    assert all(line.startswith("|1|") for line in keys(done)) and len({line.split()[0] for line in keys(done)}) == 3
    (tmp_path / "known").write_text(done.stdout)
    args = ["ssh-keygen", "-F", f"[127.0.0.1]:{server.port}", "-f", str(tmp_path / "known")]
    found = subprocess.run(args, capture_output=True, text=True)
    assert found.returncode == 0 and all(key.public in found.stdout for key in server.host_keys)


def test_keyscan_reports_hosts_without_keys(make_sshd: MakeSshd) -> None:
    """All hosts are scanned at the same time, so that none delays the others."""
    server = make_sshd()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = f"127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        hosts = [mute] * 6 + ["127.0.0.1:1", "no-such-host.invalid", f"127.0.0.1:{server.port}"]
        done = run("keyscan", "-T", "2", *hosts)
        assert time.monotonic() - began < 10
    assert done.returncode == 1 and len(keys(done)) == 1
    errors = [line for line in done.stderr.splitlines() if not line.startswith("#")]
    assert len(errors) == 8 and all(line.startswith("pmitogen keyscan: ") for line in errors)
    for text in (
        "127.0.0.1 port 1: Connection refused",
        "cannot resolve the name no-such-host.invalid",
        "no SSH version received",
    ):
        assert any(text in line for line in errors), errors
    done = run("keyscan", "-t", "rsa", f"127.0.0.1:{server.port}")
    assert done.returncode == 1 and "no host key of type ssh-rsa; the server has ssh-ed25519" in done.stderr


def test_a_server_cannot_write_to_the_terminal() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            link, _ = server.accept()
            link.sendall(b"\x1b]0;mine\x07 nonsense\r\n")
            link.close()

        port = server.getsockname()[1]
        for args in (["keyscan", "-T", "1", f"127.0.0.1:{port}"], ["trust", "-F", "none", "-p", port, "127.0.0.1"]):
            thread = threading.Thread(target=answer)
            thread.start()
            done = run(*args)
            thread.join()
            assert done.returncode == 1 and "nonsense" in done.stderr and done.stderr.rstrip("\n").isprintable()


@pytest.mark.parametrize(
    "args", [[], ["-p", "0", "h"], ["-t", "dsa", "h"], ["-T", "0", "h"], ["-T", "soon", "h"], ["h:x y"], ["[h"], ["-c", "h"]]
)
def test_wrong_arguments_of_keyscan_are_refused(args: list[str]) -> None:
    done = run("keyscan", *args)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


# -- trust


def options(server: Sshd, known: Path, *args: str) -> list[str]:
    all_words = (f"UserKnownHostsFile={known}", "GlobalKnownHostsFile=none", *args)
    return ["-F", "none", "-p", str(server.port), *(each for word in all_words for each in ("-o", word))]


def fingerprint(key: KeyFile) -> str:
    args = ["ssh-keygen", "-lf", f"{key.path}.pub"]
    return subprocess.run(args, capture_output=True, text=True, check=True).stdout.split()[1]


def at_a_terminal(answer: str, *args: object) -> tuple[int, str]:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-m", "pmitogen", "trust", *map(str, args)])
    seen = b""
    try:
        while True:
            try:
                seen += os.read(terminal, 4096)
            except OSError:
                break
            if b"(yes/no/[fingerprint])? " in seen and answer:
                os.write(terminal, answer.encode() + b"\n")
                answer = ""
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen.decode()


@pytest.mark.needs_program("ssh-keygen")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_trust_asks_on_a_terminal(make_sshd: MakeSshd, short_path: Path) -> None:
    server = make_sshd(host_keys=["ed25519", "rsa"])
    known, name = short_path / "new" / "known", f"[127.0.0.1]:{server.port}"
    args = [*options(server, known), "127.0.0.1"]
    code, seen = at_a_terminal("no", *args)
    assert code == 1 and "nothing was recorded" in seen and not known.exists()
    for kind, key in zip(("ED25519", "RSA"), server.host_keys, strict=True):
        assert f"{kind} key fingerprint is {fingerprint(key)}." in seen
    code, seen = at_a_terminal(fingerprint(server.host_keys[1]), *args)
    assert code == 0 and known.read_text() == f"{name} {server.host_keys[1].public}\n", seen
    code, seen = at_a_terminal("yes", *args)
    assert code == 0 and known.read_text().splitlines()[1:] == [f"{name} {server.host_keys[0].public}"], seen
    assert f"known: {known}:1" in seen and f"{known}:2" in seen
    done = run("trust", *args)
    assert done.returncode == 0 and "nothing to record: the keys are known" in done.stdout
    assert len(known.read_text().splitlines()) == 2


@pytest.mark.needs_program("ssh-keygen", "ssh")
def test_trust_needs_a_fingerprint_without_a_terminal(make_sshd: MakeSshd, short_path: Path, client_key: KeyFile) -> None:
    server = make_sshd(host_keys=["ed25519", "ecdsa"])
    known = short_path / "known"
    args = [*options(server, known, "HashKnownHosts=yes"), "127.0.0.1"]
    done = run("trust", *args)
    assert done.returncode == 1 and "--fingerprint SHA256:" in done.stderr and done.stderr.count("\n") == 1
    assert fingerprint(server.host_keys[0]) in done.stdout
    done = run("trust", "--fingerprint", "SHA256:" + "A" * 43, *args)
    assert done.returncode == 1 and "no host key has the fingerprint" in done.stderr and not known.exists()
    for option in (["--fingerprint", fingerprint(server.host_keys[1])], ["--fingerprint=" + fingerprint(server.host_keys[1])]):
        done = run("trust", *option, *args)
        assert (done.returncode, done.stderr) == (0, "")
        assert known.read_text().startswith("|1|") and known.read_text().count("\n") == 1
    # ssh itself accepts the recorded line.
    login = ["ssh", *args[:-1], "-i", str(client_key), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "127.0.0.1"]
    assert subprocess.run([*login, "true"], capture_output=True, timeout=20, stdin=subprocess.DEVNULL).returncode == 0


@pytest.mark.needs_program("ssh-keygen")
def test_changed_and_revoked_keys_are_refused(make_sshd: MakeSshd, short_path: Path, make_key: MakeKey) -> None:
    server = make_sshd(host_keys=["ed25519", "ecdsa"])
    known, name = short_path / "known", f"[127.0.0.1]:{server.port}"
    ours, other = server.host_keys[0].public, make_key().public
    expect = ["trust", "--fingerprint", fingerprint(server.host_keys[0])]
    for lines, text in (
        (["# mine", f"{name} {other}"], f"does not match {known}:2"),
        ([f"{name} {other}"], f"remove that line first (pmitogen keygen -f {known} -R '{name}')"),
        ([f"{name} {make_key('rsa').public}"], f"does not match {known}:1"),
        ([f"{name} {server.host_keys[1].public}", f"[127.*]:{server.port} {other}"], f"does not match {known}:2"),
        ([f"@revoked * {ours}"], f"is revoked by {known}:1"),
    ):
        known.write_text("".join(line + "\n" for line in lines))
        before = known.read_text()
        done = run(*expect, *options(server, known), "127.0.0.1")
        assert done.returncode == 1 and text in done.stderr and done.stderr.count("\n") == 1, done
        assert known.read_text() == before
    # One of two known keys of a type suffices, as for ssh; so does the host's key without the port.
    known.write_text(f"{name} {other}\n{name} {ours}\n127.0.0.1 {server.host_keys[1].public}\n")
    done = run("trust", *options(server, known), "127.0.0.1")
    assert done.returncode == 0 and f"known: {known}:2" in done.stdout and f"known: {known}:3" in done.stdout
    (short_path / "revoked").write_text(ours + "\n")
    done = run(*expect, *options(server, known, f"RevokedHostKeys={short_path}/revoked"), "127.0.0.1")
    assert done.returncode == 1 and f"revoked by {short_path}/revoked:1" in done.stderr


@pytest.mark.needs_program("ssh-keygen")
def test_trust_uses_the_configuration_of_ssh(make_sshd: MakeSshd, short_path: Path) -> None:
    """Host name, alias, algorithms, and a jump host with one login."""
    bastion, server = make_sshd(), make_sshd(host_keys=["ed25519", "ecdsa"])
    (short_path / "config").write_text(
        f"Host box\n  HostName 127.0.0.1\n  Port {server.port}\n  HostKeyAlias Box.Example\n  ProxyJump gate\n"
        f"  HostKeyAlgorithms ecdsa-sha2-nistp256\n"
        f"Host gate\n  HostName 127.0.0.1\n  Port {bastion.port}\n  User {getpass.getuser()}\n  IdentityFile {bastion.key}\n"
        f"  UserKnownHostsFile {bastion.known_hosts}\n"
    )
    config = ["-F", str(short_path / "config")]
    key, mark, gate = server.host_keys[1], server.mark(), bastion.mark()
    done = run("trust", "--fingerprint", fingerprint(key), "-o", f"UserKnownHostsFile={short_path}/known", *config, "box")
    assert (done.returncode, done.stderr) == (0, "")
    assert (short_path / "known").read_text() == f"box.example {key.public}\n"
    assert server.connections(mark) == 1 and bastion.accepted(gate) == [("publickey", getpass.getuser())]


def test_an_unwritable_known_hosts_file_is_reported(sshd: Sshd, short_path: Path) -> None:
    expect = ["trust", "--fingerprint", fingerprint(sshd.host_keys[0])]
    for known, text in ((Path("none"), "UserKnownHostsFile none"), (short_path, "cannot write: Is a directory")):
        done = run(*expect, *options(sshd, known), "127.0.0.1")
        assert done.returncode == 1 and text in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "args", [[], ["-p", "22"], ["h", "uptime"], ["--fingerprint", "abc", "h"], ["h", "--fingerprint"], ["--fingerprint=x", "h"]]
)
def test_wrong_arguments_of_trust_are_refused(args: list[str]) -> None:
    done = run("trust", *args)
    assert done.returncode == 2 and done.stdout == "" and "pmitogen trust" in done.stderr


def test_an_unsupported_option_is_refused_in_one_line() -> None:
    done = run("trust", "-L", "1:h:2", "127.0.0.1")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1) and "-L" in done.stderr


# -- JSON


@pytest.mark.needs_program("ssh-keygen")
def test_trust_and_keyscan_print_json(make_sshd: MakeSshd, short_path: Path) -> None:
    server = make_sshd(host_keys=["ed25519", "ecdsa"])
    known = short_path / "known"
    done = run("keyscan", "--json", "-T", "5", "-p", server.port, "127.0.0.1", "127.0.0.1:1")
    assert (done.returncode, done.stderr) == (1, "")
    good, bad = sorted(json.loads(done.stdout), key=lambda one: bool(one["error"]))
    assert {key["fingerprint"] for key in good["keys"]} == {fingerprint(key) for key in server.host_keys}
    assert good["names"] == [f"[127.0.0.1]:{server.port}"] and not bad["keys"] and bad["error"]
    args = ["--json", *options(server, known), "127.0.0.1"]
    done = run("trust", "--fingerprint", fingerprint(server.host_keys[1]), *args)
    assert (done.returncode, done.stderr) == (0, "")
    found = {key["fingerprint"]: key for key in json.loads(done.stdout)["keys"]}
    assert found[fingerprint(server.host_keys[1])]["recorded"] == f"{known}:1"
    assert found[fingerprint(server.host_keys[0])]["recorded"] is None
    done = run("trust", *args)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert [key["known"] for key in json.loads(done.stdout)["keys"]].count(f"{known}:1") == 1
