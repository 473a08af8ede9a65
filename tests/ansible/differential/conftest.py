"""Run each play of this directory once over ssh and once over pmitogen, before the first test of its ansible-core."""

from __future__ import annotations

import contextlib
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import leaks, session
from tests.support.accounts import Accounts
from tests.support.ansible import installed_cores
from tests.support.keys import KeyFile
from tests.support.sshd import Sshd, find_sshd

from . import driver

SLOW = ("fresh_login", "fresh_become", "imports_pythons", "modules", "net")  # plays that only --all runs
_seen: dict[str, str] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "outcome" not in metafunc.fixturenames:
        return
    cores = list(installed_cores()) or ["none"]
    plays = sorted(path.stem for path in driver.PLAYS.glob("*.yml"))
    named = metafunc.config.getoption("--core")
    if named:
        cores = [core for core in cores if core in named] or ["none"]
    if not metafunc.config.getoption("--all"):  # each core's plays take minutes
        cores = cores if named else cores[:1]
    pairs = [(play, core) for core in cores for play in plays]
    marked = [pytest.param(pair, marks=pytest.mark.slow if pair[0] in SLOW else (), id="-".join(pair)) for pair in pairs]
    metafunc.parametrize("outcome", marked, indirect=True)


@pytest.fixture(scope="module")
def _server(client_key: KeyFile) -> Iterator[Sshd]:
    """An sshd whose sessions do not look like a login to bash, which would read root's ~/.bashrc for every task over ssh."""
    if find_sshd() is None:
        pytest.skip("needs sshd")
    directory = session.directory / "ds"
    directory.mkdir()
    directory.chmod(0o711)
    server = Sshd(
        directory, client_key, config=["PermitUserEnvironment yes", "MaxSessions 50"], addresses=["127.0.0.1", "127.0.0.2"]
    ).start()
    yield server
    server.stop()


class Outcomes:
    """Run, for each requested ansible-core, all plays whose outcome the selected tests check."""

    def __init__(self, made: driver.World, wanted: list[tuple[str, str]], keep: int) -> None:
        self._made, self._wanted, self._keep = made, wanted, keep
        self._pythons = installed_cores()
        self._known: dict[tuple[str, str], driver.Outcome] = {}

    def of(self, play: str, core: str) -> driver.Outcome:
        if core not in self._pythons:
            pytest.skip("needs ansible-core")
        if (play, core) not in self._known:
            before = leaks.take(set())
            wanted = [(name, core, self._pythons[core]) for name, its in self._wanted if its == core]
            with _no_other_run():
                directories = _payload_directories()
                self._known.update(driver.run_all(self._made, wanted))
                for directory in _payload_directories() - directories:
                    shutil.rmtree(directory, ignore_errors=True)
            _seen["report"] = driver.report(self._known)
            if left := leaks.since(before, set(), {self._keep}):
                pytest.fail("the plays left behind:\n  " + "\n  ".join(left), pytrace=False)
        return self._known[play, core]


@pytest.fixture(scope="module")
def _outcomes(request: pytest.FixtureRequest, _server: Sshd, _account_maker: Accounts) -> Iterator[Outcomes]:
    wanted = dict.fromkeys(
        item.callspec.params["outcome"]
        for item in request.session.items
        if isinstance(item, pytest.Function)
        and item.module is request.module
        and hasattr(item, "callspec")
        and (request.config.getoption("--all") or not item.get_closest_marker("slow"))
    )
    with pytest.MonkeyPatch.context() as patch:
        home = session.directory / "dh"
        home.mkdir()
        clean = session.clean_environment(home)
        for name, value in clean.items():
            patch.setenv(name, value)
        with driver.world(_server, _account_maker) as made:
            yield Outcomes(made, list(wanted), _server.pid)


@contextlib.contextmanager
def _no_other_run() -> Iterator[None]:
    """Wait until no other run's plays are under way: each would remove the payload directories of the other."""
    with socket.socket(socket.AF_UNIX) as lock:
        while True:
            try:
                lock.bind("\0pmitogen-differential-plays")  # has no file, and ends with its process
                break
            except OSError:
                time.sleep(1)
        yield


def _payload_directories() -> set[Path]:
    """Return the directories of payloads that runs over ssh leave behind.

    They are archives of modules that were killed or called os._exit, directories of root in which a job of another account ran,
    and directories of a module that ended early because the Python was too old.
    """
    ours = {path.parent for path in Path("~root").expanduser().glob(".ansible/tmp/ansible-tmp-*/AnsiballZ_reports.py")}
    return {*Path("/tmp").glob("ansible_*_payload_*"), *Path("/var/tmp").glob("ansible-tmp-*"), *ours}


@pytest.fixture
def outcome(request: pytest.FixtureRequest, _outcomes: Outcomes) -> driver.Outcome:
    """Both runs of one play."""
    return _outcomes.of(*request.param)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if "report" in _seen:
        terminalreporter.write_line(_seen["report"])
