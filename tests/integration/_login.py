"""Helpers that log in to a test server, and OpenSSH tools that make certificates and run agents."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.auth.authenticate import authenticate
from pmitogen.transport.auth.credentials import Credentials
from pmitogen.transport.auth.report import AuthReport
from pmitogen.transport.connection import Connection, Stages
from pmitogen.transport.hostkeys.algorithm_order import host_key_algorithms
from pmitogen.transport.hostkeys.verify import HostKeyDecision, check_host_key
from pmitogen.transport.paramiko_ext.transport import ClientTransport
from pmitogen.transport.sessions import exec_command
from tests.support.keys import KeyFile
from tests.support.sshd import Sshd


def settings_for(server: Sshd, **options: Any) -> Settings:
    """Return settings for *server* as the user of the tests that trust its key and offer no credentials."""
    base: dict[str, Any] = {
        "originalhost": server.host,
        "hostname": server.host,
        "port": server.port,
        "user": getpass.getuser(),
        "userknownhostsfile": (str(server.known_hosts),),
        "stricthostkeychecking": "yes",
    }
    return Settings(**{**base, **options})


def key_settings(server: Sshd, *paths: object, **options: Any) -> Settings:
    """Return the same settings with identity files that the user has named."""
    return settings_for(server, identityfile=tuple(map(str, paths)), identityfile_explicit=True, **options)


def exchange_keys(transport: ClientTransport) -> None:
    """Exchange keys within ten seconds. Raises what ended the connection."""
    transport.version_deadline = time.monotonic() + 10
    transport.handshake_timeout = 10
    transport.exchange_keys()
    if not transport.active:
        raise transport.get_exception() or EOFError()


@contextlib.contextmanager
def handshake(settings: Settings, port: int | None = None) -> Iterator[ClientTransport]:
    """Yield a transport after its key exchange."""
    transport = ClientTransport(
        socket.create_connection((settings.hostname, port or settings.port), timeout=10), settings.endpoint
    )
    try:
        transport.wanted_host_keys = host_key_algorithms(settings, "127.0.0.1")
        exchange_keys(transport)
        yield transport
    finally:
        transport.close()
        transport.join(5)


def verify(settings: Settings, **options: Any) -> HostKeyDecision:
    """Return the decision about the server's host key."""
    with handshake(settings) as transport:
        return check_host_key(settings, transport.get_remote_server_key(), "127.0.0.1", **options)


def log_in(settings: Settings, credentials: Credentials | None = None, *, seconds: float = 15, **options: Any) -> AuthReport:
    """Log in and run a command, to be sure that the login is complete."""
    with handshake(settings) as transport:
        report = authenticate(transport, settings, credentials or Credentials(), time.monotonic() + seconds, **options)
        transport.leave()
        connection = Connection(settings, transport, Stages(), report, (), lambda: None)
        assert exec_command.run(connection, "echo in", timeout=10)[1] == b"in\n"
        return report


def keygen(*args: object) -> None:
    """Run ssh-keygen."""
    subprocess.run(["ssh-keygen", "-q", *map(str, args)], check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)


def certify(authority: KeyFile, key: KeyFile, *args: object, name: str = "test") -> Path:
    """Make a certificate for *key*, beside it; *args* are ssh-keygen's (-n, -V, -h ...)."""
    keygen("-s", authority.path, "-I", name, *args, key.path.with_name(key.path.name + ".pub"))
    return key.path.with_name(key.path.name + "-cert.pub")


@contextlib.contextmanager
def ssh_agent(directory: Path, *keys: object, options: tuple[str, ...] = ()) -> Iterator[str]:
    """Run an ssh-agent with *keys*; yield the path of its socket."""
    path = str(directory / "agent")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_for_agent(path)
        for key in keys:
            add(path, key, *options)
        yield path
    finally:
        process.terminate()
        process.wait()


def wait_for_agent(path: str) -> None:
    """Wait until a started agent accepts connections: its socket appears a moment earlier."""
    end = time.monotonic() + 5
    while True:
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            probe.connect(path)
            return
        assert time.monotonic() < end
        time.sleep(0.01)


def add(agent: str, *args: object) -> None:
    """Run ssh-add for an agent."""
    environment = {**os.environ, "SSH_AUTH_SOCK": agent}
    subprocess.run(["ssh-add", "-q", *map(str, args)], check=True, env=environment, stdin=subprocess.DEVNULL, timeout=20)
