"""SFTP with a program of this machine: an SFTP server (``-D``), or one that runs in place of ssh (``-S``)."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator, Sequence

from pmitogen.cli.ssh.messages import CommandLineProblem
from pmitogen.flags.ssh.values import numbers

END_TIMEOUT = 5.0  # seconds for the program to end after its input has


@contextlib.contextmanager
def running(argv: Sequence[str]) -> Iterator[socket.socket]:
    """Run *argv*, and return a socket that is its standard input and output. It ends with the body. Raises CommandLineProblem."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            try:
                process = subprocess.Popen(argv, stdin=theirs.fileno(), stdout=theirs.fileno())
            except OSError as error:
                raise CommandLineProblem(f"{argv[0]}: {error.strerror}") from None
        try:
            yield ours
        finally:
            ours.close()
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(END_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            process.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ssh_argv(program: str, options: Sequence[str], destination: str, command: Sequence[str]) -> list[str]:
    """Return the command line of a program in place of ssh, as scp and sftp give it.

    *destination*: ``[user@]host`` or ``ssh://[user@]host[:port]``. *command*: the words around it, such as ``-s`` and ``sftp``.
    """
    uri = numbers.ssh_uri(destination)
    if uri is not None:
        user, host, port = uri
    else:
        user, _, host = destination.rpartition("@")
        port = None
    where = ["-p", str(port)] if port is not None else []
    if user:
        where += ["-l", user]
    *flags, words = command
    return [program, *options, *where, *flags, "--", host, words]
