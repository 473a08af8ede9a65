"""A bastion that requests every credential, records all that it receives, and connects to the target if they are accepted."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import paramiko

from pmitogen.flags.ssh.settings import Settings

from .threaded_listener import ThreadedListener

PROMPTS = (
    "Password: ",
    "Verification code: ",
    "Enter passphrase for key '/root/.ssh/id_ed25519': ",
    "[sudo] password for root: ",
    "root@target's password: ",
    "One-time password (OATH) for `root': ",
    "favourite colour?",
)


class Bastion(ThreadedListener):
    """Listens on 127.0.0.1 from :meth:`start` on.

    *methods*: the methods that it offers; *prompts*: its prompts, one a round; *accepted*: the secrets that let a client in,
    or None; *keys*: whether it accepts any key; *window*: bytes that it takes on a channel, in all. :attr:`received` has every
    secret, :attr:`offered` every key.
    """

    def __init__(
        self,
        methods: str = "password,keyboard-interactive",
        prompts: Sequence[str] = PROMPTS,
        accepted: Sequence[str] | None = None,
        *,
        keys: bool = False,
        window: int | None = None,
    ) -> None:
        super().__init__()
        self._window = window
        self.methods, self.prompts, self.accepted, self.keys = methods, list(prompts), accepted, keys
        self.received: list[str] = []
        self.offered: list[str] = []
        self.logins = 0
        self._key = paramiko.ECDSAKey.generate()

    def start(self) -> Bastion:
        self.spawn(self._accept)
        return self

    def known_hosts(self, path: Path) -> Path:
        """Write the bastion's host key to *path*, and return it."""
        path.write_text(f"[127.0.0.1]:{self.port} {self._key.get_name()} {self._key.get_base64()}\n")
        return path

    def settings(self, path: Path, **changes: Any) -> Settings:
        """Return the settings of a connection to it as a jump host; *path* is for the known_hosts file."""
        plain: dict[str, Any] = {
            "originalhost": "127.0.0.1",
            "hostname": "127.0.0.1",
            "user": "guest",
            "port": self.port,
            "userknownhostsfile": (str(self.known_hosts(path)),),
            "stricthostkeychecking": "yes",
        }
        return Settings(**{**plain, **changes})

    def _accept(self) -> None:
        for sock in self.connections():
            transport = paramiko.Transport(sock)
            self.opened.append(transport)
            transport.add_server_key(self._key)
            if self._window is not None:
                transport.default_window_size = self._window
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                transport.start_server(server=_Session(self, transport), event=threading.Event())

    def check_received(self) -> int:
        """Return whether the received secrets are accepted."""
        if self.accepted is None or self.received != list(self.accepted):
            return paramiko.AUTH_FAILED
        self.logins += 1
        return paramiko.AUTH_SUCCESSFUL

    def relay(self, transport: paramiko.Transport, destination: tuple[str, int]) -> None:
        """Copy bytes between the next channel and *destination*."""
        channel = transport.accept(5)
        if channel is None:
            return
        if self._window is not None:
            channel.in_window_threshold = 1 << 30  # never grant more
        with socket.create_connection(destination) as sock:
            self.opened += [channel, sock]
            ends = {channel: sock, sock: channel}
            with contextlib.suppress(OSError, EOFError, ValueError):  # ValueError: closed by stop()
                while True:
                    for end in select.select(list(ends), [], [])[0]:
                        data = end.recv(65536)
                        if not data:
                            return
                        ends[end].sendall(data)


class _Session(paramiko.ServerInterface):
    """One connection to a bastion."""

    def __init__(self, bastion: Bastion, transport: paramiko.Transport) -> None:
        self.bastion = bastion
        self._transport = transport
        self._rounds: list[str] = []

    def get_allowed_auths(self, username: str) -> str:
        return self.bastion.methods

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.bastion.offered.append(f"{key.get_name()} {key.get_base64()}")
        self.bastion.logins += self.bastion.keys
        return paramiko.AUTH_SUCCESSFUL if self.bastion.keys else paramiko.AUTH_FAILED

    def check_auth_password(self, username: str, password: str) -> int:
        self.bastion.received.append(password)
        return self.bastion.check_received()

    def check_auth_interactive(self, username: str, submethods: str) -> Any:
        self._rounds = list(self.bastion.prompts)
        return self._next()

    def check_auth_interactive_response(self, responses: list[str]) -> Any:
        self.bastion.received += responses
        return self._next()

    def _next(self) -> Any:
        return paramiko.InteractiveQuery("", "", (self._rounds.pop(0), False)) if self._rounds else self.bastion.check_received()

    def check_channel_direct_tcpip_request(self, chanid: int, origin: Any, destination: Any) -> int:
        self.bastion.spawn(self.bastion.relay, self._transport, destination)
        return paramiko.OPEN_SUCCEEDED
