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
        return [unescaped(pattern)]
    first = "/" if pattern.startswith("/") else ""
    found = _matches(files, first, [each for each in pattern.split("/") if each])
    if found:
        return found
    files.stat(pattern)
    return [pattern]


def _matches(files: RemoteFiles, directory: str, components: list[str]) -> list[str]:
    paths = [directory]
    for position, component in enumerate(components):
        is_last = position == len(components) - 1
        if not is_pattern(component):
            paths = [join(path, unescaped(component)) for path in paths]
            continue
        try:
            regex = re.compile(_regex(component), re.DOTALL)
        except re.error:
            raise FileError(f"invalid pattern '{component}'") from None
        paths = [join(path, name) for path in paths for name in _names(files, path, regex, is_last)]
        if len(paths) > MAX_MATCHES:
            raise FileError("too many glob matches")
    return [path for path in paths if _exists(files, path)]


def _names(files: RemoteFiles, directory: str, regex: re.Pattern[str], is_last: bool) -> list[str]:
    try:
        entries = files.entries(directory or ".")
    except FileError:
        return []
    entries = [entry for entry in entries if is_last or entry.attributes.is_directory or entry.attributes.is_link]
    return sorted(entry.name for entry in entries if len(entry.name) <= MAX_NAME and regex.fullmatch(entry.name))


def _exists(files: RemoteFiles, path: str) -> bool:
    try:
        files.stat(path)
    except FileError as error:
        return not error.is_missing
    return True


def is_pattern(text: str) -> bool:
    """Return whether *text* has a special character without a backslash before it."""
    return re.search(r"[*?[]", re.sub(r"\\.", "", text, flags=re.DOTALL)) is not None


def unescaped(text: str) -> str:
    """Return *text* without the backslashes that take characters literally."""
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def _regex(component: str) -> str:
    """Translate one component. As in a shell, a leading dot is matched by a dot only."""
    found = "" if component.startswith((".", "\\.")) else r"(?!\.)"
    at = 0
    while at < len(component):
        character = component[at]
        at += 1
        if character == "*":
            found += ".*"
        elif character == "?":
            found += "."
        elif character == "\\" and at < len(component):
            found += re.escape(component[at])
            at += 1
        elif character == "[" and (end := component.find("]", at + 1 + (component[at : at + 1] in ("!", "^")))) > 0:
            members = component[at:end].replace("\\", "\\\\").replace("[", "\\[")
            found += f"[^{members[1:]}]" if members[0] in "!^" else f"[{members}]"
            at = end + 1
        else:
            found += re.escape(character)
    return found


def escaped(text: str) -> str:
    """Return the pattern that only *text* matches."""
    return re.sub(r"([*?[\\])", r"\\\1", text)
