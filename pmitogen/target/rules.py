"""What the files of accounts and rules say about some users: what changes about others is no change for these.

Plays that make accounts write /etc/passwd, /etc/group, /etc/shadow and /etc/sudoers.d again and again. To take every such change
for one of the entered account would cost an escalation each time. What is not clearly about somebody else counts.
"""

import os
import re

from pmitogen.target import sources

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
    """What *files* say about *users*: the lines, and under which path, mode and owner; sudo ignores a file for any of these.

    Of a file that cannot be read, what stat(2) tells.
    """
    found, groups = [], set()
    for listed in files:
        paths = [listed + name for name in sources.list_directory(listed)] if listed.endswith("/") else [listed]
        if listed.endswith("/") and not os.access(listed, os.R_OK | os.X_OK):
            found.append(sources.signature(listed))
        for path in paths:
            text = sources.read_text(path)
            if not text:
                found.append(sources.signature(path))
                continue
            lines = [line for line in CONTINUED.sub(" ", text).splitlines() if concerns(listed, line, users, groups)]
            if listed == "/etc/passwd":
                groups.update(line.split(":")[3] for line in lines if line.count(":") > 3)
            found += [sources.permissions(path)] + lines if lines else []
    return found


def concerns(path, line, users, groups=()):
    """Whether a line of *path* may be about one of *users*, or the primary group of one: *groups* are their numbers."""
    if path in sources.ACCOUNT_FILES:
        fields = line.split(":")
        if path == "/etc/group" and fields[2:3] and fields[2] in groups:
            return True
        return bool(set([fields[0]] if path != "/etc/group" else fields[-1].split(",")) & set(users))
    words = line.split()
    if not words:
        return False
    name = words[0]
    if path.startswith("/etc/doas"):
        name = (DOAS_OPTIONS.sub("", line).split() or ["#"])[0]
    elif name.startswith("Defaults:"):
        name = name[len("Defaults:") :]
    if words[1:2] and words[1].startswith(","):  # a list of users, with a space before the comma
        return True
    return not NAME.match(name) or name in users
