"""Reconnecting: after a failed connection (reconnection_retries), and after ChannelTimeout has ended one."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.accounts import Account
from tests.support.ansible import Ansible
from tests.support.becoming import SYSTEM_PYTHON
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd, pytest.mark.one_core]
PING = [{"name": "ping", "ansible.builtin.ping": {}}]
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}


class FlakyPort:
    """A port that sends nonsense to the first *failures* clients, and forwards later ones to *sshd*. Counts its connections."""

    def __init__(self, sshd: Sshd, failures: int) -> None:
        self.connections = 0
        self._sshd, self._failures = sshd, failures
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                self._sockets.append(sock)
                if self.connections <= self._failures:
                    sock.sendall(b"HTTP/1.0 400 Busy\r\n\r\n")
                    sock.shutdown(socket.SHUT_WR)
                    continue
                onward = socket.create_connection((self._sshd.host, self._sshd.port))
                self._sockets.append(onward)
                for pair in ((sock, onward), (onward, sock)):
                    self._threads.append(threading.Thread(target=self._copy, args=pair))
                    self._threads[-1].start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(5)


@contextlib.contextmanager
def flaky_port(sshd: Sshd, failures: int) -> Iterator[FlakyPort]:
    port = FlakyPort(sshd, failures)
    try:
        yield port
    finally:
        port.close()


def hosts(ansible: Ansible, sshd: Sshd, account: Account, port: int, **more: Any) -> dict[str, Any]:
    text = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o GlobalKnownHostsFile=/dev/null -o IdentitiesOnly=yes"
    # ansible-core 2.16 goes on with a task after its search for an interpreter could not connect, so it would connect once more.
    named = {"ansible_python_interpreter": SYSTEM_PYTHON}
    return {"web": {**ansible.target(sshd, account), **named, "ansible_port": port, "ansible_ssh_common_args": text, **more}}


@pytest.mark.parametrize(("failures", "retries", "connections", "fine"), [(1, 0, 1, False), (2, 2, 3, True), (9, 1, 2, False)])
def test_a_failed_connection_is_tried_again(
    failures: int, retries: int, connections: int, fine: bool, ansible: Ansible, sshd: Sshd, account: Account
) -> None:
    with flaky_port(sshd, failures) as port:
        run = ansible.tasks(PING, hosts(ansible, sshd, account, port.port, ansible_ssh_retries=retries))
        assert (port.connections, run.tasks[0].kind) == (connections, "ok" if fine else "unreachable"), run.stdout


def test_a_refused_login_is_not_tried_again(ansible: Ansible, sshd: Sshd, account: Account, make_key: Any) -> None:
    with flaky_port(sshd, 0) as port:
        stranger = str(make_key("ed25519").path)
        variables = hosts(ansible, sshd, account, port.port, ansible_ssh_private_key_file=stranger)
        run = ansible.tasks(PING, variables, env={"ANSIBLE_SSH_RETRIES": "5"})
        assert (port.connections, run.tasks[0].kind) == (1, "unreachable") and "authentication failed" in run.tasks[0].message


@pytest.mark.slow
def test_after_channel_timeout_the_next_task_reconnects(ansible: Ansible, sshd: Sshd, account: Account) -> None:
    target = ansible.target(sshd, account)
    target["ansible_ssh_extra_args"] = "-o ChannelTimeout=session=4"
    mark = sshd.mark()
    pause = {"name": "pause", "ansible.builtin.wait_for": {"timeout": 7}, "delegate_to": "localhost", "vars": LOCAL}
    ansible.tasks([*PING, pause, *PING], {"web": target}).check()
    assert sshd.accepted(mark) == [("publickey", account.name)] * 2
