"""Make a directory like another one on the other side of the connection: only files that differ are copied, several at once.

A host's list of files is not trusted. A path that leads out of the directory, or through something that the host did not list as
a directory, ends the operation before anything is written on this machine. Links are made last, and nothing is written through a
link.
"""

from __future__ import annotations

import collections
import dataclasses
import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from pmitogen.api import arguments, transfers
from pmitogen.api.account import Account
from pmitogen.api.arguments import AnyPath, wire_path
from pmitogen.api.exchange import Exchange, until_any
from pmitogen.api.remote_files import malformed, perform
from pmitogen.api.remote_files import stat as remote_stat
from pmitogen.api.waiting import Runtime
from pmitogen.errors import RemoteError
from pmitogen.protocol.framing import CHUNK
from pmitogen.target.library import remote_files as operations
from pmitogen.util.atomic_file import atomic_write
from pmitogen.util.os_errors import os_error

MAX_CONCURRENT = 32  # small files under way
TIME_SLACK = 1e-3  # seconds by which two file systems may round


class Entry(NamedTuple):
    """A file, link or directory below a directory. Paths are text whose code points are the bytes.

    *kind*: d: directory, f: file, l: link, ?: another kind, which cannot be copied, x: excluded, and neither read nor changed.
    """

    path: str
    kind: str
    mode: int
    size: int
    time: float
    target: str | None


@dataclasses.dataclass(frozen=True)
class Changes:
    """The changes of ``put_tree`` or ``get_tree``: paths below the directory, sorted."""

    copied: tuple[str, ...]
    """Files that were copied, and links that were made."""
    removed: tuple[str, ...]
    """Files and directories that were removed; the contents of a removed directory are not listed."""


@dataclasses.dataclass(frozen=True)
class TreeOptions:
    """Options for copying a tree; see :meth:`pmitogen.Host.put_tree`."""

    delete: bool
    exclude: tuple[str, ...]
    times: bool
    progress: Callable[[str], object] | None

    @classmethod
    def checked(
        cls, label: str, delete: bool, exclude: Iterable[str], times: bool, progress: Callable[[str], object] | None
    ) -> TreeOptions:
        """Return the options that the arguments of a call set. Raises TypeError, UsageError."""
        if isinstance(exclude, (str, bytes)) or not isinstance(exclude, Iterable):
            arguments.wrong(f"{label}: exclude", "an iterable of str", exclude)
        patterns = tuple(arguments.text(pattern, f"{label}: exclude") for pattern in exclude)
        arguments.function(progress, f"{label}: progress")
        return cls(arguments.flag(delete, f"{label}: delete"), patterns, arguments.flag(times, f"{label}: times"), progress)

    @property
    def patterns(self) -> list[str]:
        """The patterns, as they are sent."""
        return [os.fsencode(pattern).decode("latin-1") for pattern in self.exclude]

    async def report_copied(self, path: str, runtime: Runtime) -> None:
        """Report to the caller that a file has been copied."""
        if self.progress is not None:
            await runtime.finished(self.progress(_text(path)))


@dataclasses.dataclass(frozen=True)
class TreePlan:
    """The steps that make one directory like another."""

    opened: list[list[Any]]  # directories without the owner's rights, and the modes with which something in them can be changed
    blocked: list[str]  # directories in the way of a file or link, with files in them that must not be removed
    removed: list[str]
    directories: list[str]
    links: list[tuple[str, str]]
    files: list[Entry]  # new ones, and those of another kind or size
    doubtful: list[Entry]  # those of the same size: their contents decide


def _text(path: str) -> str:
    return os.fsdecode(path.encode("latin-1"))


def _wire(path: str) -> str:
    return os.fsencode(path).decode("latin-1")


def compare(source: Iterable[Entry], target: Iterable[Entry], delete: bool) -> TreePlan:
    """Return the steps that make *target* like *source*. Only *delete* removes files, and never excluded ones."""
    wanted = {entry.path: entry for entry in source if entry.kind in "dfl"}
    existing = {entry.path: entry for entry in target}
    plan = TreePlan([], [], [], [], [], [], [])
    gone: set[str] = set()
    staying = {above for entry in existing.values() if entry.kind == "x" or not delete for above in _above(entry.path)}
    for path in sorted(existing):
        entry, new = existing[path], wanted.get(path)
        if entry.kind == "x":
            continue
        inside_gone = path.rpartition("/")[0] in gone
        is_other = new is not None and (new.kind != entry.kind or new.kind == "l" and new.target != entry.target)
        if is_other and path in staying and not inside_gone:
            plan.blocked.append(path)
        elif inside_gone or is_other or new is None and delete and path not in staying:
            gone.add(path)
            if not inside_gone:
                plan.removed.append(path)
    for path in sorted(wanted):
        entry = wanted[path]
        old = existing.get(path) if path not in gone else None
        if entry.kind == "d" and old is None:
            plan.directories.append(path)
        elif entry.kind == "l" and old is None:
            plan.links.append((path, entry.target or ""))
        elif entry.kind == "f" and (old is None or old.size != entry.size):
            plan.files.append(entry)
        elif entry.kind == "f":
            plan.doubtful.append(entry)
    changed = [
        *plan.removed,
        *plan.directories,
        *(path for path, _ in plan.links),
        *(each.path for each in plan.files + plan.doubtful),
    ]
    for path in sorted(({path.rpartition("/")[0] for path in changed} & existing.keys()) - gone):
        if existing[path].mode & 0o700 != 0o700:
            plan.opened.append([path, existing[path].mode | 0o700])
    return plan


def _above(path: str) -> Iterator[str]:
    """Yield the directories above a path."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def _refuse_blocked(plan: TreePlan, make_error: Callable[[str, str], OSError]) -> None:
    """Raise the error that is made of a text and a path, if something is in the way."""
    if plan.blocked:
        raise make_error("directory is not empty, and a file or link would replace it", _text(plan.blocked[0]))


def changed_states(source: Iterable[Entry], target: Iterable[Entry], copied: set[str], times: bool) -> list[list[Any]]:
    """Return the modes and times to set: files first, directories from the deepest up."""
    existing = {entry.path: entry for entry in target}
    states = []
    for entry in sorted(source, key=lambda entry: (entry.kind == "d", -entry.path.count("/"), entry.path)):
        if entry.kind not in "df":
            continue
        old = existing.get(entry.path)
        same = old is not None and old.mode == entry.mode and (not times or abs(old.time - entry.time) < TIME_SLACK)
        if not same or entry.path in copied or entry.kind == "d":
            states.append([entry.path, entry.mode, entry.time if times else None])
    return states


def read_entries(answer: Any) -> list[Entry]:
    """Return the entries that a host lists. Raises ValueError for an entry that leads out of the directory."""
    entries = [Entry(*each) for each in answer]
    directories = {""} | {entry.path for entry in entries if entry.kind == "d"}
    for path, kind, mode, size, when, target in entries:
        if type(path) is not str or not path:
            raise ValueError
        parent, _, name = path.rpartition("/")
        if parent not in directories or name in ("", ".", ".."):
            raise ValueError
        if any("\0" in text or max(text, default="") > "\xff" for text in (path, target) if isinstance(text, str)):
            raise ValueError
        if kind not in ("d", "f", "l", "?", "x") or type(mode) is not int or type(size) is not int or size < 0:
            raise ValueError
        if type(when) not in (int, float) or (kind == "l") != (type(target) is str):
            raise ValueError
    if len({entry.path for entry in entries}) != len(entries):
        raise ValueError
    return [entry._replace(mode=entry.mode & 0o777) for entry in entries]


async def _listed(account: Account, runtime: Runtime, path: AnyPath, options: TreeOptions) -> list[Entry] | None:
    answer = await perform(account, runtime, "tree", wire_path(path, "tree"), options.patterns, path=path)
    try:
        return None if answer is None else read_entries(answer)
    except (ValueError, TypeError):
        raise malformed(account, "tree") from None


async def _differing(
    account: Account, runtime: Runtime, local_root: str, remote_root: AnyPath, doubtful: list[Entry]
) -> list[Entry]:
    """Return the *doubtful* entries whose contents differ."""
    if not doubtful:
        return []
    names = [entry.path for entry in doubtful]
    remote_digests = await perform(account, runtime, "digests", wire_path(remote_root, "tree"), names, path=remote_root)
    local_digests = await runtime.blocking(operations.digests, _wire(local_root), names)
    if not isinstance(remote_digests, list) or len(remote_digests) != len(names):
        raise malformed(account, "digests")
    return [
        entry
        for entry, local_digest, remote_digest in zip(doubtful, local_digests, remote_digests, strict=True)
        if local_digest is None or local_digest != remote_digest
    ]


def _local_tree(path: str, options: TreeOptions) -> list[Entry]:
    listing = operations.tree(_wire(os.path.abspath(path)), options.patterns)
    return [Entry(*each)._replace(mode=each[2] & 0o777) for each in listing or []]


async def put_tree(
    account: Account, runtime: Runtime, source: str | os.PathLike[str], target: AnyPath, options: TreeOptions
) -> Changes:
    """Make *target* on the host like the local *source*."""
    local_root = os.path.abspath(arguments.local_path(source, "put_tree: source"))
    remote_root = wire_path(target, "put_tree: target")
    if not await runtime.blocking(os.path.isdir, local_root):
        await runtime.blocking(os.stat, local_root)  # raises FileNotFoundError, or why it cannot be looked at
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), local_root)
    wanted = await runtime.blocking(_local_tree, local_root, options)
    existing = await _listed(account, runtime, target, options) or []
    plan = compare(wanted, existing, options.delete)
    _refuse_blocked(plan, lambda text, path: os_error(f"{account}: put_tree: {path}: {text}", "ENOTEMPTY", text, path))
    await perform(
        account, runtime, "prepare_tree", remote_root, plan.opened, plan.removed, plan.directories, plan.links, path=target
    )
    files = plan.files + await _differing(account, runtime, local_root, target, plan.doubtful)
    running: dict[Exchange, Entry] = {}
    waiting = collections.deque(files)
    try:
        while waiting or running:
            while waiting and len(running) < MAX_CONCURRENT:
                entry = waiting.popleft()
                path, whole = os.path.join(_text(remote_root), _text(entry.path)), os.path.join(local_root, _text(entry.path))
                if entry.size > CHUNK:
                    await transfers.put(account, runtime, whole, path, entry.mode)
                    await options.report_copied(entry.path, runtime)
                    continue
                data = await runtime.blocking(_read, whole)
                running[Exchange(account, transfers.put_header(path, entry.mode), data)] = entry
            if running:
                await until_any(list(running), runtime)
            for request in [each for each in running if each.final is not None]:
                entry = running.pop(request)
                request.result()
                await options.report_copied(entry.path, runtime)
    except BaseException:
        for request in running:
            request.kill()
        raise
    copied = {entry.path for entry in files}
    states = changed_states(wanted, existing, copied, options.times)
    if states:
        await perform(account, runtime, "finish_tree", remote_root, states, path=target)
    return Changes(tuple(sorted(map(_text, [*copied, *(path for path, _ in plan.links)]))), tuple(map(_text, plan.removed)))


def _read(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


async def get_tree(
    account: Account, runtime: Runtime, source: AnyPath, target: str | os.PathLike[str], options: TreeOptions
) -> Changes:
    """Make the local *target* like *source* on the host."""
    local_root = os.path.abspath(arguments.local_path(target, "get_tree: target"))
    remote_root = wire_path(source, "get_tree: source")
    wanted = await _listed(account, runtime, source, options)
    if wanted is None:
        await remote_stat(account, runtime, source, True)  # raises FileNotFoundError, or why it cannot be looked at
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), arguments.display_text(source))
    existing = await runtime.blocking(_local_tree, local_root, options)
    plan = compare(wanted, existing, options.delete)
    _refuse_blocked(plan, lambda text, path: OSError(errno.ENOTEMPTY, text, os.path.join(local_root, path)))
    await runtime.blocking(_prepare_tree, local_root, plan)
    files = plan.files + await _differing(account, runtime, local_root, source, plan.doubtful)
    running: dict[Exchange, tuple[Entry, list[bytes]]] = {}
    waiting = collections.deque(files)
    try:
        while waiting or running:
            while waiting and len(running) < MAX_CONCURRENT:
                entry = waiting.popleft()
                path = os.path.join(_text(remote_root), _text(entry.path))
                if entry.size > CHUNK:
                    await transfers.get(account, runtime, path, _safe(local_root, entry.path))
                    await options.report_copied(entry.path, runtime)
                    continue
                running[Exchange(account, transfers.get_header(path))] = entry, []
            if running:
                await until_any(list(running), runtime, or_output=True)
            for request in [each for each in running if each.final is not None or each.has_any_output()]:
                entry, parts = running[request]
                ended = request.final is not None
                parts.append(request.take(0))
                if sum(map(len, parts)) > 2 * CHUNK:
                    raise RemoteError(f"{account}: get_tree: {_text(entry.path)}: file changed while reading")
                if ended:
                    del running[request]
                    request.result()
                    await runtime.blocking(_write, _safe(local_root, entry.path), b"".join(parts))
                    await options.report_copied(entry.path, runtime)
    except BaseException:
        for request in running:
            request.kill()
        raise
    copied = {entry.path for entry in files}
    await runtime.blocking(_finish_tree, local_root, plan, changed_states(wanted, existing, copied, options.times))
    return Changes(tuple(sorted(map(_text, [*copied, *(path for path, _ in plan.links)]))), tuple(map(_text, plan.removed)))


def _safe(root: str, path: str) -> str:
    """Return a path below *root* if no directory between them is a link. Raises OSError."""
    whole = os.path.join(root, _text(path))
    directory = os.path.dirname(whole)
    while len(directory) > len(root):
        if not stat.S_ISDIR(os.lstat(directory).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), directory)
        directory = os.path.dirname(directory)
    return whole


def _prepare_tree(local_root: str, plan: TreePlan) -> None:
    os.makedirs(local_root, exist_ok=True)
    for path, mode in plan.opened:
        os.chmod(_safe(local_root, path), mode)
    for path in plan.removed:
        whole = _safe(local_root, path)
        if stat.S_ISDIR(os.lstat(whole).st_mode):
            shutil.rmtree(whole)
        else:
            os.unlink(whole)
    for path in plan.directories:
        os.mkdir(_safe(local_root, path), 0o700)


def _write(path: str, data: bytes) -> None:
    with atomic_write(path) as stream:
        stream.write(data)


def _finish_tree(local_root: str, plan: TreePlan, states: list[list[Any]]) -> None:
    for path, mode, when in states:
        whole = _safe(local_root, path)
        os.chmod(whole, mode)
        if when is not None:
            os.utime(whole, (when, when))
    for path, to in plan.links:
        os.symlink(_text(to), _safe(local_root, path))
