"""Operations on files of a host: each calls a function that is sent to the host; see target/library/remote_files.py.

An error of the host's operating system is raised as the same OSError (FileNotFoundError, PermissionError ...), with errno and
path.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import stat as stats
from typing import Any

from pmitogen.api import arguments
from pmitogen.api.account import Account
from pmitogen.api.arguments import AnyPath, display_text, wire_path
from pmitogen.api.sftp import operations as sftp_operations
from pmitogen.api.waiting import Runtime
from pmitogen.errors import ConnectError, ConnectionLost, RemoteError
from pmitogen.hub import bootstrap
from pmitogen.hub.host.host import Host
from pmitogen.util.os_errors import os_error
from pmitogen.util.peer_text import escape

MODULE = "pmitogen_remote_files"  # its name on the host
_STAT_FIELDS = 10
MAX_ID = (1 << 32) - 2  # of a user or group; the next number means none


@dataclasses.dataclass(frozen=True)
class DirEntry:
    """An entry of a directory of a host: its name, its path, and the result of lstat(2)."""

    name: str
    path: str
    lstat: os.stat_result

    def stat(self) -> os.stat_result:
        """Return the result of lstat(2) from when the directory was read: a link is not followed."""
        return self.lstat

    def is_dir(self) -> bool:
        """Return True if it is a directory, not a link to one."""
        return stats.S_ISDIR(self.lstat.st_mode)

    def is_file(self) -> bool:
        """Return True if it is a regular file, not a link to one."""
        return stats.S_ISREG(self.lstat.st_mode)

    def is_symlink(self) -> bool:
        """Return True if it is a symbolic link."""
        return stats.S_ISLNK(self.lstat.st_mode)


@functools.cache
def _files() -> dict[str, bytes]:
    return {
        f"{MODULE}.py": bootstrap.module_source("pmitogen.target.library", "remote_files").encode(),
        "pmitogen/target/payload/remote_call.py": bootstrap.module_source("pmitogen.target.payload", "remote_call").encode(),
    }


async def perform(account: Account, runtime: Runtime, name: str, *args: Any, path: AnyPath | None = None) -> Any:
    """Call an operation on the host, and return its answer, decoded JSON that the caller checks.

    Raises OSError; *path* is in it where the host names none.
    """
    answer = await _answer(account, runtime, name, list(args))
    if not isinstance(answer, dict):
        raise malformed(account, name)
    if "errno" in answer:
        wire = str(answer["path"]) if "path" in answer else wire_path(path, name) if path is not None else None
        failed_path, text = wire and from_wire_text(wire), escape(str(answer.get("text"))[:500])
        raise os_error(f"{account}: {name}: {failed_path or ''}: {text}", str(answer["errno"]), text, failed_path)
    return answer.get("value")


async def _answer(account: Account, runtime: Runtime, name: str, args: list[Any]) -> Any:
    """Run a file operation in the host's Python; where it has none, over SFTP as far as that can."""
    over_sftp = account.become is None and name in sftp_operations.OPERATIONS
    if not over_sftp or not await _lacks_python(account, runtime):
        try:
            return await account.call_by_name(runtime, MODULE, "perform", _files(), (name, args), {})
        except ConnectError as exc:
            if not over_sftp or exc.stage != "python" or not await _lacks_python(account, runtime):
                raise
    host = await _host(account, runtime)
    login = host.login
    if login is None or login.connection is None:
        raise ConnectionLost(f"{account}: {host.end_reason or 'the connection is closed'}")
    return await runtime.blocking(sftp_operations.perform, login.connection, name, args)


async def _host(account: Account, runtime: Runtime) -> Host:
    return await account.core.on_io_thread(runtime, account, lambda: account.core.registry.host(account.options, account.caller))


async def _lacks_python(account: Account, runtime: Runtime) -> bool:
    return bool((await _host(account, runtime)).no_python_reason)


def malformed(account: Account, name: str) -> RemoteError:
    """Return the error for an answer that the operation cannot have."""
    return RemoteError(f"{account}: {name}: malformed answer")


def from_wire_text(text: object) -> str:
    """Return a path of the host as text. Raises ValueError for anything else."""
    if not isinstance(text, str):
        raise ValueError
    return os.fsdecode(text.encode("latin-1"))


def stat_result(values: Any) -> os.stat_result:
    """Return the result of stat(2) on the host. Raises ValueError."""
    if not isinstance(values, list) or len(values) != _STAT_FIELDS or not all(type(each) in (int, float) for each in values):
        raise ValueError
    times = dict(zip(("st_atime", "st_mtime", "st_ctime"), map(float, values[7:]), strict=True))
    return os.stat_result([int(each) for each in values], times)


async def stat(account: Account, runtime: Runtime, path: AnyPath, follow: bool) -> os.stat_result:
    """Return the result of stat(2), or of lstat(2) if *follow* is false."""
    answer = await perform(
        account, runtime, "stat", wire_path(path, "stat: path"), arguments.flag(follow, "stat: follow_symlinks"), path=path
    )
    try:
        return stat_result(answer)
    except ValueError:
        raise malformed(account, "stat") from None


async def names(account: Account, runtime: Runtime, operation: str, *args: Any, path: AnyPath) -> list[str]:
    """Perform an operation, and return the paths or names that it lists."""
    answer = await perform(account, runtime, operation, *args, path=path)
    try:
        return [from_wire_text(name) for name in answer]
    except (ValueError, TypeError):
        raise malformed(account, operation) from None


async def scandir(account: Account, runtime: Runtime, path: AnyPath) -> list[DirEntry]:
    """Return the entries of a directory, sorted by name."""
    answer = await perform(account, runtime, "scandir", wire_path(path, "scandir: path"), path=path)
    try:
        entries = [(from_wire_text(name), stat_result(state)) for name, state in answer]
    except (ValueError, TypeError):
        raise malformed(account, "scandir") from None
    return [DirEntry(name, os.path.join(display_text(path), name), state) for name, state in entries]


async def walk(account: Account, runtime: Runtime, path: AnyPath) -> list[tuple[str, list[str], list[str]]]:
    """List a tree as ``os.walk`` does."""
    answer = await perform(account, runtime, "walk", wire_path(path, "walk: top"), path=path)
    try:
        return [
            (from_wire_text(top), [from_wire_text(name) for name in directories], [from_wire_text(name) for name in files])
            for top, directories, files in answer
        ]
    except (ValueError, TypeError):
        raise malformed(account, "walk") from None


async def mkdir(account: Account, runtime: Runtime, path: AnyPath, mode: int, parents: bool, exist_ok: bool) -> None:
    """mkdir(2), with the parents if wanted."""
    bits = arguments.integer(mode, "mkdir: mode", 0, 0o7777)
    flags = arguments.flag(parents, "mkdir: parents"), arguments.flag(exist_ok, "mkdir: exist_ok")
    await perform(account, runtime, "mkdir", wire_path(path, "mkdir: path"), bits, *flags, path=path)


async def remove(account: Account, runtime: Runtime, path: AnyPath, recursive: bool, missing_ok: bool) -> None:
    """Remove a file, a link or a directory."""
    flags = arguments.flag(recursive, "remove: recursive"), arguments.flag(missing_ok, "remove: missing_ok")
    await perform(account, runtime, "remove", wire_path(path, "remove: path"), *flags, path=path)


async def chown(
    account: Account, runtime: Runtime, path: AnyPath, user: str | int | None, group: str | int | None, follow: bool
) -> None:
    """chown(2), by names or numbers."""
    for value, label in ((user, "chown: user"), (group, "chown: group")):
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, str))):
            arguments.wrong(label, "a name, a number or None", value)
        if isinstance(value, int):
            arguments.integer(value, label, 0, MAX_ID)
    follows_links = arguments.flag(follow, "chown: follow_symlinks")
    await perform(account, runtime, "chown", wire_path(path, "chown: path"), user, group, follows_links, path=path)
