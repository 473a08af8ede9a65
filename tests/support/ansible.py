"""Run ansible-playbook and ansible, of any ansible-core installed here, and read every task's result.

An ansible-core is found in the environment of this interpreter, in the project's ``.venv*`` directories, and in those of the
variable PMITOGEN_VENVS (separated by colons). A run has a clean environment, its own directory, this checkout's plugin, and
first on its PATH an ssh, scp, sftp and sshpass that record their start and fail.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from . import no_openssh, session
from .accounts import Account
from .sshd import Sshd

_SSH_PROGRAMS = ("ssh", "scp", "sftp", "sshpass")
PLUGINS = session.repository / "pmitogen/ansible/plugins/connection"
_CALLBACKS = Path(__file__).parent / "callbacks"
_counter = itertools.count()


def installed_cores() -> dict[str, Path]:
    """Return ansible-core's version ("2.22") -> a Python that has it, newest first."""
    prefixes = [Path(sys.prefix), *sorted(session.repository.glob(".venv*"))]
    prefixes += [Path(name) for name in os.environ.get("PMITOGEN_VENVS", "").split(":") if name]
    found: dict[str, Path] = {}
    for prefix in prefixes:
        for info in prefix.glob("lib/python3*/site-packages/ansible_core-*.dist-info"):
            match = re.match(r"ansible_core-(\d+\.\d+)", info.name)
            if match:
                found.setdefault(match.group(1), prefix / "bin/python")
    return dict(sorted(found.items(), key=lambda item: [-int(part) for part in item[0].split(".")]))


@dataclass
class TaskResult:
    """One task's result on one host. *kind*: ok, failed, skipped, unreachable, item-ok or item-failed."""

    kind: str
    host: str
    task: str
    action: str
    uuid: str
    result: dict[str, Any]
    ignored: bool = False

    def __getitem__(self, name: str) -> Any:
        return self.result[name]

    @property
    def changed(self) -> bool:
        return bool(self.result.get("changed"))

    @property
    def message(self) -> str:
        return str(self.result.get("msg", ""))


@dataclass
class Run:
    """The output and the effects of a finished run."""

    rc: int
    stdout: str
    stderr: str
    tasks: list[TaskResult]  # in the order of the results; without items
    items: list[TaskResult]
    stats: dict[str, dict[str, int]]
    ssh_programs: list[str] = field(default_factory=list)  # the command lines of ssh programs that it started

    @property
    def output(self) -> str:
        return self.stdout + self.stderr

    def task(self, name: str, host: str | None = None) -> TaskResult:
        """Return the only result of the task *name*; *host* is needed if there are several."""
        found = [task for task in self.tasks if task.task == name and host in (None, task.host)]
        assert len(found) == 1, f"{len(found)} results of {name!r}:\n{self.output}"
        return found[0]

    def check(self) -> Run:
        """Assert that the run succeeded and started no ssh program."""
        assert self.rc == 0, f"rc {self.rc}\n{self.output}"
        assert not self.ssh_programs, f"started {self.ssh_programs}"
        return self

    @property
    def warnings(self) -> list[str]:
        """Return the [WARNING] and [DEPRECATION WARNING] lines."""
        return re.findall(r"^\[(?:DEPRECATION )?WARNING\].*", self.output, re.M)


class Running:
    """A run in progress."""

    def __init__(self, command: list[str], directory: Path, env: dict[str, str], marks: Path) -> None:
        self._directory, self._marks = directory, marks
        self._out = (directory / "stdout").open("wb")
        self._err = (directory / "stderr").open("wb")
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._err, cwd=directory, env=env, start_new_session=True
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def tasks(self) -> list[TaskResult]:
        """Return the results so far."""
        return [record for record in read_records(self._directory / "records")[0] if not record.kind.startswith("item-")]

    def signal(self, signum: int, *, group: bool = True) -> None:
        """Send a signal to the run's whole process group, as a terminal does, or to its main process only."""
        (os.killpg if group else os.kill)(self.pid, signum)

    def finish(self, timeout: float = 100) -> Run:
        """Wait for the end. After *timeout* seconds, kill the run and raise TimeoutError with its output."""
        try:
            rc = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGKILL)
            self.process.wait()
            raise TimeoutError(f"not done after {timeout} s:\n{self._text('stdout')}{self._text('stderr')}") from None
        finally:
            self._out.close()
            self._err.close()
        records, stats = read_records(self._directory / "records")
        tasks = [record for record in records if not record.kind.startswith("item-")]
        items = [record for record in records if record.kind.startswith("item-")]
        started = self._marks.read_text().splitlines() if self._marks.exists() else []
        return Run(rc, self._text("stdout"), self._text("stderr"), tasks, items, stats, started)

    def _text(self, name: str) -> str:
        return (self._directory / name).read_text(errors="replace")


class Ansible:
    """ansible-core *core* of the interpreter *python*, run in directories below *directory*.

    *has_openssh*: False runs it in the root of no_openssh.py, in which OpenSSH's client is not installed.
    """

    def __init__(self, core: str, python: Path, directory: Path, has_openssh: bool = True) -> None:
        self.core = core
        self.python = python
        self.directory = directory
        self.has_openssh = has_openssh

    @property
    def release(self) -> tuple[int, ...]:
        """The core's release to compare with, such as (2, 19)."""
        return tuple(int(part) for part in self.core.split("."))

    def ansible(self, *args: str | Path) -> list[str]:
        """Return the command line of ``ansible ARGS``."""
        argv = [str(self.python), "-m", "ansible", *map(str, args)]
        return argv if self.has_openssh else no_openssh.command(*argv)

    def __repr__(self) -> str:
        return f"ansible-core {self.core}"

    def target(self, sshd: Sshd, account: Account | str, **more: Any) -> dict[str, Any]:
        """Return variables of a host: log in to *sshd* as *account*, with the run's key."""
        name = account if isinstance(account, str) else account.name
        options = f"-o UserKnownHostsFile={sshd.known_hosts} -o GlobalKnownHostsFile=/dev/null -o IdentitiesOnly=yes"
        variables = {
            "ansible_host": sshd.host,
            "ansible_port": sshd.port,
            "ansible_user": name,
            "ansible_ssh_private_key_file": str(sshd.key.path),
            "ansible_ssh_common_args": options,
        }
        return {**variables, **more}

    def run_python(self, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run its Python with *args*, and wait for the end."""
        argv = [str(self.python), *args]
        env = {**os.environ, **environment}
        return subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    def answer(self, code: str, *args: str, **environment: str) -> Any:
        """Return the last output line of this program, decoded from JSON."""
        done = self.run_python("-c", code, *args, **environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def playbook(self, play: Any, hosts: Mapping[str, Mapping[str, Any]], *, timeout: float = 100, **options: Any) -> Run:
        """Run a playbook to its end; the parameters are those of ``start``."""
        return self.start(play, hosts, **options).finish(timeout)

    def tasks(self, tasks: Sequence[Mapping[str, Any]], hosts: Mapping[str, Mapping[str, Any]], **options: Any) -> Run:
        """Run one play of these *tasks*, without gathering facts; ``play={...}`` adds keywords of the play."""
        play = {"hosts": "all", "gather_facts": False, **options.pop("play", {}), "tasks": list(tasks)}
        return self.playbook([play], hosts, **options)

    def start(
        self,
        play: Any,
        hosts: Mapping[str, Mapping[str, Any]],
        *,
        connection: str = "pmitogen",
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        files: Mapping[str, str | bytes] | None = None,
        ssh_programs: bool | None = None,
    ) -> Running:
        """Start a playbook.

        *play*: YAML text, or plays as Python lists and dicts. *hosts*: name -> variables. *files*: path -> content, written
        beside the playbook. *ssh_programs*: whether real ones are on the PATH; by default only if the *connection* is "ssh".
        """
        directory = self._new_directory(hosts, files or {})
        (directory / "play.yml").write_text(play if isinstance(play, str) else json.dumps(play, indent=1))
        command = self.ansible("playbook", "-i", "hosts.json", "-c", connection, *args, "play.yml")
        return self._start(command, directory, connection, env, ssh_programs)

    def start_beside(
        self,
        directory: Path,
        play: str,
        hosts: Mapping[str, Mapping[str, Any]],
        variables: Mapping[str, Any],
        *,
        connection: str,
        args: Sequence[str] = (),
        env: Mapping[str, str],
    ) -> Running:
        """Start the playbook *play* in *directory*, with the files beside it; *variables* are those of the group all."""
        (directory / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts, "vars": variables}}))
        command = self.ansible("playbook", "-i", "hosts.json", "-c", connection, *args, play)
        return self._start(command, directory, connection, env, True)

    def adhoc(
        self,
        module: str,
        text: str,
        hosts: Mapping[str, Mapping[str, Any]],
        *,
        connection: str = "pmitogen",
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        timeout: float = 100,
    ) -> Run:
        """Run ``ansible all -m module -a args``."""
        directory = self._new_directory(hosts, {})
        command = self.ansible("adhoc", "-i", "hosts.json", "-c", connection, "all", "-m", module)
        more = {"ANSIBLE_LOAD_CALLBACK_PLUGINS": "1", **(env or {})}
        return self._start([*command, "-a", text, *args], directory, connection, more, None).finish(timeout)

    def _new_directory(self, hosts: Mapping[str, Mapping[str, Any]], files: Mapping[str, str | bytes]) -> Path:
        directory = self.directory / f"run{next(_counter)}"
        directory.mkdir(parents=True)
        (directory / "hosts.json").write_text(json.dumps({"all": {"hosts": {name: dict(vars) for name, vars in hosts.items()}}}))
        for name, content in files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return directory

    def _start(
        self, command: list[str], directory: Path, connection: str, env: Mapping[str, str] | None, ssh_programs: bool | None
    ) -> Running:
        marks = directory / "ssh-programs"
        if connection == "ssh" and not self.has_openssh and ssh_programs is None:
            pytest.skip("needs OpenSSH's client, for a play over ssh")
        full = {**os.environ, **self._environment(directory), **(env or {})}
        if not (connection == "ssh" if ssh_programs is None else ssh_programs):
            full["PATH"] = f"{_failing_ssh_programs(directory, marks)}:{full['PATH']}"
        return Running(command, directory, full, marks)

    def environment(self) -> dict[str, str]:
        """Return the environment of a run, for a script that runs under the same Python."""
        self.directory.mkdir(parents=True, exist_ok=True)
        return {**os.environ, **self._environment(self.directory)}

    def _environment(self, directory: Path) -> dict[str, str]:
        return {
            "PYTHONPATH": str(session.repository),
            "ANSIBLE_CONNECTION_PLUGINS": str(PLUGINS),
            "ANSIBLE_CALLBACK_PLUGINS": str(_CALLBACKS),
            "ANSIBLE_CALLBACKS_ENABLED": "records",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_PYTHON_INTERPRETER": "auto_silent",
            "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=2s",  # by default, ssh stays for a minute
            "PMITOGEN_TEST_RECORDS": str(directory / "records"),
        }


def _failing_ssh_programs(directory: Path, marks: Path) -> Path:
    """Create programs under the names of the ssh programs that record their start and fail; return their directory."""
    poison = directory / "poison"
    poison.mkdir()
    for name in _SSH_PROGRAMS:
        (poison / name).write_text(f"#!/bin/sh\necho \"$0 $*\" >> '{marks}'\nexit 255\n")
        (poison / name).chmod(0o755)
    return poison


def read_records(path: Path) -> tuple[list[TaskResult], dict[str, dict[str, int]]]:
    """Return the results that the callback ``records`` wrote to *path*, and the statistics of the last playbook."""
    stats: dict[str, dict[str, int]] = {}
    results = []
    for line in path.read_text().splitlines() if path.exists() else []:
        record = json.loads(line)
        if record["kind"] == "stats":
            stats = record["stats"]
        else:
            results.append(TaskResult(**record))
    return results, stats
