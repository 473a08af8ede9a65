"""The environment of the bench: a private sshd on loopback, one account with sudo, one relay, a directory for each run.

Every host of a case is the same machine under another address (127.0.1.1, 127.0.1.2 ...), so each has its own connection, its
own interpreter and its own directory.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support import processes
from tests.support.accounts import Accounts
from tests.support.keys import make_key
from tests.support.session import repository
from tests.support.sshd import Sshd, free_port

from .cases import BIG_FILE, SMALL_FILES, Case
from .contenders import Contender
from .measure import PR_SET_CHILD_SUBREAPER

MAX_HOSTS = 50
_PER_SSHD = 16  # addresses that one sshd will listen on
_LIMIT = 400.0  # seconds, for one run
SESSIONS_END = 3.0  # seconds in which sessions end after a run
_PAGE = "{% for n in range(40) %}line {{ n }} of {{ inventory_hostname }}\n{% endfor %}"
_DROPPED = ("ANSIBLE_", "PMITOGEN_", "SSH_", "PYTHON", "XDG_")


class Relay:
    """The relay's process. ``port`` is where it listens, on every address."""

    def __init__(self, addresses: list[str], to: int, delay: float) -> None:
        self.port = free_port(addresses)
        settings = json.dumps({"addresses": addresses, "listen": self.port, "to": to, "delay": delay})
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.relay", settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=repository,
            text=True,
        )
        assert self._process.stdout and self._process.stdout.readline() == "ready\n", "the relay did not start"

    def counts(self) -> dict[str, int]:
        """Return the traffic since the last call."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write("counts\n")
        self._process.stdin.flush()
        counts: dict[str, int] = json.loads(self._process.stdout.readline())
        return counts

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


class Environment:
    """``with Environment(python) as environment:``; *python* is the one whose environment has the ansible-core to play with.

    *hosts*: how many addresses to have.
    """

    def __init__(self, python: Path, hosts: int = MAX_HOSTS) -> None:
        self.python = python
        self._most = hosts
        self._runs = 0
        self._relays: dict[float, Relay] = {}
        self._left_cpu = 0.0  # seconds that processes had used that sessions left behind

    def __enter__(self) -> Environment:
        with contextlib.ExitStack() as stack:
            self._set_up(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def _set_up(self, stack: contextlib.ExitStack) -> None:
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.directory = Path(tempfile.mkdtemp(prefix="pmb-", dir="/tmp"))
        stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.directory.chmod(0o711)
        for name, mode in (("home", 0o711), ("run", 0o700), ("tmp", 0o711)):
            (self.directory / name).mkdir()
            (self.directory / name).chmod(mode)
        accounts = Accounts()
        stack.callback(accounts.remove_all)
        self.account = accounts.make(sudo="nopasswd", sudo_defaults=["!logfile"])
        self.addresses = [f"127.0.{1 + index // 250}.{1 + index % 250}" for index in range(self._most)]
        self.key = make_key(self.directory / "id_ed25519")
        self._sshds: list[Sshd] = []
        port = free_port(self.addresses)
        for first in range(0, self._most, _PER_SSHD):
            self._sshds.append(self._start_sshd(self.addresses[first : first + _PER_SSHD], port))
            stack.callback(self._sshds[-1].stop)
        stack.callback(self._close_relays)
        self.port = port
        self.known_hosts = self.directory / "known_hosts"
        self._write_known_hosts()

    def _start_sshd(self, addresses: list[str], port: int) -> Sshd:
        directory = self.directory / f"sshd-{addresses[0]}"
        directory.mkdir()
        directory.chmod(0o711)
        # The log is kept short, and nobody waits in line: it is not sshd that is measured.
        config = ["MaxSessions 1000", "MaxStartups 1000", "PrintLastLog no"]
        return Sshd(directory, self.key, config=config, addresses=addresses, log_level="INFO", port=port).start()

    def relay(self, delay: float) -> Relay:
        """The relay that adds *delay* seconds each way; started when first asked for."""
        if delay not in self._relays:
            self._relays[delay] = Relay(self.addresses, self.port, delay)
            self._write_known_hosts()
        return self._relays[delay]

    def _close_relays(self) -> None:
        for relay in self._relays.values():
            relay.close()

    def _write_known_hosts(self) -> None:
        ports = [self.port, *[relay.port for relay in self._relays.values()]]
        keys = [(address, sshd.host_keys[0].public) for sshd in self._sshds for address in sshd.addresses]
        lines = [f"[{address}]:{port} {key}" for port in ports for address, key in keys]
        self.known_hosts.write_text("\n".join(lines) + "\n")

    def play(self, case: Case, contender: Contender, *, through_relay: bool) -> dict[str, Any]:
        """Play *case* once as *contender*: wall, cpu, target_cpu, peak_mb, code, outlived; through the relay, also its counts.

        *cpu* is that of the controller's processes, *target_cpu* that of all that sshd has started.
        """
        self._runs += 1
        directory = self.directory / f"r{self._runs}"
        directory.mkdir()
        relay = self.relay(case.delay) if through_relay else None
        self._lay_out(directory, case, contender, relay.port if relay else self.port)
        if relay:
            relay.counts()
        before = self._target_cpu()
        result = self._measure(directory, case, contender)
        result["target_cpu"] = self._target_cpu() - before
        if relay:
            result.update(relay.counts())
        if result["code"]:
            print((directory / "out").read_text()[-3000:], file=sys.stderr, flush=True)
        shutil.rmtree(directory)
        for path in self.account.home.glob("work-*"):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
        return result

    def login(self, delay: float) -> dict[str, Any]:
        """Logs in once with ``ssh host true``: wall, code."""
        address, port = self.addresses[0], self.relay(delay).port if delay else self.port
        options = [
            f"UserKnownHostsFile={self.known_hosts}",
            "GlobalKnownHostsFile=/dev/null",
            "IdentitiesOnly=yes",
            "BatchMode=yes",
        ]
        argv = ["ssh", "-F", "none", "-p", str(port), "-i", str(self.key.path), *(part for it in options for part in ("-o", it))]
        start = time.monotonic()
        done = subprocess.run([*argv, f"{self.account.name}@{address}", "true"], stdin=subprocess.DEVNULL, check=False)
        return {"code": done.returncode, "wall": time.monotonic() - start}

    def _target_cpu(self) -> float:
        """Seconds of processor time of all that the sshds have started, once their sessions have ended.

        What a session leaves behind (the agent and its runners are no children of their shell's) comes to this process, which is
        its subreaper, and is collected here.
        """
        own = {sshd.pid for sshd in self._sshds} | {relay.pid for relay in self._relays.values()}
        with contextlib.suppress(AssertionError):
            processes.wait_until(lambda: all(it.pid in own for it in processes.descendants(os.getpid())), SESSIONS_END)
        for process in processes.all_processes(zombies=True):
            if process.zombie and process.parent == os.getpid():
                _, _, usage = os.wait4(process.pid, os.WNOHANG)
                self._left_cpu += usage.ru_utime + usage.ru_stime
        return self._left_cpu + sum(processes.cpu(sshd.pid, with_children=True) for sshd in self._sshds)

    def _lay_out(self, directory: Path, case: Case, contender: Contender, port: int) -> None:
        options = f"-o UserKnownHostsFile={self.known_hosts} -o GlobalKnownHostsFile=/dev/null -o IdentitiesOnly=yes"
        common = {
            "ansible_connection": contender.connection,
            "ansible_port": port,
            "ansible_user": self.account.name,
            "ansible_ssh_private_key_file": str(self.key.path),
            "ansible_ssh_common_args": options,
            "ansible_python_interpreter": "/usr/bin/python3",
            **({"big": str(self._big_file())} if case.big_file else {}),
        }
        hosts = {
            f"host{index}": {"ansible_host": address, "work": f"{self.account.home}/work-{self._runs}-{index}"}
            for index, address in enumerate(self.addresses[: case.hosts])
        }
        (directory / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts, "vars": common}}))
        own = contender.name == "pmitogen"
        (directory / "play.yml").write_text(case.baseline() if contender.baseline else case.play(own))
        (directory / "ansible.cfg").write_text("")
        (directory / "page.j2").write_text(_PAGE)
        if case.big_file:
            (directory / "big").symlink_to(self._big_file())
        if case.small_files:
            (directory / "small").mkdir()
            for index in range(SMALL_FILES):
                (directory / "small" / f"file{index}").write_text(f"line {index}\n" * 40)

    def _big_file(self) -> Path:
        path = self.directory / "big"
        if not path.exists():
            with path.open("wb") as file:
                for _ in range(BIG_FILE >> 20):
                    file.write(os.urandom(1 << 20))
        return path

    def _measure(self, directory: Path, case: Case, contender: Contender) -> dict[str, Any]:
        env = {name: value for name, value in os.environ.items() if not name.startswith(_DROPPED)}
        env.update(
            contender.env,
            HOME=str(self.directory / "home"),
            TMPDIR=str(self.directory / "tmp"),
            XDG_RUNTIME_DIR=str(self.directory / "run"),
            ANSIBLE_FORKS=str(case.forks),
            ANSIBLE_NOCOLOR="1",
            ANSIBLE_TIMEOUT="60",  # a busy machine is slow to log in, which is not what is measured
            ANSIBLE_DEPRECATION_WARNINGS="0",
            PYTHONPATH=str(contender.source),
        )
        playbook = [str(self.python), "-m", "ansible", "playbook", "-i", "hosts.json", "play.yml"]
        # The measuring process runs on our Python: it is not part of what is measured.
        argv = [sys.executable, "-m", "bench.measure", str(directory / "result"), str(_LIMIT), *playbook]
        with (directory / "out").open("wb") as out:
            subprocess.run(argv, cwd=directory, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False)
        result = directory / "result"
        return json.loads(result.read_text()) if result.exists() else {"code": -1, "wall": 0.0, "cpu": 0.0}
