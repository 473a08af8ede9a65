"""Find, remove and hash the entries of a known_hosts file: ``-F``, ``-R``, ``-H``.

Source: do_known_hosts() in ssh-keygen.c of OpenSSH; hostkeys_foreach_file() in hostfile.c defines an invalid line.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from pmitogen.cli.keygen import show
from pmitogen.cli.keygen.options import Options
from pmitogen.errors import UsageError
from pmitogen.transport.hostkeys import known_hosts
from pmitogen.transport.hostkeys.known_hosts import KnownHosts, KnownHostsLine
from pmitogen.transport.keys import public_key
from pmitogen.util import atomic_file, trusted_path
from pmitogen.util.peer_text import escape

_MARKS = {known_hosts.AUTHORITY: "CA", known_hosts.REVOKED: "REVOKED", known_hosts.NO_MARKER: ""}


@dataclasses.dataclass(frozen=True)
class _Line:
    """One line as written; *entry* is None for a comment, and for an *invalid* line."""

    number: int
    text: str
    entry: KnownHostsLine | None
    invalid: bool = False

    def matches(self, name: str) -> bool:
        if self.entry is None:
            return False
        searched = name if self.entry.names.startswith("|") else name.lower()  # as ssh-keygen: case matters for hashed names
        return bool(KnownHosts([self.entry]).lookup(searched))

    @property
    def rest(self) -> str:
        """The text after the host names of a line without a marker."""
        return self.text.split(None, 1)[1]


def find(options: Options) -> int:
    """Print a host's entries (``-F``). Returns 0 if it has any, else 1. Raises UsageError."""
    name, path = options["F"] or "", _path(options)
    matching = [line for line in _lines(path) if line.matches(name)]
    for line in matching:
        if line.entry is None:
            continue
        if not options.quiet:
            print(f"# Host {name} found: line {line.number} {_MARKS[line.entry.marker]}")
        blob = line.entry.blob if "l" in options else None
        if "H" in options:
            print("\n".join(_hashed(line)))
        elif blob is not None:
            comment = _comment(line)
            digest = show.digest_text(blob, show.hash_of(options))
            print(f"{name} {show.kind(blob)} {digest}{' ' if comment else ''}{escape(comment)}")
            if "v" in options:
                print(show.picture(blob, show.hash_of(options)))
        elif "l" not in options:
            print(line.text)
    return 0 if matching else 1


def remove(options: Options) -> int:
    """Remove a host's entries, except those with a marker (``-R``). Raises UsageError."""
    name, path = options["R"] or "", _path(options)
    remaining, removed, invalid = [], False, False
    for line in _lines(path):
        if line.entry is not None and not line.entry.marker and line.matches(name):
            removed = True
            if not options.quiet:
                print(f"# Host {name} found: line {line.number}", flush=True)
            continue
        invalid = _report_if_invalid(line, path) or invalid
        remaining.append(line.text)
    if invalid:
        return _refuse(path)
    if not removed:
        _log(f"Host {name} not found in {path}")
        return 0
    _replace(path, remaining)
    return 0


def hash_names(options: Options) -> int:
    """Replace the names by their hashes (``-H``). Raises UsageError."""
    path = _path(options)
    lines: list[str] = []
    invalid = hashed = False
    for line in _lines(path):
        invalid = _report_if_invalid(line, path) or invalid
        if line.entry is not None and _has_pattern(line.entry) and not line.entry.names.startswith("|"):
            _log(f"{path}:{line.number}: ignoring host name with wildcard: {escape(line.entry.names[:64])}")
        new = _hashed(line)
        hashed = hashed or new != [line.text]
        lines += new
    if invalid:
        return _refuse(path)
    _replace(path, lines)
    if hashed:
        _log(f"WARNING: {path}.old contains unhashed entries")
        _log("Delete this file to ensure privacy of hostnames")
    return 0


def _path(options: Options) -> str:
    return options["f"] or os.path.expanduser("~/.ssh/known_hosts")


def _lines(path: str) -> Iterator[_Line]:
    try:
        text = Path(path).read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise UsageError(f"Cannot stat {path}: {error.strerror}") from None
    for index, line in enumerate(text.removesuffix("\n").split("\n") if text else (), 1):
        bare = line.strip()
        entry = known_hosts.parse_line(bare, path, index)
        comment = not bare or bare.startswith("#")
        if entry is not None and not _is_valid(entry):
            entry = None
        yield _Line(index, line, entry, invalid=entry is None and not comment)


def _is_valid(entry: KnownHostsLine) -> bool:
    if entry.names.startswith("|") and not known_hosts.is_hashed_name(entry.names):
        return False
    return public_key.plain_name(entry.key_type) in public_key.DISPLAY_NAMES and not entry.key_text.startswith("#")


def _has_pattern(entry: KnownHostsLine) -> bool:
    return any(character in entry.names for character in "*?!")


def _hashed(line: _Line) -> list[str]:
    """Return the lines with each name hashed; the line itself if it has patterns, hashes or a marker."""
    entry = line.entry
    if entry is None or entry.marker or entry.names.startswith("|") or _has_pattern(entry):
        return [line.text]
    return [f"{known_hosts.hash_name(name)} {line.rest}" for name in entry.names.split(",") if name]


def _comment(line: _Line) -> str:
    fields = line.text.split(None, 3 if line.entry is not None and not line.entry.marker else 4)
    wanted = 3 if line.entry is not None and not line.entry.marker else 4
    return fields[wanted].strip() if len(fields) > wanted else ""


def _report_if_invalid(line: _Line, path: str) -> bool:
    if line.invalid:
        _log(f"{path}:{line.number}: invalid line")
    return line.invalid


def _refuse(path: str) -> int:
    _log(f"{path} is not a valid known_hosts file.")
    _log("Not replacing existing known_hosts file because of errors")
    return 1


def _replace(path: str, lines: list[str]) -> None:
    """Write the file, and keep the old contents in a file with the suffix .old. Raises UsageError."""
    target = trusted_path.resolve(path)
    old = f"{target}.old"
    try:
        mode = stat.S_IMODE(os.stat(target).st_mode)
        with atomic_file.create(target, mode) as file:
            os.fchmod(file.fileno(), mode)
            file.write("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
            with contextlib.suppress(FileNotFoundError):
                os.unlink(old)
            os.link(target, old)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    print(f"{path} updated.\nOriginal contents retained as {path}.old", flush=True)


def _log(line: str) -> None:
    sys.stdout.flush()
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
