"""Fixtures for all tests. Their classes are documented in ``tests/support``.

===================  ===============  =========================================================================================
fixture              lasts            value
===================  ===============  =========================================================================================
``sshd``             the run          a running Sshd on 127.0.0.1 (host, port, key, known_hosts, log(), connections() ...)
``make_sshd``        the test         creates another: ``make_sshd(config=["MaxSessions 1"], addresses=[...], host_keys=[...])``
``account``          the run          an Account with a password, bash, sudo and doas without a password
``make_account``     the test         creates another: ``make_account(password=..., shell=..., sudo="password", doas=...)``
``make_key``         the test         creates a KeyFile: ``make_key("rsa", passphrase="x")``
``jump_hosts``       the test         an empty JumpHostPool, closed when the test ends
``client_key``       the run          the KeyFile that every account of every Sshd accepts
``ansible``          the test         an Ansible; the test runs once for each ansible-core (``one_core``: the newest only;
                                      ``newest_core``: the newest only, but with --all each)
``home``             the test         the empty directory in the variable HOME
``short_path``       the test         an empty directory with a short path that other accounts may enter (unlike tmp_path)
``still_accounts``   the test         prevents other test runs from changing accounts and sudo's rules
``pythons``          the run          version -> interpreter, for the target Pythons that are installed here
===================  ===============  =========================================================================================

Always active: a clean environment (``home`` is HOME; no ANSIBLE_*, no SSH_AUTH_SOCK, no LC_*; TMPDIR and XDG_RUNTIME_DIR are
private), and the leak check, which fails a test that leaves a process, thread, socket or file behind (5 s of grace;
``@pytest.mark.leaks("reason")`` exempts one). It also finds processes that have detached themselves.

Fixtures that need root or sshd skip the test if those are missing, and the markers ``needs_root``, ``needs_sshd``,
``needs_terminals``, ``needs_program("strace")``, ``needs_no_openssh`` and ``needs_ansible`` do so for tests without such a
fixture. Tests that are skipped for such a reason are counted at the end.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import init, session
from tests.support import keys as keys_support

# First of all: see init. The directory is made before, so that the parent process can remove it at the end.
session.make_directory()
init.become_family(session.remove_directory)

from pmitogen import toggles  # noqa: E402
from tests.support import extras, leaks, no_openssh, programs  # noqa: E402
from tests.support.accounts import Account, Accounts, etc_lock  # noqa: E402
from tests.support.ansible import Ansible, installed_cores  # noqa: E402
from tests.support.keys import KeyFile  # noqa: E402
from tests.support.sshd import Sshd, find_sshd, makes_terminals  # noqa: E402

if TYPE_CHECKING:
    from pmitogen.transport.jump_host_pool import JumpHostPool

_DEFAULT_CORES = ("2.22", "2.21")  # the others only with --all
_numbers = itertools.count()
_allowed: set[int] = set()  # pids of processes that outlive the test in which they started
_accounts: list[Accounts] = []  # of the test run
_wants: Counter[str] = Counter()  # reason -> number of skipped tests


# -- the run ----------------------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="every ansible-core found here, and the slow tests")
    parser.addoption("--off", action="store_true", help="every optimisation switched off, and no tests of optimisations")
    parser.addoption("--no-openssh", action="store_true", help="all plays without OpenSSH's client; those over ssh are skipped")
    parser.addoption("--core", action="append", metavar="VERSION", help="this ansible-core alone, in every test that plays")


def pytest_configure(config: pytest.Config) -> None:
    programs.every_version = config.getoption("--all")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "ansible" not in metafunc.fixturenames:
        return
    cores = list(installed_cores())
    if named := metafunc.config.getoption("--core"):
        metafunc.parametrize("ansible", [core for core in cores if core in named] or ["none"], indirect=True)
        return
    if not metafunc.config.getoption("--all"):
        cores = [core for core in cores if core in _DEFAULT_CORES] or cores[:1]
        if metafunc.definition.get_closest_marker("newest_core"):
            cores = cores[:1]
    if metafunc.definition.get_closest_marker("one_core"):
        cores = cores[:1]
    metafunc.parametrize("ansible", cores or ["none"], indirect=True)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("slow") and not item.config.getoption("--all"):
        pytest.skip("slow: runs with --all")
    if item.get_closest_marker("optimised") and item.config.getoption("--off"):
        pytest.skip("tests an optimisation, which --off switches off")
    if item.get_closest_marker("needs_root"):
        _need_root()
    if item.get_closest_marker("needs_sshd"):
        _need_sshd()
    if item.get_closest_marker("needs_terminals") and not makes_terminals():
        _skip_for("root, or a /dev/pts with the group tty")
    if item.get_closest_marker("needs_ansible") and not installed_cores():
        _skip_for("ansible-core")
    if item.get_closest_marker("needs_no_openssh") and (problem := no_openssh.problem()):
        _skip_for(problem)
    for marker in item.iter_markers("needs_extra"):
        if problem := extras.problem(marker.args[0]):
            _skip_for(problem)
    for marker in item.iter_markers("needs_program"):
        for name in marker.args:
            if programs.find_program(name) is None:
                _skip_for(name)


def _skip_for(want: str) -> None:
    _wants[want] += 1
    pytest.skip(f"needs {want}")


def _need_root() -> None:
    if os.geteuid() != 0:
        _skip_for("root")


def _need_sshd() -> None:
    if find_sshd() is None:
        _skip_for("sshd (Debian: openssh-server)")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for want, count in sorted(_wants.items()):
        terminalreporter.write_line(f"NOT TESTED for want of {want}: {count} tests", yellow=True, bold=True)


# -- always on --------------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True, scope="session")
def _pytest_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create pytest's own directory before any test changes TMPDIR."""
    return tmp_path_factory.getbasetemp()


@pytest.fixture(autouse=True)
def _leak_check(request: pytest.FixtureRequest) -> Iterator[None]:
    before = leaks.take(_uids())
    yield
    if request.node.get_closest_marker("leaks"):
        return
    left = leaks.since(before, _uids(), _allowed)
    if left:
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)


def _uids() -> set[int]:
    return {uid for made in _accounts for uid in made.uids()}


@pytest.fixture
def still_accounts() -> Iterator[None]:
    """Prevent other runs from changing accounts and rules of this machine, which would force a new session for each account."""
    with etc_lock() if os.geteuid() == 0 else contextlib.nullcontext():
        yield


@pytest.fixture(autouse=True)
def home(_leak_check: None, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    directory = session.directory / "h" / str(next(_numbers))
    directory.mkdir()
    directory.chmod(0o755)
    clean = session.clean_environment(directory)
    for name in set(os.environ) - set(clean):
        if name != "PYTEST_CURRENT_TEST":
            monkeypatch.delenv(name)
    if request.config.getoption("--off"):
        clean.update(dict.fromkeys(toggles.VARIABLES, "0"))
    for name, value in clean.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", None)  # so that TMPDIR is read again
    return directory


# -- fixtures ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def another_process_makes_directories(monkeypatch: pytest.MonkeyPatch) -> None:
    """os.makedirs finds that another process has created the directory a moment earlier."""
    make = os.makedirs

    def second(*args: Any, **named: Any) -> None:
        make(*args, **named)
        make(*args, **named)

    monkeypatch.setattr(os, "makedirs", second)


@pytest.fixture(scope="session")
def client_key() -> KeyFile:
    return keys_support.make_key(session.directory / "k" / "id_ed25519")


@pytest.fixture
def short_path() -> Path:
    directory = session.directory / str(next(_numbers))
    directory.mkdir()
    directory.chmod(0o711)
    return directory


@pytest.fixture
def make_key(short_path: Path) -> Callable[..., KeyFile]:
    def make(kind: str = "ed25519", **options: str) -> KeyFile:
        return keys_support.make_key(short_path / f"key{next(_numbers)}", kind, **options)

    return make


def _new_sshd(key: KeyFile, **options: object) -> Sshd:
    directory = session.directory / f"s{next(_numbers)}"
    directory.mkdir()
    directory.chmod(0o711)
    server = Sshd(directory, key, **options)  # type: ignore[arg-type]
    return server.start()


@pytest.fixture(scope="session")
def sshd(client_key: KeyFile) -> Iterator[Sshd]:
    _need_sshd()
    server = _new_sshd(client_key)
    _allowed.add(server.pid)
    yield server
    server.stop()


@pytest.fixture
def make_sshd(client_key: KeyFile, home: Path) -> Iterator[Callable[..., Sshd]]:
    _need_sshd()
    made: list[Sshd] = []

    def make(**options: object) -> Sshd:
        made.append(_new_sshd(client_key, **options))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def jump_hosts(home: Path) -> Iterator[JumpHostPool]:
    from pmitogen.transport.jump_host_pool import JumpHostPool  # here, because few tests need Paramiko

    pool = JumpHostPool()
    yield pool
    pool.close()


@pytest.fixture(scope="session")
def _account_maker() -> Iterator[Accounts]:
    _need_root()
    maker = Accounts()
    _accounts.append(maker)
    yield maker
    maker.remove_all()
    _accounts.remove(maker)


@pytest.fixture(scope="session")
def account(_account_maker: Accounts) -> Account:
    return _account_maker.make(sudo="nopasswd", doas="nopass")


@pytest.fixture
def make_account(_account_maker: Accounts, home: Path) -> Iterator[Callable[..., Account]]:
    made: list[Account] = []

    def make(**options: object) -> Account:
        made.append(_account_maker.make(**options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        _account_maker.give_back(each)


@pytest.fixture
def ansible(request: pytest.FixtureRequest, home: Path) -> Ansible:
    core = str(request.param)
    python = installed_cores().get(core)
    if python is None:
        _skip_for("ansible-core")
    assert python is not None
    return Ansible(core, python, session.directory / f"a{next(_numbers)}", not request.config.getoption("--no-openssh"))


@pytest.fixture(scope="session")
def pythons() -> dict[str, str]:
    return programs.target_pythons()
