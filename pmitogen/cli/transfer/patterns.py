"""Patterns in remote paths (``*``, ``?``, ``[...]``), expanded at this end as scp and sftp do.

The server's answer is not trusted: each name must be one of its directory and match its component of the pattern.
"""

from __future__ import annotations

import re

from pmitogen.cli.transfer.files import FileError, join
from pmitogen.cli.transfer.remote_files import RemoteFiles

MAX_MATCHES = 100_000
MAX_NAME = 1024  # characters; no file system has longer names, and matching one takes time


def expand(files: RemoteFiles, pattern: str) -> list[str]:
    """Return the paths that match; the pattern itself, without its backslashes, if it holds no special character.

    A file that is named like a pattern that matches nothing counts as its match. Raises FileError if nothing matches.
    """
    if not is_pattern(pattern):
        return [unescape(pattern)]
    first = "/" if pattern.startswith("/") else ""
    matches = _matches(files, first, [each for each in pattern.split("/") if each])
    if matches:
        return matches
    files.stat(pattern)
    return [pattern]


def _matches(files: RemoteFiles, directory: str, components: list[str]) -> list[str]:
    paths = [directory]
    for position, component in enumerate(components):
        is_last = position == len(components) - 1
        if not is_pattern(component):
            paths = [join(path, unescape(component)) for path in paths]
            continue
        try:
            matcher = _Matcher(component)
        except re.error:
            raise FileError(f"invalid pattern '{component}'") from None
        paths = [join(path, name) for path in paths for name in _names(files, path, matcher, is_last)]
        if len(paths) > MAX_MATCHES:
            raise FileError("too many glob matches")
    return [path for path in paths if _exists(files, path)]


def _names(files: RemoteFiles, directory: str, matcher: _Matcher, is_last: bool) -> list[str]:
    try:
        entries = files.entries(directory or ".")
    except FileError:
        return []
    entries = [entry for entry in entries if is_last or entry.attributes.is_directory or entry.attributes.is_link]
    return sorted(entry.name for entry in entries if len(entry.name) <= MAX_NAME and matcher.matches(entry.name))


def _exists(files: RemoteFiles, path: str) -> bool:
    try:
        files.stat(path)
    except FileError as error:
        return not error.is_missing
    return True


def is_pattern(text: str) -> bool:
    """Return whether *text* has a special character without a backslash before it."""
    return re.search(r"[*?[]", re.sub(r"\\.", "", text, flags=re.DOTALL)) is not None


def unescape(text: str) -> str:
    """Return *text* without the backslashes before literal characters."""
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


class _Matcher:
    """Match names with one component of a pattern, in linear time. As in a shell, a leading dot is matched by a dot only.

    Between two ``*`` each piece has a fixed length, so the leftmost place where it matches is as good as any other.
    """

    def __init__(self, component: str) -> None:
        self._hidden = component.startswith((".", "\\."))
        pieces = [re.compile(piece, re.DOTALL) for piece in _pieces(component)]
        lengths = [_length(piece) for piece in _pieces(component)]
        self._first, *self._others = zip(pieces, lengths, strict=True)

    def matches(self, name: str) -> bool:
        if name.startswith(".") and not self._hidden:
            return False
        regex, at = self._first
        if not self._others:
            return regex.fullmatch(name) is not None
        if regex.match(name) is None:
            return False
        *middle, (last, length) = self._others
        for regex, size in middle:
            match = regex.search(name, at)
            if match is None:
                return False
            at = match.start() + size
        return len(name) - length >= at and last.match(name, len(name) - length) is not None


def _length(piece: str) -> int:
    """Return how many characters *piece*, of :func:`_pieces`, matches."""
    return len(re.findall(r"\[\^?(?:\\.|[^\]\\])+\]|\\.|.", piece, re.DOTALL))


def _pieces(component: str) -> list[str]:
    """Translate the parts between the ``*`` of one component into regular expressions."""
    expressions = [""]
    at = 0
    while at < len(component):
        character = component[at]
        at += 1
        if character == "*":
            expressions.append("")
        elif character == "?":
            expressions[-1] += "."
        elif character == "\\" and at < len(component):
            expressions[-1] += re.escape(component[at])
            at += 1
        elif character == "[" and (end := component.find("]", at + 1 + (component[at : at + 1] in ("!", "^")))) > 0:
            members = component[at:end]
            negated = members[0] in "!^"
            members = re.sub(r"([\\\[\]^&|~])", r"\\\1", members[negated:])
            expressions[-1] += f"[{'^' * negated}{re.sub('-(?=-)', chr(92) + '-', members)}]"
            at = end + 1
        else:
            expressions[-1] += re.escape(character)
    return expressions


def escape_pattern(text: str) -> str:
    """Return the pattern that only *text* matches."""
    return re.sub(r"([*?[\\])", r"\\\1", text)
