"""The SSH servers of the transport's tests: OpenSSH's sshd, the demo server and mock-ssh-server.

Only sshd must be installed, and only its password login needs root. The others run as any user.
"""

from __future__ import annotations

import getpass
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pmitogen.flags.ssh.settings import Settings

from .keys import KeyFile
from .session import repository
from .sshd import makes_terminals

PASSWORD = "correct horse"
SSHD, DEMO, MOCK = "sshd", "demo", "mock-ssh-server"
KINDS = (SSHD, DEMO, MOCK)
# Features that a server lacks, and the reason for which their tests are skipped.
MISSING = {
    (SSHD, "keyboard-interactive"): "sshd asks by PAM, which the tests leave as it is",
    (DEMO, "keyboard-interactive"): "the demo server has keys and a password only",
    (MOCK, "exit-signal"): "mock-ssh-server reports a signal as a negative exit status",
    (MOCK, "pty"): "mock-ssh-server refuses terminals",
    (MOCK, "stdin"): "mock-ssh-server does not pass the end of the input on",
    (MOCK, "files"): "mock-ssh-server's SFTP cannot change modes nor replace a file",
}
if not makes_terminals():
    MISSING[SSHD, "pty"] = "this user's sshd cannot give terminals the group tty"


@dataclass
class Backend:
    """A running server. *password*: None if no account has one; *freeze*, *thaw* and *kill* act on all its processes."""

    kind: str
    host: str
    port: int
    user: str
    key: KeyFile
    known_hosts: Path
    password: str | None
    freeze: Callable[[], None]
    thaw: Callable[[], None]
    kill: Callable[[], None]
    password_user: str = field(default="")

    def settings(self, **changes: Any) -> Settings:
        """Return settings for a login with its key."""
        plain: dict[str, Any] = {
            "originalhost": "target",
            "hostname": self.host,
            "user": self.user,
            "port": self.port,
            "identityfile": (str(self.key.path),),
            "identityfile_explicit": True,
            "userknownhostsfile": (str(self.known_hosts),),
            "stricthostkeychecking": "yes",
        }
        return Settings(**{**plain, **changes})


def is_installed(kind: str) -> bool:
    """Return whether the package for *kind* is installed; sshd is found elsewhere."""
    return kind != MOCK or importlib.util.find_spec("mockssh") is not None


def python_backend(kind: str, key: KeyFile, directory: Path) -> Iterator[Backend]:
    """Run the demo server or mock-ssh-server during a with block."""
    name = "demo" if kind == DEMO else "mock"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.backend_server", name, str(key.path), PASSWORD],
        cwd=repository,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(repository)},
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        port, key_type, blob = process.stdout.readline().split()
        known_hosts = directory / "known_hosts"
        known_hosts.write_text(f"[127.0.0.1]:{port} {key_type} {blob}\n")
        user = getpass.getuser() if kind == DEMO else "user"
        yield Backend(
            kind,
            "127.0.0.1",
            int(port),
            user,
            key,
            known_hosts,
            PASSWORD,
            freeze=lambda: process.send_signal(signal.SIGSTOP),
            thaw=lambda: process.send_signal(signal.SIGCONT),
            kill=process.kill,
            password_user=user,
        )
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
