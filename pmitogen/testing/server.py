"""An SSH server for tests, with answers and failures that the test chooses. It runs none of the commands that it is sent.

It listens on loopback and lets in its own key or password, for any user name. To pmitogen it looks like a host without Python, so
that each command of ``Host.run`` and ``Host.start`` arrives by itself; ``put`` and ``get`` use SFTP, below
:attr:`ScriptedServer.root`. A signal or a time limit ends an answer that is delayed. With ``real=True`` it runs all commands that
have no answer, on this machine and as this user, Python included.

Threads: a test may call every method at any time, also while clients are connected.
"""

from __future__ import annotations

import re
import secrets
import threading
from pathlib import Path

import paramiko

from pmitogen.api import ConnectOptions, arguments
from pmitogen.cli.demo.server import CommandPlan, DemoServer, Greeting
from pmitogen.hub.without_python import simple_commands
from pmitogen.testing import answers
from pmitogen.testing.answers import Answer, Rule
from pmitogen.testing.files import RootedFiles

USER = "tester"
# $1 to $6: seconds, stdout, stderr, exit status, and the marks on stdout and stderr.
_PLAY = 'test -z "$6" || echo "$6 $$" >&2; test -z "$5" || echo "$5"; sleep "$1"; cat "$2"; cat "$3" >&2; exit "$4"'


class ScriptedServer(DemoServer):
    """``with ScriptedServer(folder) as server:`` serves on ``server.address``, ``server.port``.

    :param folder: an empty directory for its keys and files.
    :param real: True: run commands without an answer on this machine, and serve this machine's files.
    """

    def __init__(self, directory: Path, real: bool = False) -> None:
        super().__init__(paramiko.ECDSAKey.generate(), paramiko.ECDSAKey.generate(), secrets.token_hex(8))
        self.real = real
        self.directory = directory
        self.root = directory / "root"  # ``/`` of SFTP
        self.key_path = directory / "key"  # the private key that it lets in
        self.known_hosts = directory / "known_hosts"
        self.config = directory / "config"  # of ssh: leads every host name to this server
        self.login_delay = 0.0  # seconds that each new connection waits for the server's first byte
        self._rules: list[Rule] = []
        self._commands: list[str] = []
        self._greetings: list[tuple[Greeting, int | None]] = []
        self._scripting = threading.Lock()
        self._closing = threading.Event()
        self._files = 0
        self.root.mkdir()
        (self.root / "tmp").mkdir()
        self.user_key.write_private_key_file(str(self.key_path))
        host = f"[{self.address}]:{self.port}"
        self.known_hosts.write_text(f"{host} {self.host_key.get_name()} {self.host_key.get_base64()}\n")
        self.config.write_text(
            f'Host *\n  Hostname {self.address}\n  Port {self.port}\n  User {USER}\n  IdentityFile "{self.key_path}"\n'
            f'  IdentitiesOnly yes\n  IdentityAgent none\n  UserKnownHostsFile "{self.known_hosts}"\n'
            f"  GlobalKnownHostsFile none\n  HostKeyAlias {host}\n"
        )

    def __exit__(self, *exc: object) -> None:
        self._closing.set()
        super().__exit__(*exc)

    @property
    def target(self) -> str:
        """The first argument of ``pmitogen.connect``."""
        return f"{USER}@{self.address}"

    @property
    def options(self) -> ConnectOptions:
        """The ``options`` of ``pmitogen.connect``: port, key, host key, and nothing of the user's own."""
        return ConnectOptions(
            port=self.port, keys=[self.key_path], only_keys=True, agent=False, known_hosts=[self.known_hosts], config=None
        )

    @property
    def ssh_args(self) -> list[str]:
        """Arguments for ssh, and for ``pmitogen.connect``, with which every host name is this server."""
        return ["-F", str(self.config)]

    @property
    def commands(self) -> list[str]:
        """The commands so far, in the order of their arrival. A list of arguments is one text, quoted for a shell."""
        with self._scripting:
            return list(self._commands)

    def answer(
        self,
        command: str | re.Pattern[str],
        stdout: str | bytes = b"",
        *,
        stderr: str | bytes = b"",
        rc: int = 0,
        delay: float = 0.0,
        close: bool = False,
        times: int | None = None,
    ) -> None:
        """Answer a command. The newest answer that fits is used.

        :param command: the whole command; a compiled pattern has to match the whole command.
        :param rc: its exit status, 0 to 255.
        :param delay: seconds before the first output.
        :param close: close the connection after the output, instead of an exit status.
        :param times: how many commands this answers. None: all.

        Raises TypeError, ValueError.
        """
        if not isinstance(command.pattern if isinstance(command, re.Pattern) else command, str):
            raise TypeError(f"answer: command: {command!r}: use a str or a compiled pattern of str")
        if isinstance(rc, bool) or not isinstance(rc, int):
            arguments.wrong("answer: rc", "int", rc)
        if isinstance(delay, bool) or not isinstance(delay, (int, float)):
            arguments.wrong("answer: delay", "seconds as int or float", delay)
        arguments.flag(close, "answer: close")
        if not 0 <= rc <= 255:
            raise ValueError(f"answer: rc: {rc!r}: use 0 to 255")
        if not 0 <= delay < float("inf"):
            raise ValueError(f"answer: delay: {delay!r}: use seconds, 0 or more")
        made = Answer(_bytes(stdout, "answer: stdout"), _bytes(stderr, "answer: stderr"), rc, delay, close)
        with self._scripting:
            self._rules.insert(0, Rule(command, made, _count(times, "answer")))

    def refuse_logins(self, times: int | None = None) -> None:
        """Refuse every key and password on the next *times* connections. None: on all from now on."""
        self._script_greeting("refuse", _count(times, "refuse_logins"))

    def drop_connections(self, times: int | None = None) -> None:
        """Close the next *times* connections before SSH's first byte. None: all from now on. pmitogen tries a second time."""
        self._script_greeting("close", _count(times, "drop_connections"))

    def accept_logins(self) -> None:
        """Serve new connections again, whatever was refused or dropped before."""
        with self._scripting:
            self._greetings.clear()

    def disconnect(self) -> None:
        """Close every connection that is open now."""
        with self._lock:
            transports = list(self._open)
        for transport in transports:
            transport.close()

    def _script_greeting(self, greeting: Greeting, times: int | None) -> None:
        with self._scripting:
            self._greetings.append((greeting, times))

    # The demo server's decisions

    def greet(self) -> Greeting:
        if self._closing.wait(self.login_delay):
            return "close"
        with self._scripting:
            if not self._greetings:
                return "serve"
            greeting, left = self._greetings[0]
            if left is not None:
                self._greetings[:1] = [(greeting, left - 1)] if left > 1 else []
            return greeting

    def plan(self, command: str | None) -> CommandPlan:
        line = command or ""
        if its_own := answers.login(line):
            return super().plan(command) if self.real else self._play(its_own)
        group = simple_commands.parse_signal(line)
        if group is not None:
            return super().plan(command) if self.real or group in self.running else self._play(Answer(rc=1))
        asked = answers.requested_command(line)
        with self._scripting:
            self._commands.append(asked)
            rule = next((rule for rule in self._rules if rule.matches(asked) or rule.matches(line)), None)
            if rule is not None and rule.left is not None:
                rule.left -= 1
        if rule is not None:
            return self._play(answers.marked(line, rule.answer))
        if self.real:
            return super().plan(command)
        unknown = Answer(stderr=f"ssh_server: no answer for {asked!r}; use ssh_server.answer()\n".encode(), rc=127)
        return self._play(answers.marked(line, unknown))

    def files(self, login: paramiko.ServerInterface) -> paramiko.SFTPServerInterface:
        return super().files(login) if self.real else RootedFiles(login, str(self.root))

    def _play(self, answer: Answer) -> CommandPlan:
        """Start a process that writes the answer: its streams then take the same way as those of any other command."""
        with self._scripting:
            self._files += 1
            base = self.directory / f"answer-{self._files}"
        paths = [base.with_suffix(".stdout"), base.with_suffix(".stderr")]
        for path, data in zip(paths, (answer.stdout, answer.stderr), strict=True):
            path.write_bytes(data)
        words = [f"{answer.delay:f}", *map(str, paths), str(answer.rc), answer.stdout_mark, answer.stderr_mark]
        return CommandPlan(["/bin/sh", "-c", _PLAY, "sh", *words], drops_connection=answer.close)


def _bytes(output: str | bytes, label: str) -> bytes:
    if not isinstance(output, (str, bytes, bytearray)):
        arguments.wrong(label, "str or bytes", output)
    return output.encode() if isinstance(output, str) else bytes(output)


def _count(times: int | None, label: str) -> int | None:
    if times is not None and (isinstance(times, bool) or not isinstance(times, int) or times < 1):
        raise ValueError(f"{label}: times: {times!r}: use a number from 1, or None")
    return times
