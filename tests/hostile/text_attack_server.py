"""SSH servers whose texts attack the terminal of the reader: before, during and after the login."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import Any

import paramiko
from paramiko.common import (
    DISCONNECT_SERVICE_NOT_AVAILABLE,
    cMSG_CHANNEL_OPEN_FAILURE,
    cMSG_DEBUG,
    cMSG_DISCONNECT,
    cMSG_KEXINIT,
)
from paramiko.message import Message

from .threaded_listener import ThreadedListener

# Clears the screen, sets a title, forges a line and a prompt, reorders and hides; at the start and at the end of a long text.
_START = "\x1b[2J\x1b]0;owned\x07\r\nok: all is well\u202e\u200b\x9b31m Enter passphrase for key '/root/.ssh/id': "
EVIL = f"{_START}{'A' * 3000}{_START}"
SHOWN = r"\033[2J\033]0;owned\007 ok: all is well"  # the permitted visible form

VERSION = b"SSH-2.0-OpenSSH_9.2\r\n"


def _packet(payload: bytes) -> bytes:
    """RFC 4253 section 6, before any key exchange."""
    padding = 8 - (len(payload) + 5) % 8 + 8
    return (len(payload) + padding + 1).to_bytes(4, "big") + bytes([padding]) + payload + bytes(padding)


def _disconnect() -> bytes:
    message = Message()
    message.add_byte(cMSG_DISCONNECT)
    message.add_int(DISCONNECT_SERVICE_NOT_AVAILABLE)
    message.add_string(EVIL)
    message.add_string("")
    return message.asbytes()


def _kexinit() -> bytes:
    message = Message()
    message.add_byte(cMSG_KEXINIT)
    message.add_bytes(bytes(16))
    for _ in range(10):
        message.add_list([EVIL.replace(",", ""), "none"])
    message.add_boolean(False)
    message.add_int(0)
    return message.asbytes()


RAW = {
    "greeting": (EVIL.replace("\r\n", " ").encode()[:200] + b"\r\n") * 3,
    "not-ssh": EVIL.encode() + b"\r\n",
    "version": b"SSH-1.5-" + EVIL.encode()[:200] + b"\r\n",
    "disconnect": VERSION + _packet(_disconnect()),
    "algorithms": VERSION + _packet(_kexinit()),
}


class TextAttackServer(ThreadedListener):
    """A server on 127.0.0.1. *attack*: a key of RAW, or a step of the login: prompts, methods, refusal, hangup, key."""

    def __init__(self, attack: str) -> None:
        super().__init__()
        self.attack = attack
        self.version = "SSH-2.0-" + EVIL.replace("\r\n", " ")[:150]
        self.key = paramiko.ECDSAKey.generate()
        self.spawn(self._accept)

    def __enter__(self) -> TextAttackServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def ssh_args(self, path: Path) -> list[str]:
        """Return the ssh options of a connection to it; *path* is for the known_hosts file."""
        path.write_text(f"[127.0.0.1]:{self.port} {self.key.get_name()} {self.key.get_base64()}\n")
        args = ["-F", "none", "-p", str(self.port), "-l", "guest", "-o", "ConnectTimeout=5", "-o", "IdentityAgent=none"]
        return [*args, "-o", f"UserKnownHostsFile={path}", "-o", "GlobalKnownHostsFile=none"]

    def _accept(self) -> None:
        for sock in self.connections():
            self.opened.append(sock)
            if self.attack in RAW:
                self.spawn(self._send_raw, sock)
                continue
            transport = _Refuser(sock)
            transport.local_version = self.version
            self.opened.append(transport)
            transport.add_server_key(self.key)
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                transport.start_server(server=_Session(self, transport), event=threading.Event())

    def _send_raw(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock.sendall(RAW[self.attack])
            sock.settimeout(5)
            while self.attack in ("disconnect", "algorithms") and sock.recv(4096):
                pass
            sock.close()


class _Refuser(paramiko.Transport):
    """Puts EVIL into the answer to a refused channel; Paramiko leaves its text empty."""

    def _send_message(self, data: Message) -> None:
        payload = data.asbytes()
        if payload[:1] == cMSG_CHANNEL_OPEN_FAILURE:
            data = Message()
            data.add_bytes(payload[:9])  # kind, channel, reason
            data.add_string(EVIL)
            data.add_string("")
        super()._send_message(data)  # type: ignore[misc]


class _Session(paramiko.ServerInterface):
    """One login."""

    def __init__(self, server: TextAttackServer, transport: paramiko.Transport) -> None:
        self._attack, self._transport = server.attack, transport

    def get_banner(self) -> Any:
        return EVIL, "en"

    def get_allowed_auths(self, username: str) -> str:
        message = Message()
        message.add_byte(cMSG_DEBUG)
        message.add_boolean(True)
        message.add_string(EVIL)
        message.add_string("")
        self._transport._send_message(message)  # type: ignore[attr-defined]
        return EVIL.replace(",", "") if self._attack == "methods" else "keyboard-interactive,password"

    def check_auth_interactive(self, username: str, submethods: str) -> Any:
        return paramiko.InteractiveQuery(EVIL, EVIL, (EVIL, False))

    def check_auth_interactive_response(self, responses: list[str]) -> Any:
        return paramiko.AUTH_FAILED

    def check_auth_none(self, username: str) -> int:
        return paramiko.AUTH_SUCCESSFUL if self._attack in ("refusal", "hangup") else paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        if self._attack == "hangup":
            self._transport._send_message(Message(_disconnect()))  # type: ignore[attr-defined]
        return paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
