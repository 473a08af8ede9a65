"""Commands of an SFTP session that copy files."""

from __future__ import annotations

from pmitogen.cli.sftp.session import CommandError, Session
from pmitogen.cli.transfer import patterns
from pmitogen.cli.transfer.copying import CopyOptions


def get(session: Session, flags: str, source: str, target: str | None = None) -> None:
    """Copy to this machine."""
    local = None if target is None else patterns.unescape(target)
    if not session.transfers.get(session.pattern(source), local, _copy_options(session, flags)):
        raise CommandError("")


def put(session: Session, flags: str, source: str, target: str | None = None) -> None:
    """Copy to the server."""
    path = session.cwd if target is None else session.path(target)
    if not session.transfers.put(source, path, _copy_options(session, flags)):
        raise CommandError("")


def reget(session: Session, flags: str, source: str, target: str | None = None) -> None:
    """Continue an interrupted copy to this machine."""
    get(session, flags + "a", source, target)


def reput(session: Session, flags: str, source: str, target: str | None = None) -> None:
    """Continue an interrupted copy to the server."""
    put(session, flags + "a", source, target)


def _copy_options(session: Session, flags: str) -> CopyOptions:
    default = session.options
    return CopyOptions(
        recursive=default.recursive or "R" in flags or "r" in flags,
        preserve=default.preserve or "p" in flags or "P" in flags,
        resume=default.resume or "a" in flags,
        sync=default.sync or "f" in flags,
    )


def progress(session: Session, flags: str) -> None:
    """Switch the display of progress on or off."""
    session.print(f"Progress meter {'enabled' if session.toggle_progress() else 'disabled'}")
