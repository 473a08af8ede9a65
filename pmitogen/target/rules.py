"""Lines about some users in the files of accounts and rules, so that changes to other users' lines can be ignored.

Plays that create accounts write /etc/passwd, /etc/group, /etc/shadow and /etc/sudoers.d repeatedly. If each such change counted
for the entered account, each would cost an escalation. A line is ignored only if it is clearly about another user.
"""

import os
import re

from pmitogen.target import sources

MYPY = False
if MYPY:
    from typing import Collection, Iterable, List, Set, Union  # noqa: F401

    Line = Union[str, sources.Signature, sources.Permissions]

FILES = sources.ACCOUNT_FILES + (
    "/etc/sudoers",
    "/etc/sudoers.d/",
    "/etc/doas.conf",
    "/etc/doas.d/",
    "/etc/security/limits.conf",
    "/etc/security/limits.d/",
)
PREFIXES = tuple(path.rstrip("/") for path in FILES)
NAME = re.compile(r"[a-z_][\w.-]*\$?$")
CONTINUED = re.compile(r"\\\n")  # a backslash at the end of a line
DOAS_OPTIONS = re.compile(r"(?:permit|deny)\s+(?:(?:nopass|nolog|persist|keepenv|setenv\s*\{[^}]*\})\s+)*")


def lines_about(users, files):
    # type: (Collection[str], Iterable[str]) -> List[Line]
    """Return the lines of *files* about *users*, with path, mode and owner of each file: sudo ignores a file for these.

    For a file that cannot be read, the result of stat(2).
    """
    about_users = []  # type: List[Line]
    groups = set()  # type: Set[str]
    for listed in files:
        paths = [listed + name for name in sources.list_directory(listed)] if listed.endswith("/") else [listed]
        if listed.endswith("/") and not os.access(listed, os.R_OK | os.X_OK):
            about_users.append(sources.signature(listed))
        for path in paths:
            text = sources.read_text(path)
            if not text:
                about_users.append(sources.signature(path))
                continue
            lines = [line for line in CONTINUED.sub(" ", text).splitlines() if concerns(listed, line, users, groups)]
            if listed == "/etc/passwd":
                groups.update(line.split(":")[3] for line in lines if line.count(":") > 3)
            if lines:
                about_users.append(sources.permissions(path))
                about_users += lines
    return about_users


def concerns(path, line, users, groups=()):
    # type: (str, str, Collection[str], Collection[str]) -> bool
    """Return True if a line of *path* may be about one of *users* or a primary group of one (*groups*: their numbers)."""
    if path in sources.ACCOUNT_FILES:
        fields = line.split(":")
        if path == "/etc/group" and fields[2:3] and fields[2] in groups:
            return True
        return bool(set([fields[0]] if path != "/etc/group" else fields[-1].split(",")) & set(users))
    fields = line.split()
    if not fields:
        return False
    name = fields[0]
    if path.startswith("/etc/doas"):
        name = (DOAS_OPTIONS.sub("", line).split() or ["#"])[0]
    elif name.startswith("Defaults:"):
        name = name[len("Defaults:") :]
    if fields[1:2] and fields[1].startswith(","):  # a list of users, with a space before the comma
        return True
    return not NAME.match(name) or name in users
