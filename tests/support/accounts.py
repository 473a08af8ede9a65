"""Temporary accounts of this machine, with passwords, shells, sudoers rows and doas rows.

Their names begin with ``pmt``, and their comment field has the run's pid and start time: the next run removes the accounts of a
killed run. Changes to /etc need one lock, because several runs may share the machine. Removing an account removes its home, mail,
processes, rows, and files in the common temporary directories.

Creating and removing an account takes 0.2 seconds of processor time and blocks other runs. Therefore an ordinary account that a
test returns is reset and reused for the next test that needs the same kind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import processes

_PREFIX = "pmt"
_LOCK = Path("/run/lock/pmitogen-tests")
_SUDOERS = Path("/etc/sudoers.d")
_DOAS = Path("/etc/doas.conf")
_COMMON = ("/tmp", "/var/tmp", "/dev/shm")
_SUDO_STATE = ("/run/sudo/ts", "/var/lib/sudo/lectured", "/var/lib/sudo/ts")
_SKELETON = Path("/etc/skel")
_Kind = tuple[str | bool | None, str, str, str]  # password, shell, rules of sudo and of doas

SUDO_RULES = {"nopasswd": "ALL=(ALL:ALL) NOPASSWD: ALL", "password": "ALL=(ALL:ALL) ALL"}
DOAS_RULES = {"nopass": "permit nopass {name}", "password": "permit {name}", "keepenv": "permit nopass keepenv {name}"}


@dataclass
class Account:
    """A temporary account. *password* is None if none was set (then only keys log in)."""

    name: str
    uid: int
    gid: int
    home: Path
    shell: str
    password: str | None = field(repr=False)

    @property
    def sudo_log(self) -> Path:
        """The file to which sudo appends one line for each use by this account, if it has a sudoers row."""
        return Path(f"/run/lock/{self.name}.sudo")

    def sudo_uses(self) -> int:
        """Return how many commands this account has started through sudo."""
        return self.sudo_log.read_text().count("COMMAND=") if self.sudo_log.exists() else 0

    def write(self, path: str, text: str, mode: int = 0o644) -> Path:
        """Write a file (and its directories) in the home, owned by the account."""
        target = self.home / path
        for directory in reversed([parent for parent in target.parents if self.home in parent.parents and not parent.exists()]):
            directory.mkdir(mode=0o755)
            os.chown(directory, self.uid, self.gid)
        target.write_text(text)
        os.chown(target, self.uid, self.gid)
        target.chmod(mode)
        return target

    def run(self, *command: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
        """Run a command as the account, without a login."""
        args = ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--init-groups", "--", *command]
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.home), "USER": self.name, "LOGNAME": self.name}
        return subprocess.run(
            args, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, env=env, cwd=self.home
        )

    def processes(self) -> set[processes.Process]:
        """Return its living processes."""
        return processes.of_user(self.uid)


@dataclass(frozen=True)
class _Ordinary:
    """The properties of a reusable account: *entries* are its lines in /etc."""

    kind: _Kind
    entries: list[str]
    home_mode: int


_holding = False  # whether this process has the lock


@contextlib.contextmanager
def etc_lock() -> Iterator[None]:
    """Prevent other test runs from changing accounts and rules. The process that has the lock may enter it again."""
    global _holding
    if _holding:
        yield
        return
    with _LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _holding = True
        try:
            yield
        finally:
            _holding = False


def _run(*command: str, text: str | None = None) -> None:
    done = subprocess.run(command, input=text or "", capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")


class Accounts:
    """Creates accounts, and removes all of them at the end."""

    def __init__(self) -> None:
        self._made: list[Account] = []
        self._ordinary: dict[str, _Ordinary] = {}  # by name
        self._spare: dict[_Kind, list[Account]] = {}
        self._count = 0
        with etc_lock():
            _remove_stale()

    def make(
        self,
        *,
        password: str | bool | None = True,
        shell: str = "/bin/bash",
        home: bool = True,
        sudo: str | Sequence[str] | None = None,
        sudo_defaults: Sequence[str] = (),
        doas: str | Sequence[str] | None = None,
        groups: Sequence[str] = (),
        suffix: str = "",
    ) -> Account:
        """Create an account whose name ends in *suffix*.

        *password*: the text, True for a random one, None for none (locked). *sudo*: "nopasswd", "password", or rules in the form
        of sudoers after the name; *sudo_defaults*: ``Defaults`` settings for this account only. *doas*: "nopass", "password",
        "keepenv", or whole rows of doas.conf, in which ``{name}`` is the name. *home*: whether the home exists.
        """
        ordinary = home and not sudo_defaults and not groups and not suffix
        ordinary = ordinary and sudo in (None, *SUDO_RULES) and doas in (None, *DOAS_RULES)
        kind = (password, shell, str(sudo), str(doas))
        if ordinary and self._spare.get(kind):
            return self._spare[kind].pop()
        secret = secrets.token_urlsafe(9) if password is True else (password or None)
        self._count += 1
        me = processes.read(os.getpid())
        assert me is not None
        name = f"{_PREFIX}{secrets.token_hex(3)}{self._count}{suffix}"
        with etc_lock():
            args = ["useradd", "-m" if home else "-M", "-s", shell, "-c", f"pmitogen test {me.pid} {me.start}"]
            _run(*args, *(["--badname"] if suffix else []), *(["-G", ",".join(groups)] if groups else []), name)
            entry = pwd.getpwnam(name)
            account = Account(name, entry.pw_uid, entry.pw_gid, Path(entry.pw_dir), shell, secret)
            self._made.append(account)
            if secret is not None:
                _run("chpasswd", text=f"{name}:{secret}\n")
            if sudo is not None:
                _write_sudoers(account, [sudo] if isinstance(sudo, str) else sudo, sudo_defaults)
            if doas is not None:
                _write_doas(account, [doas] if isinstance(doas, str) else doas)
            if ordinary:
                self._ordinary[name] = _Ordinary(kind, _entries(name), account.home.stat().st_mode)
        return account

    def give_back(self, account: Account) -> None:
        """Reset it for the next test that needs such an account, or remove it if it is special or /etc has changed."""
        made = self._ordinary.get(account.name)
        is_whole = account in self._made and account.home.is_dir() and not account.home.is_symlink()
        if made is None or not is_whole or _entries(account.name) != made.entries:
            self.remove(account)
            return
        _end_processes(account.uid)
        _remove_files(account.name, account.uid)
        shutil.rmtree(account.home)
        shutil.copytree(_SKELETON, account.home, symlinks=True)
        account.home.chmod(stat.S_IMODE(made.home_mode))
        for path in (account.home, *account.home.rglob("*")):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)
        self._spare.setdefault(made.kind, []).append(account)

    def remove(self, account: Account) -> None:
        """End its processes and remove all its files and entries."""
        self._ordinary.pop(account.name, None)
        if account in self._made:
            self._made.remove(account)
        with etc_lock():
            _remove(account.name, account.uid)

    def remove_all(self) -> None:
        for account in list(self._made):
            self.remove(account)

    def uids(self) -> set[int]:
        return {account.uid for account in self._made}


def _write_sudoers(account: Account, rules: Sequence[str], defaults: Sequence[str]) -> None:
    lines = [f"{account.name} {SUDO_RULES.get(rule, rule)}" for rule in rules]
    lines += [f"Defaults:{account.name} logfile={account.sudo_log}", f"Defaults:{account.name} loglinelen=0"]
    lines += [f"Defaults:{account.name} {word}" for word in defaults]
    _replace(_SUDOERS / account.name, "\n".join(lines) + "\n", 0o440)
    _run("visudo", "-cqf", str(_SUDOERS / account.name))


def _write_doas(account: Account, rules: Sequence[str]) -> None:
    rows = "".join(f"{DOAS_RULES.get(rule, rule).format(name=account.name)} # {account.name}\n" for rule in rules)
    _replace(_DOAS, (_DOAS.read_text() if _DOAS.exists() else "") + rows, 0o600)


def _replace(path: Path, text: str, mode: int) -> None:
    """Replace *path* in one step: another run's sudo or doas may read it at any moment. sudo ignores names with a dot."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.touch(mode=mode)
    fresh.write_text(text)
    fresh.rename(path)


def _entries(name: str) -> list[str]:
    """Return every line below /etc about an account."""
    paths = [*(Path("/etc", file) for file in ("passwd", "shadow", "group", "gshadow")), _DOAS, _SUDOERS / name]
    return [line for path in paths if path.exists() for line in path.read_text().splitlines() if name in line]


def _end_processes(uid: int) -> None:
    for _ in range(100):
        left = processes.of_user(uid)
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        if not left:
            break
        time.sleep(0.02)


def _remove_files(name: str, uid: int) -> None:
    """Remove its files outside of its home: sudo's log and tickets, and files in the common temporary directories."""
    Path(f"/run/lock/{name}.sudo").unlink(missing_ok=True)
    for directory in _SUDO_STATE:
        for known_as in (name, str(uid)):
            Path(directory, known_as).unlink(missing_ok=True)
    for path in owned_files({uid}):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def _remove(name: str, uid: int) -> None:
    _end_processes(uid)
    (_SUDOERS / name).unlink(missing_ok=True)
    if _DOAS.exists():
        rows = [row for row in _DOAS.read_text().splitlines(keepends=True) if not row.rstrip().endswith("# " + name)]
        if rows:
            _replace(_DOAS, "".join(rows), 0o600)
        else:
            _DOAS.unlink()
    _remove_files(name, uid)
    subprocess.run(["userdel", "-r", "-f", name], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)


def _remove_stale() -> None:
    for entry in pwd.getpwall():
        fields = entry.pw_gecos.split()
        if not entry.pw_name.startswith(_PREFIX) or fields[:2] != ["pmitogen", "test"]:
            continue
        owner = processes.read(int(fields[2]))
        if owner is None or owner.start != int(fields[3]):
            _remove(entry.pw_name, entry.pw_uid)


def owned_files(uids: set[int]) -> set[Path]:
    """Return the files of *uids* in the common temporary directories."""
    found: set[Path] = set()
    for directory in _COMMON if uids else ():
        with contextlib.suppress(OSError), os.scandir(directory) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_uid in uids:
                        found.add(Path(entry.path))
    return found
