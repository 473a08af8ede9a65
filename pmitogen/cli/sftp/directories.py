"""Commands of an SFTP session that list remote directories and move between them."""

from __future__ import annotations

import os
import sys

from pmitogen.cli.sftp import listing
from pmitogen.cli.sftp.session import CommandError, Session
from pmitogen.cli.transfer import patterns
from pmitogen.cli.transfer.files import FileError, join
from pmitogen.transport.sessions.sftp_packets import Entry


def cd(session: Session, flags: str, path: str = "") -> None:
    """Change the remote directory; without an argument to that of the login."""
    wanted = session.path(path) if path else "."
    try:
        with session.files.translate_errors():
            directory = session.sftp.realpath(wanted)
        if not session.files.stat(directory).is_directory:
            raise CommandError(f'Can\'t change directory: "{directory}" is not a directory')
    except FileError as error:
        raise CommandError(f"realpath {wanted}: {error}") from None
    session.cwd = directory


def pwd(session: Session, flags: str) -> None:
    """Print the remote directory."""
    session.print(f"Remote working directory: {session.cwd}")


def ls(session: Session, flags: str, path: str = "") -> None:
    """List a directory, or the files that match."""
    pattern = session.pattern(path) if path else patterns.escape_pattern(session.cwd)
    try:
        matches = patterns.expand(session.files, pattern)
        entries = [Entry(_as_typed(session, each, path), session.files.stat(each)) for each in matches]
        if patterns.is_pattern(path):
            entries = [each._replace(name=each.name + "/") if each.attributes.is_directory else each for each in entries]
    except FileError:
        raise CommandError(f'Can\'t ls: "{session.path(path)}" not found') from None
    if len(matches) == 1 and entries[0].attributes.is_directory:
        entries = _directory(session, matches[0], flags, path)
    width = os.get_terminal_size(1).columns if sys.stdout.isatty() else 80
    for line in listing.lines(listing.sort(entries, flags), flags, width):
        session.print(line)


def _directory(session: Session, directory: str, flags: str, path: str) -> list[Entry]:
    try:
        entries = session.files.entries(directory)
        if "a" in flags:
            entries += [Entry(name, session.files.stat(join(directory, name))) for name in (".", "..")]
    except FileError as error:
        raise CommandError(f'remote readdir("{directory}"): {error}') from None
    entries = [entry for entry in entries if "a" in flags or not entry.name.startswith(".")]
    if not path:
        return entries
    return [entry._replace(name=join(_as_typed(session, directory, path), entry.name)) for entry in entries]


def _as_typed(session: Session, path: str, typed: str) -> str:
    """Return *path* as the user would type it: relative, if the argument was."""
    prefix = session.cwd.rstrip("/") + "/"
    return path[len(prefix) :] or "." if not typed.startswith("/") and path.startswith(prefix) else path
