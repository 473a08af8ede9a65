"""A private OpenSSH server on loopback: its own port, host keys, configuration, ``authorized_keys`` and log.

Any account may log in with the run's client key. If the tests run as root, passwords also work as on a normal machine, through
PAM; otherwise only the user of the tests can log in, and only with the key. The lines of *config* come first in the file, and
sshd uses the first value of an option, so a test can override any line below.
"""

from __future__ import annotations

import contextlib
import grp
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from . import processes
from .keys import KeyFile, make_key

START_TIMEOUT = 10.0  # seconds


def find_sshd() -> str | None:
    """Return sshd's absolute path (it refuses to run with a relative one), or None."""
    return shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin")


def makes_terminals() -> bool:
    """Return whether an sshd of this user can make terminals: it must own them, with the group tty if there is one.

    root may change the owner; for other users /dev/pts must be mounted so, as it is outside of many containers.
    """
    try:
        group = grp.getgrnam("tty").gr_gid
    except KeyError:
        return True
    with contextlib.ExitStack() as stack:
        try:
            for fd in (pair := os.openpty()):
                stack.callback(os.close, fd)
            os.chown(pair[1], os.getuid(), group)
        except OSError:
            return False
        return True


def free_port(addresses: Collection[str]) -> int:
    """Return a TCP port that is free on all of *addresses* now."""
    begin = "0.0.0.0" if "0.0.0.0" in addresses else "127.0.0.1"
    for _ in range(100):
        with socket.socket() as first:
            first.bind((begin, 0))
            port = int(first.getsockname()[1])
            if all(_is_free(address, port) for address in addresses if address not in (begin, "127.0.0.1")):
                return port
    raise RuntimeError("no free port on " + ", ".join(addresses))


def _is_free(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True


class Sshd:
    """A running sshd. ``host`` and ``port`` are its address; ``key`` is a KeyFile that every account accepts.

    *addresses*: at most 16, the limit of sshd; *port*: 0 for a free one; *extra_files*: name -> text, written to its directory;
    *wrapper*: a program that starts it, by exec.
    """

    def __init__(
        self,
        directory: Path,
        key: KeyFile,
        *,
        config: Sequence[str] = (),
        addresses: Sequence[str] = ("127.0.0.1",),
        host_keys: Sequence[str] = ("ed25519",),
        log_level: str = "VERBOSE",
        extra_files: dict[str, str] | None = None,
        port: int = 0,
        wrapper: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.key = key
        self.config = list(config)
        self.addresses = list(addresses)
        self.host = self.addresses[0]
        self.log_path = directory / "log"
        self.authorized_keys = directory / "authorized_keys"
        self.host_keys = [make_key(directory / f"host_{kind}", kind) for kind in host_keys]
        self._log_level = log_level
        self._wrapper = list(wrapper)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port
        self.authorized_keys.write_text(key.public + "\n")
        for name, text in (extra_files or {}).items():
            (directory / name).write_text(text)
        self.known_hosts = directory / "known_hosts"

    # -- start and end ------------------------------------------------------------------------------------------------------

    def start(self) -> Sshd:
        """Start it and wait until it listens; on its earlier port, if it ran before."""
        program = find_sshd()
        if program is None:
            raise RuntimeError("sshd is not installed")
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        for _ in range(5):
            self.port = self.port or free_port(self.addresses)
            self._write_config()
            offset = self.mark()
            self._process = subprocess.Popen(
                [*self._wrapper, program, "-D", "-f", str(self.directory / "config"), "-E", str(self.log_path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            if self._wait_until_listening(offset):
                self._write_known_hosts()
                return self
            self.stop()
            if "Address already in use" not in self.log(offset):
                break
            self.port = 0
        raise RuntimeError("sshd did not start:\n" + self.log())

    def _wait_until_listening(self, offset: int) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self._process.poll() is None:
            if self.log(offset).count("Server listening on") >= len(self.addresses):
                return True
            time.sleep(0.01)
        return False

    def stop(self) -> None:
        """Kill the server, all its sessions and their processes."""
        if self._process is None:
            return
        processes.kill_family(self._process.pid)
        self._process.wait()
        self._process = None

    def stop_listening(self) -> None:
        """End the listener only: open connections continue, new ones are refused."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """Stop the server and all its sessions, like a host that loses power; a session that forks meanwhile, too."""
        stopped: set[processes.Process] = set()
        while True:
            self._signal_all(signal.SIGSTOP)
            if stopped == (stopped := processes.descendants(self.pid)):
                return

    def thaw(self) -> None:
        self._signal_all(signal.SIGCONT)

    def kill_sessions(self) -> None:
        """Kill every open connection; the listener continues, and a client may connect again at once."""
        processes.kill_descendants(self.pid)

    def _signal_all(self, signum: int) -> None:
        for process in [*processes.descendants(self.pid)]:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.kill(process.pid, signum)
        os.kill(self.pid, signum)

    @property
    def pid(self) -> int:
        assert self._process is not None, "sshd is not running"
        return self._process.pid

    # -- files --------------------------------------------------------------------------------------------------------------

    def _write_config(self) -> None:
        as_root = os.geteuid() == 0
        lines = [
            *self.config,
            f"Port {self.port}",
            *[f"ListenAddress {address}" for address in self.addresses],
            *[f"HostKey {key.path}" for key in self.host_keys],
            f"AuthorizedKeysFile .ssh/authorized_keys {self.authorized_keys}",
            f"LogLevel {self._log_level}",
            f"UsePAM {'yes' if as_root else 'no'}",
            "PasswordAuthentication yes",
            "PermitRootLogin yes",
            "StrictModes no",
            "UseDNS no",
            "PidFile none",
            "AcceptEnv LANG LC_*",
        ]
        for line in ("MaxStartups 500", "Subsystem sftp internal-sftp"):
            word = line.split()[0].lower()
            if not any(other.lower().startswith(word) for other in self.config):
                lines.append(line)  # sshd uses the last value of this option, and the other may occur only once
        if _version() >= (9, 8):
            lines.append("PerSourcePenalties no")
        # root's ~/.bashrc belongs to this machine, and may do much at each login (pyenv's waits a minute for a lock that a killed
        # session has left). bash reads it for sshd's sessions only if this variable is not yet 1.
        lines += ["Match User root", "SetEnv SHLVL=1"]
        (self.directory / "config").write_text("\n".join(lines) + "\n")

    def _write_known_hosts(self) -> None:
        lines = [f"[{address}]:{self.port} {key.public}" for address in self.addresses for key in self.host_keys]
        self.known_hosts.write_text("\n".join(lines) + "\n")

    def authorize(self, line: str) -> None:
        """Add a line to the authorized_keys file that all accounts share."""
        with self.authorized_keys.open("a") as file:
            file.write(line + "\n")

    # -- the log ------------------------------------------------------------------------------------------------------------

    def mark(self) -> int:
        """Return the current end of the log, for the argument *since* of the methods below."""
        return self.log_path.stat().st_size if self.log_path.exists() else 0

    def log(self, since: int = 0) -> str:
        """Return the text of the log from *since* on."""
        if not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as file:
            file.seek(since)
            return file.read().decode("utf-8", "replace")

    def wait_log(self, pattern: str, *, since: int = 0, timeout: float = 5.0) -> str:
        """Wait for a line that matches *pattern* (a regular expression), and return the match."""
        deadline = time.monotonic() + timeout
        while True:
            match = re.search(pattern, self.log(since))
            if match:
                return match.group()
            assert time.monotonic() < deadline, f"no {pattern!r} in sshd's log:\n{self.log(since)}"
            time.sleep(0.02)

    def connections(self, since: int = 0) -> int:
        """Return the number of TCP connections."""
        return len(re.findall(r"^Connection from ", self.log(since), re.M))

    def sessions(self, since: int = 0) -> int:
        """Return the number of started sessions (commands, shells, subsystems)."""
        return len(re.findall(r"^Starting session: ", self.log(since), re.M))

    def accepted(self, since: int = 0) -> list[tuple[str, str]]:
        """Return (method, account) of each login, in order."""
        return re.findall(r"^Accepted (\S+) for (\S+) from ", self.log(since), re.M)

    # -- for ssh programs ---------------------------------------------------------------------------------------------------

    def ssh_args(self) -> list[str]:
        """Return options with which OpenSSH's client (or a parser of its command line) connects without a prompt."""
        options = (f"UserKnownHostsFile={self.known_hosts}", "GlobalKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes")
        args = ["-F", "/dev/null", "-p", str(self.port), "-i", str(self.key.path), "-o", "IdentitiesOnly=yes"]
        return args + [word for option in options for word in ("-o", option)]


def _version() -> tuple[int, int]:
    out = subprocess.run([find_sshd() or "sshd", "-V"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    match = re.search(r"OpenSSH_(\d+)\.(\d+)", out.stderr + out.stdout)
    return (int(match.group(1)), int(match.group(2))) if match else (0, 0)
