"""Run each play twice on the same target, over ssh and over pmitogen, and record the output and the files of each run.

The two runs of a play follow each other, because they use the same paths; different plays run at the same time, one per
processor. Before each run the directories of the target and the controller are empty. Tasks with the tag ``more``, which
repeat other tasks of their play with further values, run with --all only.

Variables of a play:

``work``, ``here``             the target's directory and the controller's
``me``, ``other``, ``third``   accounts
``server``                     a web server
``old_python``, ``venv``       further interpreters; empty if there are none
``pythons``                    version -> interpreter, for the Pythons that the ansible-core supports on targets
``embeds``                     whether modules of the ansible-core can include further files (EmbedManager)
``compiled``                   whether the module of that name could be built
``node``                       path of the program node; empty if it is missing

and its hosts: ``t`` and ``t2`` (root), ``u`` (the account *me*, sudo without a password), ``p`` (*other*, sudo with one), ``s``
(always over ssh), ``gone`` (a closed port).
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import programs, session
from tests.support.accounts import Account, Accounts
from tests.support.ansible import Ansible, Run
from tests.support.sshd import Sshd, free_port

from . import server, snapshot

PLAYS = Path(__file__).parent / "plays"
CONNECTIONS = ("ssh", "pmitogen")
WORKERS = 2
LIMIT = 900  # seconds for one run
_ENV = {
    "ANSIBLE_PIPELINING": "1",
    "ANSIBLE_SSH_ARGS": "-C -o ControlMaster=auto -o ControlPersist=60s",  # the default; pmitogen honours further options
    "ANSIBLE_DISPLAY_FAILED_STDERR": "1",
    "ANSIBLE_VAULT_PASSWORD_FILE": "vault.password",
    "ANSIBLE_COLLECTIONS_PATH": "collections",
    "ANSIBLE_INJECT_FACT_VARS": "0",
    "ANSIBLE_GATHERING": "explicit",
    "LC_MESSAGES": "C.UTF-8",  # sent to the target if /etc/ssh/ssh_config says so
}


@dataclass
class Side:
    """One run over one connection: its result and the files after it."""

    run: Run
    directory: Path
    target: dict[str, Any]
    controller: dict[str, Any]
    leftovers: list[str]
    seconds: float
    places: tuple[tuple[str, str], ...]


@dataclass
class Outcome:
    """Both runs of a play, or the reason why there are none."""

    sides: dict[str, Side] = field(default_factory=dict)
    trouble: BaseException | None = None


@dataclass(frozen=True)
class People:
    """The accounts of one play, which no other play uses while it runs."""

    me: Account
    other: Account
    third: Account

    def all(self) -> tuple[Account, ...]:
        return (self.me, self.other, self.third)

    def reset(self) -> None:
        """Empty the homes of the accounts and end their processes."""
        for account in self.all():
            for process in account.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            shutil.rmtree(account.home, ignore_errors=True)
            shutil.copytree("/etc/skel", account.home)
            account.home.chmod(0o755)
            subprocess.run(["chown", "-R", f"{account.uid}:{account.gid}", str(account.home)], check=True)


@dataclass
class World:
    """The resources that all plays share."""

    sshd: Sshd
    accounts: queue.SimpleQueue[People]
    url: str
    directory: Path
    compiled: Path | None
    venv: str
    old_python: str
    silent_port: int

    def hosts(self, ansible: Ansible, people: People) -> dict[str, dict[str, Any]]:
        python = {"ansible_python_interpreter": "/usr/bin/python3"}
        root = ansible.target(self.sshd, "root", **python)
        other = ansible.target(self.sshd, people.other, **python, ansible_become_password=people.other.password)
        return {
            "t": root,
            "t2": dict(root),
            "s": {**root, "ansible_connection": "ssh"},
            "u": ansible.target(self.sshd, people.me, **python),
            "p": other,
            "gone": {**root, "ansible_port": self.silent_port, "ansible_ssh_timeout": 5},
        }


@contextlib.contextmanager
def world(sshd: Sshd, accounts: Accounts) -> Iterator[World]:
    """Create accounts, a web server, interpreters and a compiled module while the plays run."""
    directory = session.directory / "d"
    directory.mkdir()
    directory.chmod(0o711)
    people: queue.SimpleQueue[People] = queue.SimpleQueue()
    made: list[Account] = []
    try:
        for _ in range(WORKERS):
            three = (accounts.make(sudo="nopasswd", doas="nopass"), accounts.make(sudo="password"), accounts.make())
            made += three
            people.put(People(*three))
        with server.serving() as url:
            yield World(
                sshd,
                people,
                url,
                directory,
                _compile(directory),
                _venv(directory),
                programs.find_python("3.9") or "",
                free_port(["127.0.0.1"]),
            )
    finally:
        for account in made:
            accounts.remove(account)
        shutil.rmtree(directory, ignore_errors=True)


def _compile(directory: Path) -> Path | None:
    compiler = programs.find_program("cc")
    if compiler is None:
        return None
    out = directory / "compiled"
    done = subprocess.run(
        [compiler, "-O0", "-o", str(out), str(PLAYS / "files/compiled.c")], stdin=subprocess.DEVNULL, capture_output=True
    )
    return out if done.returncode == 0 else None


def _venv(directory: Path) -> str:
    """Create a virtual environment with spaces in its path; return its interpreter."""
    place = directory / "a venv"
    done = subprocess.run(
        ["/usr/bin/python3", "-m", "venv", "--without-pip", str(place)], stdin=subprocess.DEVNULL, capture_output=True
    )
    return str(place / "bin/python") if done.returncode == 0 else ""


def run_all(made: World, wanted: Sequence[tuple[str, str, Path]]) -> dict[tuple[str, str], Outcome]:
    """(play, core) -> its outcome, for each (play, core, Python) in *wanted*."""
    outcomes = {(play, core): Outcome() for play, core, _ in wanted}
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        jobs = [pool.submit(_run_play, made, play, core, python, outcomes[play, core]) for play, core, python in wanted]
        for job in jobs:
            job.result()
    return outcomes


def _run_play(made: World, play: str, core: str, python: Path, outcome: Outcome) -> None:
    people = made.accounts.get()
    try:
        for connection in CONNECTIONS:
            people.reset()
            outcome.sides[connection] = _run_side(made, people, play, core, python, connection)
    except Exception as exc:
        outcome.trouble = exc
    finally:
        made.accounts.put(people)


def _run_side(made: World, people: People, play: str, core: str, python: Path, connection: str) -> Side:
    base = made.directory / f"{play}{core}"
    shutil.rmtree(base, ignore_errors=True)
    work, here, home, beside = (base / name for name in ("w", "c", "h", "p"))
    for place in (base, work, here, home):
        place.mkdir()
        place.chmod(0o755)
    shutil.copytree(PLAYS, beside, ignore=shutil.ignore_patterns("__pycache__"))
    if made.compiled:
        shutil.copy(made.compiled, beside / "library/compiled")
    began = time.time()
    variables = {
        "work": str(work),
        "here": str(here),
        "me": people.me.name,
        "other": people.other.name,
        "third": people.third.name,
        "server": made.url,
        "third_password": people.third.password,
        "venv": made.venv,
        "old_python": made.old_python,
        "pythons": programs.pythons_for(core),
        "embeds": programs.version_key(core) >= (2, 21),
        "compiled": bool(made.compiled),
        "node": programs.find_program("node") or "",
        "controller_python": str(python),
    }
    ansible = Ansible(core, python, base / "a")
    running = ansible.start_beside(
        beside,
        f"{play}.yml",
        made.hosts(ansible, people),
        variables,
        connection=connection,
        args=() if programs.every_version else ("--skip-tags", "more"),
        env={**session.clean_environment(home), **_ENV, "ANSIBLE_LOCAL_TEMP": str(home / "tmp")},
    )
    try:
        run = running.finish(LIMIT)
    finally:
        _end_masters(home)
    seconds = time.time() - began
    (base / "stdout").write_text(run.stdout)
    _keep(made, play, core, connection, run)
    places: tuple[tuple[str, str], ...] = ((str(base), "BASE"), (str(made.directory), "FOLDER"), (made.url, "SERVER"))
    places += tuple((account.name, name) for account, name in zip(people.all(), ("ME", "OTHER", "THIRD"), strict=True))
    return Side(
        run, beside, snapshot.take(work, began, places), snapshot.take(here, began, places), _leftovers(people), seconds, places
    )


def _keep(made: World, play: str, core: str, connection: str, run: Run) -> None:
    """Write the whole output to the directory PMITOGEN_TEST_KEEP, to help to find the cause of a difference."""
    place = os.environ.get("PMITOGEN_TEST_KEEP")
    if place:
        Path(place, f"{play}-{core}-{connection}.log").write_text(run.output)


def _end_masters(home: Path) -> None:
    """End the connections that ssh holds open for later commands."""
    for control in (home / ".ansible/cp").glob("*"):
        subprocess.run(["ssh", "-O", "exit", "-S", str(control), "x"], stdin=subprocess.DEVNULL, capture_output=True)


def _leftovers(people: People) -> list[str]:
    """Return the temporary directories left in the accounts' homes; async_wrapper removes its own within 5 seconds."""
    deadline = time.monotonic() + 8
    while True:
        found = []
        for account in people.all():
            found += map(str, sorted((account.home / ".ansible/tmp").glob("ansible-tmp-*")))
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def report(outcomes: dict[tuple[str, str], Outcome]) -> str:
    """One line for each play: compared results (of tasks, and of items in loops) and the time in seconds."""
    lines = []
    for (play, core), outcome in sorted(outcomes.items()):
        times = ", ".join(f"{name} {side.seconds:.1f} s" for name, side in outcome.sides.items())
        run = outcome.sides["ssh"].run if "ssh" in outcome.sides else None
        counts = f"{len(run.tasks)} tasks, {len(run.items)} items" if run else "nothing"
        lines.append(f"{play} {core}: {counts}; {times}")
    return "\n".join(lines)
