"""Keys of a PKCS#11 token: SoftHSM's, made by OpenSC's tool, against a real sshd.

The library is real: python-pkcs11 loads it in the environment .venv-extras.
"""

from __future__ import annotations

import os
import pty
import select
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import extras
from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.extras import SoftToken, pmitogen
from tests.support.sshd import Sshd

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs_root,
    pytest.mark.needs_sshd,
    pytest.mark.needs_extra("pkcs11"),
    pytest.mark.needs_program("softhsm2-util", "pkcs11-tool"),
]
KINDS = {"rsa:2048": "ssh-rsa", "EC:prime256v1": "ecdsa-sha2-nistp256", "EC:secp384r1": "ecdsa-sha2-nistp384"}
KINDS |= {"EC:secp521r1": "ecdsa-sha2-nistp521", "EC:edwards25519": "ssh-ed25519"}


@pytest.fixture
def token(short_path: Path) -> SoftToken:
    return SoftToken(short_path / "hsm")


@pytest.fixture
def server(make_sshd: Callable[..., Sshd]) -> Sshd:
    """A server that accepts only keys that a test adds."""
    made = make_sshd(config=["MaxAuthTries 3", "PasswordAuthentication no", "KbdInteractiveAuthentication no"])
    made.authorized_keys.write_text("")
    return made


def options(server: Sshd, token: SoftToken) -> list[str]:
    """The ssh options for a login with the token."""
    files = (f"UserKnownHostsFile={server.known_hosts}", f"PKCS11Provider={token.library}", "IdentityFile=none")
    return ["-F", "none", "-p", str(server.port), *[word for file in files for word in ("-o", file)]]


def at_a_terminal(argv: list[str], pin: str, environment: dict[str, str]) -> tuple[int, str]:
    """Run a command on a terminal where *pin* is typed at the first prompt; return its exit status and the screen."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(argv[0], argv, {**os.environ, **environment})
    seen, typed = b"", False
    while select.select([terminal], [], [], 30)[0]:
        try:
            data = os.read(terminal, 4096)
        except OSError:
            break
        if not data:
            break
        seen += data
        if not typed and b"Enter PIN" in seen:
            typed = True
            os.write(terminal, pin.encode() + b"\n")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(terminal)
    return status, seen.decode()


def play(core: str, server: Sshd, account: Account, token: SoftToken, directory: Path, pin: str, count: int = 1) -> list[str]:
    """Run ping on *count* hosts, each with a login of its own and Ansible's options; return the failures."""
    inside = Ansible(core, extras.PYTHON, directory / "runs")
    host = inside.target(server, account, ansible_ssh_pkcs11_provider=token.library, ansible_password=pin)
    del host["ansible_ssh_private_key_file"]
    hosts = {f"h{index}": {**host, "ansible_ssh_extra_args": f"-o ControlPath=/{index}"} for index in range(count)}
    done = inside.tasks([{"name": "ping", "ansible.builtin.ping": {}}], hosts, env=token.environment, args=["-vvvvv"])
    assert pin not in done.output
    return [task.message for task in done.tasks if task.kind != "ok"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_play_with_a_key_of_each_type(kind: str, server: Sshd, account: Account, token: SoftToken, short_path: Path) -> None:
    label = token.add(kind)
    line = token.public_keys()[label]
    assert line.split()[0] == KINDS[kind]
    server.authorize(line)
    assert play("extras", server, account, token, short_path, token.pin, 3) == []


def test_a_wrong_pin_is_presented_once(server: Sshd, account: Account, token: SoftToken, short_path: Path) -> None:
    label = token.add("rsa:2048")
    server.authorize(token.public_keys()[label])
    problems = play("extras", server, account, token, short_path, "0000", 4)
    assert len(problems) == 4 and all("the PIN is wrong" in problem for problem in problems)
    assert sum("it is not tried again" in problem for problem in problems) == 3
    assert play("extras", server, account, token, short_path, token.pin) == []


def test_the_pin_is_asked_for_after_the_server_has_accepted_the_key(server: Sshd, account: Account, token: SoftToken) -> None:
    token.add("EC:prime256v1")
    argv = [str(extras.PYTHON), "-m", "pmitogen", "ssh", *options(server, token), f"{account.name}@{server.host}", "id -un"]
    status, screen = at_a_terminal(argv, token.pin, token.environment)
    assert status == 255 and "PIN" not in screen.replace("PKCS11", "")
    server.authorize(token.public_keys()["key1"])
    status, screen = at_a_terminal(argv, token.pin, token.environment)
    assert (status, token.pin in screen) == (0, False) and account.name in screen and "Enter PIN for 'card': " in screen
    status, screen = at_a_terminal(argv, "9999", token.environment)
    assert status == 255 and "9999" not in screen


def test_without_a_pin_the_key_is_not_used(server: Sshd, account: Account, token: SoftToken) -> None:
    token.add("EC:prime256v1")
    server.authorize(token.public_keys()["key1"])
    done = pmitogen("ping", *options(server, token), f"{account.name}@{server.host}", **token.environment)
    assert done.returncode == 1 and "token card: needs a PIN, and none is given" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("library", "phrase"),
    [("/nonexistent.so", "No such file"), ("/etc/passwd", "invalid ELF header"), ("libc.so.6", "C_GetFunctionList")],
)
def test_a_provider_that_cannot_be_loaded_is_reported(library: str, phrase: str, server: Sshd, account: Account) -> None:
    argv = ("-F", "none", "-p", str(server.port), "-o", f"UserKnownHostsFile={server.known_hosts}")
    done = pmitogen("ping", *argv, "-I", library, f"{account.name}@{server.host}")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"PKCS#11: not tried ({library}: " in done.stderr and phrase in done.stderr and "Traceback" not in done.stderr


def test_explain_lists_pkcs11provider() -> None:
    done = pmitogen("explain", "ssh", "--", "-F", "none", "-o", "PKCS11Provider=/x.so", "host")
    assert done.returncode == 0 and "honoured" in done.stdout, done.stderr
