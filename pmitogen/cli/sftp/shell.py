"""Run the lines of an SFTP session. The table COMMANDS says which function runs a command, and with which arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pmitogen.cli.sftp import copy_commands, directories, local_commands, remote_commands
from pmitogen.cli.sftp.session import CommandError, Session, print_error
from pmitogen.cli.sftp.split_line import QuoteError, split


class _Command(NamedTuple):
    """*run*: takes the session, the flags and the arguments. *usage*: as in the list of commands. *flags*: allowed letters."""

    run: Callable[..., None]
    usage: str
    help: str
    flags: str
    least: int
    most: int


def _help(session: Session, flags: str) -> None:
    session.print("Available commands:")
    for command in COMMANDS.values():
        session.print(f"{command.usage:<35}{command.help}")
    for usage, text in (
        ("!command", "Execute 'command' in local shell"),
        ("!", "Escape to local shell"),
        ("?", "Synonym for help"),
    ):
        session.print(f"{usage:<35}{text}")


def _quit(session: Session, flags: str) -> None:
    session.ended = True


def _version(session: Session, flags: str) -> None:
    session.print("SFTP protocol version 3")


COMMANDS = {
    "bye": _Command(_quit, "bye", "Quit sftp", "", 0, 0),
    "cd": _Command(directories.cd, "cd path", "Change remote directory to 'path'", "", 0, 1),
    "chgrp": _Command(remote_commands.chgrp, "chgrp grp path", "Change group of file 'path' to 'grp'", "", 2, 2),
    "chmod": _Command(remote_commands.chmod, "chmod mode path", "Change permissions of file 'path' to 'mode'", "", 2, 2),
    "chown": _Command(remote_commands.chown, "chown own path", "Change owner of file 'path' to 'own'", "", 2, 2),
    "copy": _Command(remote_commands.copy, "copy oldpath newpath", "Copy remote file", "", 2, 2),
    "df": _Command(remote_commands.df, "df [-hi] [path]", "Display statistics of the filesystem of 'path'", "hi", 0, 1),
    "exit": _Command(_quit, "exit", "Quit sftp", "", 0, 0),
    "get": _Command(copy_commands.get, "get [-afpR] remote [local]", "Download file", "afpPrR", 1, 2),
    "help": _Command(_help, "help", "Display this help text", "", 0, 0),
    "lcd": _Command(local_commands.lcd, "lcd path", "Change local directory to 'path'", "", 0, 1),
    "lls": _Command(local_commands.lls, "lls [ls-options [path]]", "Display local directory listing", "", 0, 99),
    "lmkdir": _Command(local_commands.lmkdir, "lmkdir path", "Create local directory", "", 1, 1),
    "ln": _Command(remote_commands.ln, "ln [-s] oldpath newpath", "Link remote file (-s for symlink)", "s", 2, 2),
    "lpwd": _Command(local_commands.lpwd, "lpwd", "Print local working directory", "", 0, 0),
    "ls": _Command(directories.ls, "ls [-1afhlnrSt] [path]", "Display remote directory listing", "1afhlnrSt", 0, 1),
    "lumask": _Command(local_commands.lumask, "lumask umask", "Set local umask to 'umask'", "", 1, 1),
    "mget": _Command(copy_commands.get, "mget [-afpR] remote [local]", "Synonym for get", "afpPrR", 1, 2),
    "mkdir": _Command(remote_commands.mkdir, "mkdir path", "Create remote directory", "", 1, 1),
    "mput": _Command(copy_commands.put, "mput [-afpR] local [remote]", "Synonym for put", "afpPrR", 1, 2),
    "progress": _Command(copy_commands.progress, "progress", "Toggle display of progress meter", "", 0, 0),
    "put": _Command(copy_commands.put, "put [-afpR] local [remote]", "Upload file", "afpPrR", 1, 2),
    "pwd": _Command(directories.pwd, "pwd", "Display remote working directory", "", 0, 0),
    "quit": _Command(_quit, "quit", "Quit sftp", "", 0, 0),
    "reget": _Command(copy_commands.reget, "reget [-fpR] remote [local]", "Resume download file", "afpPrR", 1, 2),
    "rename": _Command(remote_commands.rename, "rename oldpath newpath", "Rename remote file", "l", 2, 2),
    "reput": _Command(copy_commands.reput, "reput [-fpR] local [remote]", "Resume upload file", "afpPrR", 1, 2),
    "rm": _Command(remote_commands.rm, "rm path", "Delete remote file", "", 1, 1),
    "rmdir": _Command(remote_commands.rmdir, "rmdir path", "Remove remote directory", "", 1, 1),
    "symlink": _Command(remote_commands.symlink, "symlink oldpath newpath", "Symlink remote file", "", 2, 2),
    "version": _Command(_version, "version", "Show SFTP version", "", 0, 0),
}
_SYNONYMS = {"?": "help", "chdir": "cd", "cp": "copy", "delete": "rm", "dir": "ls", "lchdir": "lcd"}


def run(session: Session, line: str) -> bool:
    """Run one line, which may begin with ``-`` (ignore a failure) and ``@`` (no echo). False: it failed.

    Raises ConnectionLost.
    """
    command = line.lstrip()
    ignored = False
    while command.startswith(("-", "@")):
        ignored |= command.startswith("-")
        command = command[1:].lstrip()
    if not command or command.startswith("#"):
        return True
    try:
        _run(session, command)
    except (CommandError, QuoteError) as error:
        if str(error):
            print_error(str(error))
        return ignored
    return True


def _run(session: Session, line: str) -> None:
    if line.startswith("!"):
        local_commands.local_shell(line[1:].strip())
        return
    name, *arguments = split(line)
    command = COMMANDS.get(_SYNONYMS.get(name.lower(), name.lower()))
    if command is None:
        raise CommandError("Invalid command.")
    flags = ""
    while command.run is not local_commands.lls and arguments and arguments[0].startswith("-") and len(arguments[0]) > 1:
        flags += arguments.pop(0)[1:]
    for letter in flags:
        if letter not in command.flags:
            raise CommandError(f"{name}: Invalid flag -{letter}")
    if not command.least <= len(arguments) <= command.most:
        raise CommandError(f"{name}: wrong number of arguments; usage: {command.usage}")
    command.run(session, flags, *arguments)
