"""Commands of an SFTP session that change remote files."""

from __future__ import annotations

from pmitogen.cli.sftp import listing
from pmitogen.cli.sftp.session import CommandError, Session
from pmitogen.cli.transfer import patterns
from pmitogen.transport.sessions.sftp_client import FileSystem
from pmitogen.transport.sessions.sftp_file import COPY_DATA
from pmitogen.transport.sessions.sftp_packets import Attributes


def mkdir(session: Session, flags: str, path: str) -> None:
    """Create a directory."""
    session.change(f'remote mkdir "{session.path(path)}"', lambda: session.sftp.mkdir(session.path(path)))


def rmdir(session: Session, flags: str, path: str) -> None:
    """Remove an empty directory."""
    session.change(f'remote rmdir "{session.path(path)}"', lambda: session.sftp.rmdir(session.path(path)))


def rm(session: Session, flags: str, pattern: str) -> None:
    """Remove files."""
    session.change_each(pattern, "remote delete {}", lambda path: session.sftp.remove(path), "Removing")


def chmod(session: Session, flags: str, mode: str, pattern: str) -> None:
    """Change the mode of files; *mode* is octal."""
    if not 0 < len(mode) <= 5 or not set(mode) <= set("01234567") or int(mode, 8) > 0o7777:
        raise CommandError(f"chmod: invalid mode '{mode}'; use octal digits such as 644")
    attributes = Attributes(mode=int(mode, 8))
    session.change_each(
        pattern, 'remote setstat "{}"', lambda path: session.sftp.set_attributes(path, attributes), "Changing mode on"
    )


def chown(session: Session, flags: str, owner: str, pattern: str) -> None:
    """Change the owner of files, a number."""
    session.change_each(
        pattern, 'remote setstat "{}"', lambda path: _own(session, path, _number("chown", owner), None), "Changing owner on"
    )


def chgrp(session: Session, flags: str, group: str, pattern: str) -> None:
    """Change the group of files, a number."""
    session.change_each(
        pattern, 'remote setstat "{}"', lambda path: _own(session, path, None, _number("chgrp", group)), "Changing group on"
    )


def _own(session: Session, path: str, uid: int | None, gid: int | None) -> None:
    attributes = session.sftp.stat(path)
    owner, group = (attributes.uid if uid is None else uid), (attributes.gid if gid is None else gid)
    session.sftp.set_attributes(path, Attributes(uid=owner, gid=group))


def rename(session: Session, flags: str, old: str, new: str) -> None:
    """Rename a file, in place of an existing one."""
    paths = session.path(old), session.path(new)
    session.change(f'remote rename "{paths[0]}" to "{paths[1]}"', lambda: session.sftp.replace(*paths))


def copy(session: Session, flags: str, old: str, new: str) -> None:
    """Copy a file on the server."""
    paths = session.path(old), session.path(new)

    def act() -> None:
        if not session.sftp.stat(paths[0]).is_file:
            raise CommandError(f"Cannot copy non-regular file: {paths[0]}")
        if COPY_DATA not in session.sftp.extensions:
            raise CommandError(f"Server does not support {COPY_DATA} extension")
        session.sftp.copy(*paths)

    session.change(f'remote copy "{paths[0]}" to "{paths[1]}"', act)


def df(session: Session, flags: str, path: str = "") -> None:
    """Print the statistics of a file system."""
    found: list[FileSystem] = []
    session.change("remote statvfs", lambda: found.append(session.sftp.file_system(session.path(path))))
    for line in listing.file_system_lines(found[0], flags):
        session.print(line)


def ln(session: Session, flags: str, old: str, new: str) -> None:
    """Create a hard link, or with -s a symbolic one."""
    if "s" in flags:
        symlink(session, "", old, new)
        return
    paths = session.path(old), session.path(new)
    session.change(f'remote link "{paths[0]}" to "{paths[1]}"', lambda: session.sftp.hardlink(*paths))


def symlink(session: Session, flags: str, old: str, new: str) -> None:
    """Create a symbolic link."""
    paths = patterns.unescape(old), session.path(new)
    session.change(f'remote symlink "{paths[0]}" to "{paths[1]}"', lambda: session.sftp.symlink(*paths))


def _number(command: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > 0xFFFFFFFF:
        raise CommandError(f"{command}: invalid id '{text}'; use a number")
    return int(text)
