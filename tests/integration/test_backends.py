"""The transport with every SSH server on this machine: two of the three need neither root nor sshd."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pmitogen.errors import AuthenticationError, ConnectError, ConnectionLost
from pmitogen.flags.ssh.settings import JumpHop
from pmitogen.transport.auth.credentials import Credentials, Secret
from pmitogen.transport.connect import Connection
from pmitogen.transport.jump_host_pool import JumpHostPool
from pmitogen.transport.sessions import exec_command, file_transfer
from tests.hostile.bastion import Bastion
from tests.support import backends
from tests.support.accounts import Account
from tests.support.backends import DEMO, MISSING, SSHD, Backend
from tests.support.keys import KeyFile
from tests.support.links import link_to


def _sshd_backend(request: pytest.FixtureRequest) -> Backend:
    server = request.getfixturevalue("make_sshd")()
    password, user = None, ""
    if "password" in request.node.name and request.getfixturevalue("is_root"):
        account: Account = request.getfixturevalue("account")
        password, user = account.password, account.name
    name = link_user()
    return Backend(
        SSHD, server.host, server.port, name, server.key, server.known_hosts, password,
        server.freeze, server.thaw, server.kill_sessions, user,
    )  # fmt: skip


def link_user() -> str:
    import getpass

    return getpass.getuser()


@pytest.fixture
def is_root() -> bool:
    import os

    return os.geteuid() == 0


@pytest.fixture(params=backends.KINDS)
def backend(request: pytest.FixtureRequest, client_key: KeyFile, short_path: Path) -> Iterator[Backend]:
    kind = request.param
    needs = request.node.get_closest_marker("needs_feature")
    for feature in needs.args if needs else ():
        if (kind, feature) in MISSING:
            pytest.skip(MISSING[kind, feature])
    if kind == SSHD:
        yield _sshd_backend(request)
    elif not backends.is_installed(kind):
        pytest.skip(f"needs the package {kind}")
    else:
        yield from backends.python_backend(kind, client_key, short_path)


@pytest.fixture
def link(backend: Backend) -> Iterator[Connection]:
    made = link_to(backend.settings())
    yield made
    made.close()


# -- connecting -------------------------------------------------------------------------------------------------------------


def test_a_connection_reports_the_negotiated_algorithms(link: Connection, backend: Backend) -> None:
    assert link.peer == f"{backend.user}@127.0.0.1 port {backend.port}"
    agreed = link.describe()
    assert agreed["server"].startswith("SSH-2.0-") and agreed["cipher"] and agreed["kex"] and agreed["host key"]
    assert link.stages.kex and link.stages.auth and link.end_reason is None
    link.close()
    assert link.end_reason == "closed by pmitogen"


def test_a_closed_port_is_reported(backend: Backend) -> None:
    with pytest.raises(ConnectError, match="Connection refused") as caught:
        link_to(backend.settings(port=1))
    assert caught.value.stage == "tcp"


# -- logging in -------------------------------------------------------------------------------------------------------------


def test_the_key_that_logs_in_is_named(link: Connection) -> None:
    assert (
        link.auth_report.methods == ("publickey",)
        and link.auth_report.key is not None
        and "ED25519 SHA256:" in link.auth_report.key
    )


def test_another_key_is_refused(backend: Backend, make_key: Callable[..., KeyFile]) -> None:
    with pytest.raises(AuthenticationError) as caught:
        link_to(backend.settings(identityfile=(str(make_key().path),)))
    assert "publickey" in caught.value.allowed_methods and caught.value.message.startswith(f"{backend.user}@127.0.0.1 port")


def _password_settings(backend: Backend, method: str) -> tuple[object, str]:
    if backend.password is None:
        pytest.skip("needs root, to make an account with a password")
    settings = backend.settings(user=backend.password_user, identityfile=(), preferredauthentications=(method,))
    return settings, backend.password


def test_a_password_logs_in_or_is_refused(backend: Backend) -> None:
    settings, password = _password_settings(backend, "password")
    link_to(settings, Credentials(password=Secret(password))).close()  # type: ignore[arg-type]
    with pytest.raises(AuthenticationError, match="password: refused") as caught:
        link_to(settings, Credentials(password=Secret("wrong " + password)))  # type: ignore[arg-type]
    assert password not in caught.value.message


@pytest.mark.needs_feature("keyboard-interactive")
def test_a_password_logs_in_by_keyboard_interactive(backend: Backend) -> None:
    settings, password = _password_settings(backend, "keyboard-interactive")
    link = link_to(settings, Credentials(password=Secret(password)))  # type: ignore[arg-type]
    assert link.auth_report.methods == ("keyboard-interactive",)
    link.close()
    with pytest.raises(AuthenticationError, match="keyboard-interactive: refused"):
        link_to(settings, Credentials(password=Secret("wrong")))  # type: ignore[arg-type]


# -- host keys --------------------------------------------------------------------------------------------------------------


def test_an_unknown_host_key_is_refused(backend: Backend, short_path: Path) -> None:
    own = short_path / "own"
    with pytest.raises(ConnectError, match="is not in .*own") as caught:
        link_to(backend.settings(userknownhostsfile=(str(own),)))
    assert caught.value.stage == "hostkey" and not own.exists()
    link_to(backend.settings(userknownhostsfile=(str(own),), stricthostkeychecking="accept-new")).close()
    assert own.read_text().startswith(f"[127.0.0.1]:{backend.port} ")
    link_to(backend.settings(userknownhostsfile=(str(own),))).close()


def test_a_changed_host_key_is_refused(backend: Backend, make_key: Callable[..., KeyFile], short_path: Path) -> None:
    own = short_path / "own"
    own.write_text(f"[127.0.0.1]:{backend.port} {make_key().public}\n")
    with pytest.raises(ConnectError, match="does not match .*own:1"):
        link_to(backend.settings(userknownhostsfile=(str(own),), stricthostkeychecking="accept-new"))


# -- commands ---------------------------------------------------------------------------------------------------------------


def test_a_command_has_two_outputs_and_a_status(link: Connection) -> None:
    ended, out, err = exec_command.run(link, "echo out; echo oops >&2; exit 7", stdin=b"", timeout=20)
    assert (ended.status, ended.code, out, err) == (7, 7, b"out\n", b"oops\n")


@pytest.mark.needs_feature("stdin")
def test_a_command_reads_its_input(link: Connection) -> None:
    ended, out, err = exec_command.run(link, "cat; echo oops >&2; exit 7", stdin=b"in\n", timeout=20)
    assert (ended.status, ended.code, out, err) == (7, 7, b"in\n", b"oops\n")


@pytest.mark.needs_feature("stdin")
def test_a_megabyte_passes_in_each_direction(link: Connection) -> None:
    data = bytes(range(256)) * 4096
    assert exec_command.run(link, "cat", stdin=data, timeout=30)[1] == data


@pytest.mark.needs_feature("exit-signal")
def test_the_end_by_a_signal_is_reported(link: Connection) -> None:
    ended, _, _ = exec_command.run(link, "kill -TERM $$", timeout=20)
    assert ended.status is None and ended.signal is not None and ended.signal.name == "TERM" and ended.code == 143


@pytest.mark.needs_feature("pty")
def test_a_command_has_a_terminal_of_the_given_size(link: Connection) -> None:
    terminal = exec_command.Terminal("dumb", 91, 17)
    assert b"17 91" in exec_command.run(link, "stty size", terminal=terminal, timeout=20)[1]


def test_several_commands_run_at_once(link: Connection) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda n: exec_command.run(link, f"sleep 0.2; echo {n}", timeout=20)[1], range(4)))
    assert done == [b"%d\n" % n for n in range(4)]


# -- files ------------------------------------------------------------------------------------------------------------------


@pytest.mark.needs_feature("files")
def test_files_are_copied_in_both_directions(link: Connection, short_path: Path) -> None:
    data = bytes(range(256)) * 2000
    files = file_transfer.FileTransfer(link)
    try:
        files.put(io.BytesIO(data), len(data), str(short_path / "f"), 0o640)
        assert (short_path / "f").read_bytes() == data and (short_path / "f").stat().st_mode & 0o777 == 0o640
        back = io.BytesIO()
        assert files.fetch(str(short_path / "f"), back) == len(data) and back.getvalue() == data
    finally:
        files.close()


# -- the end ----------------------------------------------------------------------------------------------------------------


def test_a_silent_server_is_disconnected(backend: Backend) -> None:
    link = link_to(backend.settings(serveraliveinterval=1, serveralivecountmax=1))
    lost = threading.Event()
    reasons: list[str] = []
    link.on_lost(lambda reason: (reasons.append(reason), lost.set()))
    backend.freeze()
    try:
        assert lost.wait(10)
    finally:
        backend.thaw()
        link.close()
    assert reasons == [f"{link.peer}: no answer for 1.8 s"]


def test_a_killed_server_is_reported(backend: Backend, link: Connection) -> None:
    running = exec_command.Command(link, "echo up; while sleep 0.2; do echo on; done")  # ends if its output is not read
    assert running.read(20)
    backend.kill()
    with pytest.raises(ConnectionLost, match="the server closed the connection"):
        end = time.monotonic() + 10
        while running.read(10) is not None and time.monotonic() < end:
            pass
    running.close()


# -- jump hosts -------------------------------------------------------------------------------------------------------------


def test_a_host_is_reached_through_a_jump_host(backend: Backend, short_path: Path, jump_hosts: JumpHostPool) -> None:
    """The jump host is also a server in Python."""
    gate = Bastion(keys=True).start()
    hop = gate.settings(short_path / "gate_known", identityfile=(str(backend.key.path),), identityfile_explicit=True)
    try:
        settings = backend.settings(proxyjump=(JumpHop(host="gate"),))
        link = link_to(settings, jump_hosts=jump_hosts, resolver=lambda _hop, _target: hop)
        assert exec_command.run(link, "echo through", timeout=20)[1] == b"through\n"
        assert gate.logins == 1
        link.close()
    finally:
        jump_hosts.close()
        gate.stop()


def test_the_demo_server_is_always_a_backend() -> None:
    """So tests for contributors without root and sshd cover the transport."""
    assert backends.is_installed(DEMO)
