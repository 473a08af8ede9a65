"""Environment variables that are sent with a command: those of SendEnv from the caller's environment, and those of SetEnv.

A name set by SetEnv wins, as it does in ssh. The server takes those that its AcceptEnv allows, and says nothing about others
(RFC 4254 section 6.4), so no answer is asked for. Names are compared with case, unlike host names.
"""

from __future__ import annotations

from pmitogen.flags.ssh.settings import Settings
from pmitogen.util.caller import CallerEnvironment
from pmitogen.util.patterns import match_pattern


def variables(settings: Settings) -> list[tuple[str, str]]:
    """Return the names and values to send, in a stable order."""
    environ = (settings.caller or CallerEnvironment.current()).environ
    wanted: list[str] = []
    for pattern in settings.sendenv:
        if pattern.startswith("-"):
            wanted = [other for other in wanted if not match_pattern(other, pattern[1:])]
        else:
            wanted.append(pattern)
    sent = {name: value for name, value in sorted(environ.items()) if any(match_pattern(name, pattern) for pattern in wanted)}
    sent.update(settings.setenv)
    return list(sent.items())
