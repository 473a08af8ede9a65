"""Accounts that a request is about to remove or change.

userdel and usermod refuse while an account has a process, and an interpreter that waits for the account's next task is one.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from pmitogen.hub.requests import Request
from pmitogen.protocol.operations import Op

_MODULE = "ansible.modules.user"
_PROGRAMS = re.compile(rb"\b(?:userdel|usermod|deluser)\b")
_MAX_SEARCHED = 64 << 10  # bytes of a module's parameters


def affected_users(request: Request, known: Collection[str]) -> set[str]:
    """Return the users in *known* that a request names, if it is the user module or a command that starts one of the programs."""
    header = request.header
    if not known or header["op"] not in ("run", "exec"):
        return set()
    text = request.body[:_MAX_SEARCHED] if header["op"] == Op.RUN else " ".join(header["argv"]).encode("latin-1", "replace")
    if header.get("module") != _MODULE and not _PROGRAMS.search(text):
        return set()
    tokens = set(re.findall(rb"[^\s\"'=,;:|&()/\\]+", text))
    return {user for user in known if user.encode("latin-1", "replace") in tokens}
