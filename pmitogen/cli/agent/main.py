"""Run ``pmitogen agent``, with the command line of ssh-agent(1)."""

from __future__ import annotations

import contextlib
import errno
import getopt
import os
import shlex
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence

from pmitogen.cli.agent import durations
from pmitogen.cli.agent.server import STOP_SIGNALS, Server
from pmitogen.cli.keygen.show import UnknownName, hash_name
from pmitogen.errors import Error, UsageError
from pmitogen.util import processes
from pmitogen.util.peer_text import one_line

USAGE = """\
usage: ssh-agent [-c | -s] [-Dd] [-a bind_address] [-E fingerprint_hash] [-t life]
       ssh-agent [-a bind_address] [-E fingerprint_hash] [-t life] command [arg ...]
       ssh-agent [-c | -s] -k
"""

MAX_DIGITS = 18  # of a process number that is read at all
_OPTIONS = ("no-restrict-websafe", "allow-remote-pkcs11")  # without effect: there are no security keys and providers


class BadUsage(UsageError):
    """The command line itself is wrong: the usage is printed after the message."""


def run(argv: Sequence[str]) -> int:
    """Run the command. Returns the exit status: 0, or 1 for every failure."""
    if list(argv) in [["--help"], ["-h"]]:
        sys.stdout.write(USAGE)
        return 0
    try:
        return _run(argv)
    except BadUsage as error:
        sys.stderr.write((one_line(str(error)) + "\n" if str(error) else "") + USAGE)
    except UnknownName as error:
        sys.stderr.write(one_line(error.message) + "\n")
        return 255
    except Error as error:
        sys.stderr.write(one_line(error.message) + "\n")
    return 1


def _run(argv: Sequence[str]) -> int:
    try:
        pairs, command = getopt.getopt(list(argv), "cDdksE:a:t:P:O:")
    except getopt.GetoptError as error:
        form = "option requires an argument" if "requires" in error.msg else "unknown option"
        raise BadUsage(f"{form} -- {error.opt.lstrip('-')[:1] or '-'}") from None
    flags = {flag[1:]: value for flag, value in pairs}
    foreground = "D" in flags or "d" in flags
    if (
        sum(flag in ("-d", "-D") for flag, _ in pairs) > 1
        or (command and ("c" in flags or "s" in flags or "k" in flags or foreground))
        or ("c" in flags and "s" in flags)
    ):
        raise BadUsage("")
    if "P" in flags:
        raise UsageError("-P: not supported: the agent loads no providers; remove it")
    if flags.get("O", "no-restrict-websafe") not in _OPTIONS and not flags["O"].startswith("websafe-allow="):
        raise UnknownName("Unknown -O option")
    csh = "c" in flags or ("s" not in flags and not command and os.environ.get("SHELL", "").endswith("csh"))
    if "k" in flags:
        return _kill(csh)
    if "E" in flags:
        hash_name(flags["E"])
    lifetime = _lifetime(flags["t"]) if "t" in flags else None
    with _listen(flags.get("a")) as (listener, path):
        if foreground:
            print(_assignment("SSH_AUTH_SOCK", path, csh), f"echo Agent pid {os.getpid()};", sep="\n", flush=True)
            _serve(listener, path, lifetime, None)
            return 0
        return _start(listener, path, lifetime, command, csh)


def _lifetime(text: str) -> int | None:
    try:
        return durations.parse(text, "-t") or None
    except UsageError:
        raise BadUsage("Invalid lifetime") from None


@contextlib.contextmanager
def _listen(path: str | None) -> Iterator[tuple[socket.socket, str]]:
    """Yield a listening socket that only this account can reach, in a new private directory or at *path*, and its path."""
    directory = None
    if path is None:
        directory = tempfile.mkdtemp(prefix="ssh-")
        path = f"{directory}/agent.{os.getpid()}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    try:
        listener.bind(path)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if directory is not None:
            os.rmdir(directory)
        if error.errno is None:
            raise UsageError(f'unix_listener: path "{path}" too long for Unix domain socket') from None
        raise UsageError(f"unix_listener: cannot bind to path {path}: {error.strerror}") from None
    finally:
        os.umask(umask)
    with listener:
        yield listener, path


def _start(listener: socket.socket, path: str, lifetime: int | None, command: list[str], csh: bool) -> int:
    """Fork: the child becomes the agent. The parent prints the agent's variables, or executes *command*."""
    parent = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # until the child can remove its socket at a signal
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.setsid()
            os.chdir("/")
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in range(3):
                os.dup2(null, descriptor)
            _serve(listener, path, lifetime, parent if command else None)
            status = 0
        finally:
            os._exit(status)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    if not command:
        print(_assignment("SSH_AUTH_SOCK", path, csh), _assignment("SSH_AGENT_PID", str(pid), csh), sep="\n")
        print(f"echo Agent pid {pid};", flush=True)
        return 0
    environment = {**os.environ, "SSH_AUTH_SOCK": path, "SSH_AGENT_PID": str(pid)}
    try:
        if not command[0]:  # Python would try the directories of PATH
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        os.execvpe(command[0], command, environment)
    except OSError as error:
        os.kill(pid, signal.SIGTERM)
        raise UsageError(f"{command[0]}: {error.strerror}".removeprefix(": ")) from None


def _serve(listener: socket.socket, path: str, lifetime: int | None, parent: int | None) -> None:
    processes.forbid_dumps()
    try:
        Server(listener, lifetime, parent).run()
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
        directory = os.path.dirname(path)
        if os.path.basename(directory).startswith("ssh-") and os.path.basename(path).startswith("agent."):
            with contextlib.suppress(OSError):
                os.rmdir(directory)


def _kill(csh: bool) -> int:
    text = os.environ.get("SSH_AGENT_PID")
    if text is None:
        raise UsageError("SSH_AGENT_PID not set, cannot kill agent")
    if problem := _pid_problem(text):
        raise UsageError(f'SSH_AGENT_PID="{text}", which is not a good PID: {problem}')
    try:
        os.kill(int(text), signal.SIGTERM)
    except OSError as error:
        raise UsageError(f"kill: {error.strerror}") from None
    for name in ("SSH_AUTH_SOCK", "SSH_AGENT_PID"):
        print(f"unsetenv {name};" if csh else f"unset {name};")
    print(f"echo Agent pid {text} killed;", flush=True)
    return 0


def _pid_problem(text: str) -> str:
    """Return why *text* is not the number of a process that could be an agent; "" if it is."""
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or len(digits) > MAX_DIGITS:
        return "invalid"
    return "too small" if int(text) < 2 else "too large" if int(text) >= 1 << 31 else ""


def _assignment(name: str, value: str, csh: bool) -> str:
    quoted = shlex.quote(value)
    return f"setenv {name} {quoted};" if csh else f"{name}={quoted}; export {name};"
