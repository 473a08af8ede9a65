"""An SSH server that needs neither root nor sshd, as a separate process: ``backend_server.py demo|mock KEY [PASSWORD]``.

It prints ``PORT KEYTYPE BASE64`` (its host key) when it listens on 127.0.0.1, and serves until it is killed. ``demo`` is the
server of ``pmitogen demo``. ``mock`` is the package mock-ssh-server, with password and keyboard-interactive login added.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import warnings
from typing import Any

import paramiko


def _demo(key: paramiko.PKey, _key_path: str, password: str) -> tuple[Any, paramiko.PKey]:
    from pmitogen.cli.demo.server import DemoServer

    host_key = paramiko.ECDSAKey.generate()
    return DemoServer(host_key, key, password), host_key


def _mock(_key: paramiko.PKey, key_path: str, password: str) -> tuple[Any, paramiko.PKey]:
    warnings.simplefilter("ignore", DeprecationWarning)  # it calls Thread.setDaemon
    import mockssh
    from mockssh.server import SERVER_KEY_PATH, Handler

    class PasswordHandler(Handler):  # type: ignore[misc]
        def get_allowed_auths(self, username: str) -> str:
            return "publickey,password,keyboard-interactive"

        def check_auth_password(self, username: str, given: str) -> int:
            return paramiko.AUTH_SUCCESSFUL if given == password else paramiko.AUTH_FAILED

        def check_auth_interactive(self, username: str, submethods: str) -> paramiko.InteractiveQuery:
            return paramiko.InteractiveQuery("", "", ("Password: ", False))

        def check_auth_interactive_response(self, responses: list[str]) -> int:
            return self.check_auth_password("", responses[0] if responses else "")

    server = mockssh.Server({})
    server.handler_cls = PasswordHandler
    server.add_user("user", key_path, "ssh-ed25519")
    return server, paramiko.RSAKey(filename=SERVER_KEY_PATH)


def main(kind: str, key_path: str, password: str) -> None:
    make = {"demo": _demo, "mock": _mock}[kind]
    server, host_key = make(paramiko.Ed25519Key.from_private_key_file(key_path), key_path, password)
    with server, contextlib.suppress(KeyboardInterrupt):
        print(server.port, host_key.get_name(), host_key.get_base64(), flush=True)
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
