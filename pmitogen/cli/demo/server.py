"""A temporary SSH server on loopback, based on Paramiko, for ``pmitogen demo``, ``pmitogen.testing`` and pmitogen's own tests.

It accepts one key and, optionally, one password. It runs commands as its own user, through ``/bin/sh -c`` as sshd does: with
three pipes or a PTY, environment requests, an exit status or signal, and SFTP. It listens on loopback only and ends with its
process. It has no further protection, so do not use it for any other purpose.

Threads: one accepts, one waits for each connection's end, and each command has one for each of its streams. A command's processes
are in a session of their own, and are killed as a group when its connection ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import pwd
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import paramiko
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED,
    OPEN_SUCCEEDED,
    cMSG_CHANNEL_SUCCESS,
)

from pmitogen.cli.demo.sftp import FileServer

if TYPE_CHECKING:
    from typing_extensions import Self

_CHUNK = 32768  # bytes
_HANDSHAKE_TIMEOUT = 20.0  # seconds
_GRANTED = 1.0  # seconds that the answer to a request may take to be sent, if one is wanted
_LOG = "pmitogen.demo_server"
logging.getLogger(_LOG).addHandler(logging.NullHandler())  # so that Paramiko prints nothing about clients that disconnect

# Makes file descriptor 0 the controlling terminal, which takes a process that already leads its session.
_TAKE_TERMINAL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv('/bin/sh', sys.argv[1:])"


Greeting = Literal["serve", "refuse", "close"]


@dataclass(frozen=True)
class CommandPlan:
    """One command, as the server runs it.

    :param argv: the process to start.
    :param drops_connection: close the connection at the end of the process, instead of sending an exit status.
    """

    argv: list[str]
    drops_connection: bool = False


class DemoServer:
    """``with DemoServer(host_key, user_key) as server:`` serves on ``server.address``, ``server.port`` during the block.

    *host_key*: the server's key. *user_key* (its public half), *password*: accepted for any user name; None: no password.
    ``connections`` and ``sessions`` count logins and commands.
    """

    def __init__(self, host_key: paramiko.PKey, user_key: paramiko.PKey, password: str | None = None) -> None:
        self.host_key = host_key
        self.user_key = user_key
        self.password = password
        self.connections = 0
        self.sessions = 0
        self._lock = threading.Lock()
        self.running: set[int] = set()  # the process groups of the commands
        self._open: set[paramiko.Transport] = set()
        self._threads: set[threading.Thread] = set()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.address, self.port = self._socket.getsockname()
        self._accepting = threading.Thread(target=self._accept, name="demo-accept", daemon=True)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Close all connections, kill every command, and wait for the threads (a few seconds at most)."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._socket.close()
        self._accepting.join(5)
        with self._lock:
            transports, threads = list(self._open), list(self._threads)
        for transport in transports:
            transport.close()
        for thread in threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock,), name="demo-connection", daemon=True)
            with self._lock:
                self._threads.add(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        """Serve one connection, from the handshake to its end."""
        greeting = self.greet()
        if greeting == "close":
            sock.close()
            with self._lock:
                self._threads.discard(threading.current_thread())
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = _Transport(sock)
        transport.set_log_channel(_LOG)
        transport.banner_timeout = transport.auth_timeout = _HANDSHAKE_TIMEOUT
        transport.add_server_key(self.host_key)
        transport.set_subsystem_handler("sftp", paramiko.SFTPServer, self.files)
        login = _Login(self, transport, refuses=greeting == "refuse")
        with self._lock:
            self._open.add(transport)
        try:
            transport.start_server(server=login)
            transport.join()  # the transport is itself the thread that reads
        except (paramiko.SSHException, EOFError, OSError):
            pass
        finally:
            transport.close()
            login.kill_all()
            transport.join(5)
            with self._lock:
                self._open.discard(transport)
                self._threads.discard(threading.current_thread())

    def greet(self) -> Greeting:
        """Decide about a new connection: serve it, refuse every login on it, or close it. The connection's thread."""
        return "serve"

    def plan(self, command: str | None) -> CommandPlan:
        """Decide how to run *command*; None: a shell. The connection's thread."""
        return CommandPlan(["/bin/sh"] if command is None else ["/bin/sh", "-c", command])

    def files(self, login: paramiko.ServerInterface) -> paramiko.SFTPServerInterface:
        """Return the object that serves the files of a new SFTP session. The session's thread."""
        return FileServer(login)

    def count_connection(self) -> None:
        with self._lock:
            self.connections += 1

    def count_session(self) -> None:
        with self._lock:
            self.sessions += 1


class _Login(paramiko.ServerInterface):
    """Paramiko's interface for the decisions about one connection. Called on that connection's thread."""

    def __init__(self, server: DemoServer, transport: _Transport, refuses: bool) -> None:
        self._server = server
        self._transport = transport
        self._refuses = refuses
        self._requests: dict[int, _Request] = {}
        self._commands: list[_Command] = []

    def get_allowed_auths(self, username: str) -> str:
        return "publickey" if self._server.password is None else "publickey,password"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return self._verdict(key.asbytes() == self._server.user_key.asbytes())

    def check_auth_password(self, username: str, password: str) -> int:
        return self._verdict(self._server.password is not None and password == self._server.password)

    def _verdict(self, accepted: bool) -> int:
        return AUTH_SUCCESSFUL if accepted and not self._refuses else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        if kind != "session":
            return OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        if not self._requests:
            self._server.count_connection()
        self._requests[chanid] = _Request()
        return OPEN_SUCCEEDED

    def check_channel_env_request(self, channel: paramiko.Channel, name: bytes, value: bytes) -> bool:
        self._requests[channel.get_id()].env[os.fsdecode(name)] = os.fsdecode(value)
        return True

    def check_channel_pty_request(
        self,
        channel: paramiko.Channel,
        term: bytes,
        width: int,
        height: int,
        pixelwidth: int,
        pixelheight: int,
        modes: bytes,
    ) -> bool:
        request = self._requests[channel.get_id()]
        request.size = (height, width)
        request.env["TERM"] = os.fsdecode(term)
        return True

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        return self._start(channel, os.fsdecode(command))

    def check_channel_shell_request(self, channel: paramiko.Channel) -> bool:
        return self._start(channel, None)

    def check_channel_subsystem_request(self, channel: paramiko.Channel, name: str) -> bool:
        self._server.count_session()
        return super().check_channel_subsystem_request(channel, name)

    def _start(self, channel: paramiko.Channel, command: str | None) -> bool:
        self._server.count_session()
        running = _Command(channel, self._server.plan(command), self._requests[channel.get_id()], self._server.running)
        self._commands.append(running)
        self._transport.when_granted(running.granted.set)
        running.start()
        return True

    def kill_all(self) -> None:
        for command in self._commands:
            command.kill()
        for command in self._commands:
            command.join()


class _Transport(paramiko.Transport):
    """Calls a function when the answer to a request is sent: Paramiko sends it after the request's handler has returned."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self._when_granted: list[Callable[[], None]] = []

    def when_granted(self, work: Callable[[], None]) -> None:
        """Call *work* once the request that is being handled has been granted. The transport's thread."""
        self._when_granted.append(work)

    def _send_user_message(self, data: paramiko.Message) -> None:
        super()._send_user_message(data)  # type: ignore[misc]
        if self._when_granted and data.asbytes()[:1] == cMSG_CHANNEL_SUCCESS:
            granted, self._when_granted = self._when_granted, []
            for work in granted:
                work()


class _Request:
    """Requests of a client for a channel before it requests a command."""

    def __init__(self) -> None:
        self.env: dict[str, str] = {}
        self.size: tuple[int, int] | None = None  # rows, columns of the PTY; None without one


class _Command:
    """One command and the threads that carry its streams. The first thread started ends last."""

    def __init__(self, channel: paramiko.Channel, plan: CommandPlan, request: _Request, running: set[int]) -> None:
        self._channel = channel
        self._running = running
        self._drops_connection = plan.drops_connection
        self._process, self._stdin, self._outputs = _spawn(plan.argv, request)
        running.add(self._process.pid)
        self.granted = threading.Event()  # set when the client has been told that it runs
        self._thread = threading.Thread(target=self._carry, name="demo-command", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join(5)

    def kill(self) -> None:
        """Kill the command's process group, if it still runs."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _carry(self) -> None:
        """Copy the streams until the command has ended and all its output is sent."""
        senders: list[Callable[[bytes], None]] = [self._channel.sendall, self._channel.sendall_stderr]
        pumps = [
            threading.Thread(target=self._pump_out, args=pair, name="demo-out", daemon=True)
            for pair in zip(self._outputs, senders, strict=False)
        ]
        feeder = threading.Thread(target=self._pump_in, name="demo-in", daemon=True)
        for thread in (*pumps, feeder):
            thread.start()
        code = self._process.wait()
        self._running.discard(self._process.pid)
        for thread in pumps:
            thread.join()
        self.granted.wait(_GRANTED)  # otherwise its exit status could be sent before the answer to its request
        if self._drops_connection and self._channel.transport is not None:
            self._channel.transport.close()
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            _send_exit(self._channel, code)
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._channel.close()
        feeder.join()
        for descriptor in {self._stdin, *self._outputs} - {-1}:
            os.close(descriptor)

    def _pump_out(self, descriptor: int, send: Callable[[bytes], None]) -> None:
        while True:
            try:
                data = os.read(descriptor, _CHUNK)
            except OSError:  # EIO: no process has the PTY open any more
                return
            if not data:
                return
            try:
                send(data)
            except (OSError, EOFError):
                self.kill()  # the client is gone
                return

    def _pump_in(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data = self._channel.recv(_CHUNK)
                if not data:
                    break
                view = memoryview(data)
                while view:
                    view = view[os.write(self._stdin, view) :]
        if self._stdin not in self._outputs:
            os.close(self._stdin)
            self._stdin = -1
        self._channel.status_event.wait()  # set when the channel closes, by either side
        self.kill()


def _send_exit(channel: paramiko.Channel, code: int) -> None:
    if code >= 0:
        channel.send_exit_status(code)
        return
    # RFC 4254 section 6.10; Paramiko has no call for it.
    message = paramiko.Message()
    message.add_byte(bytes([98]))  # SSH_MSG_CHANNEL_REQUEST
    message.add_int(channel.remote_chanid)
    message.add_string("exit-signal")
    message.add_boolean(False)
    message.add_string(signal.Signals(-code).name.removeprefix("SIG"))
    message.add_boolean(False)
    message.add_string("")
    message.add_string("")
    channel.transport._send_user_message(message)  # type: ignore[union-attr]


def _environment(request: _Request) -> dict[str, str]:
    """Return the environment that sshd gives a login, not this process's."""
    user = pwd.getpwuid(os.getuid())
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    account = {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name, "SHELL": "/bin/sh", "PATH": path}
    return {**account, **request.env}


def _spawn(argv: list[str], request: _Request) -> tuple[subprocess.Popen[bytes], int, list[int]]:
    """Start the command. Returns it, the descriptor of its input, and those of its outputs (of a PTY, one for all)."""
    env = _environment(request)
    home = env["HOME"] if os.path.isdir(env["HOME"]) else "/"
    if request.size is None:
        pipe = subprocess.PIPE
        process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, env=env, cwd=home, start_new_session=True)
        assert process.stdin and process.stdout and process.stderr
        files = (process.stdin, process.stdout, process.stderr)
        descriptors = [os.dup(file.fileno()) for file in files]  # copies, which the file objects do not close
        for file in files:
            file.close()
        return process, descriptors[0], descriptors[1:]
    master, slave = os.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *request.size, 0, 0))
        argv = [sys.executable, "-IS", "-c", _TAKE_TERMINAL, *argv]
        process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env=env, cwd=home, start_new_session=True)
    finally:
        os.close(slave)
    return process, master, [master]
