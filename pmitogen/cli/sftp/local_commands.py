"""Commands of an SFTP session for this machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from pmitogen.cli.sftp.session import CommandError, Session, print_error
from pmitogen.cli.transfer import patterns

_NUL = "the path contains a NUL character"


def lcd(session: Session, flags: str, path: str = "~") -> None:
    """Change the local directory."""
    _local(f'Couldn\'t change local directory to "{path}"', lambda: os.chdir(os.path.expanduser(patterns.unescape(path))))


def lmkdir(session: Session, flags: str, path: str) -> None:
    """Create a local directory."""
    _local(f'Couldn\'t create local directory "{path}"', lambda: os.mkdir(patterns.unescape(path)))


def lpwd(session: Session, flags: str) -> None:
    """Print the local directory."""
    session.print(f"Local working directory: {os.getcwd()}")


def lumask(session: Session, flags: str, mask: str) -> None:
    """Set the local umask."""
    if not mask or not set(mask) <= set("01234567") or len(mask) > 10 or int(mask, 8) > 0o777:
        raise CommandError(f"lumask: invalid umask '{mask}'; use octal digits such as 022")
    os.umask(int(mask, 8))
    session.print(f"Local umask: {int(mask, 8):03o}")


def lls(session: Session, flags: str, *arguments: str) -> None:
    """List a local directory with the program ls."""
    _run(["ls", *map(patterns.unescape, arguments)])


def local_shell(command: str) -> None:
    """Run *command* with the user's shell; "": the shell itself. Its status ends no batch. Raises CommandError."""
    shell = os.environ.get("SHELL") or "/bin/sh"
    _run([shell, "-c", command] if command else [shell])


def _run(command: list[str]) -> None:
    sys.stdout.flush()
    try:
        status = subprocess.run(command, check=False).returncode
    except OSError as error:
        raise CommandError(f"{command[0]}: {error.strerror}") from None
    except ValueError:
        raise CommandError(f"{command[0]}: {_NUL}") from None
    if status:
        print_error(f"Shell exited with status {status}" if status > 0 else "Shell exited abnormally")


def _local(label: str, action: Callable[[], None]) -> None:
    try:
        action()
    except OSError as error:
        raise CommandError(f"{label}: {error.strerror}") from None
    except ValueError:
        raise CommandError(f"{label}: {_NUL}") from None
