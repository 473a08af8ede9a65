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
DOAS_OPTIONS = re.compile(r"(?:permit|deny)\s+(?:(?:nopass|nolog|persist|keepenv|setenv\s*\{[^}]*\})\s+)*")


def lines_about(users, files):
    """The lines of *files* about *users*; of what cannot be read, what stat(2) tells."""
    found = []
    for listed in files:
        paths = [listed + name for name in sources.list_directory(listed)] if listed.endswith("/") else [listed]
        if listed.endswith("/") and not os.access(listed, os.R_OK | os.X_OK):
            found.append(sources.signature(listed))
        for path in paths:
            text = sources.read_text(path)
            found += [line for line in text.splitlines() if concerns(listed, line, users)] if text else [sources.signature(path)]
    return found


def concerns(path, line, users):
    """Whether a line of *path* may be about one of *users*."""
    if path in sources.ACCOUNT_FILES:
        fields = line.split(":")
        return bool(set([fields[0]] if path != "/etc/group" else fields[-1].split(",")) & set(users))
    words = line.split()
    if not words:
        return False
    name = words[0]
    if path.startswith("/etc/doas"):
        name = (DOAS_OPTIONS.sub("", line).split() or ["#"])[0]
    elif name.startswith("Defaults:"):
        name = name[len("Defaults:") :]
    return not NAME.match(name) or name in users
