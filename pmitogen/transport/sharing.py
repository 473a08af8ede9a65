"""When two callers may use the same connection.

ssh shares a connection by the name of a socket (ControlPath), which usually stands for host, port and user: whoever finds the
socket uses the connection, whatever its own keys, agent or ProxyCommand are. Here two callers share one only where either would
have made the very same connection: equal options after resolution, with the agent's socket, the files of keys and of known hosts,
the variables that are sent, and the secrets. What is left out says how long to try, whom to ask, and where to log to.

A ProxyCommand depends on its whole environment and directory, so these count as well where there is one, except for variables
that differ from terminal to terminal and mean nothing to a program without one.
"""

from __future__ import annotations

from collections.abc import Hashable

from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.auth.credentials import Credentials
from pmitogen.transport.session_env import variables
from pmitogen.util.caller import CallerEnvironment

# Of a terminal, a login session or a shell.
_OF_SESSION = frozenset(
    "_ SHLVL PWD OLDPWD COLUMNS LINES TERM COLORTERM TERM_PROGRAM TERM_PROGRAM_VERSION TERM_SESSION_ID WINDOWID WINDOW STY TMUX "
    "TMUX_PANE VTE_VERSION KONSOLE_VERSION SSH_TTY SSH_CLIENT SSH_CONNECTION GPG_TTY XDG_SESSION_ID INVOCATION_ID "
    "JOURNAL_STREAM SYSTEMD_EXEC_PID SUDO_COMMAND".split()
)


def identity(settings: Settings, credentials: Credentials) -> Hashable:
    """Return a value that is equal for callers who may share a connection. It may hold secrets: keep it in memory only."""
    entries = tuple((entry.user, entry.host, entry.port, entry.credentials.identity()) for entry in credentials.jump_entries)
    return endpoint(settings), credentials.identity(), entries


def endpoint(settings: Settings) -> Hashable:
    """Return the part of it that is not about secrets: where it leads, as whom, and by which means."""
    caller = settings.caller or CallerEnvironment.current()
    same = settings._replace(
        originalhost="",
        connecttimeout=None,
        connectionattempts=1,
        numberofpasswordprompts=1,
        batchmode=False,
        controlpersist=bool(settings.controlpersist),
        loglevel="INFO",
        logfile=None,
        sendenv=(),
        setenv=tuple(variables(settings)),
        caller=None,
        report=(),
    )
    return same, _world(settings, caller)


def _world(settings: Settings, caller: CallerEnvironment) -> Hashable:
    """What a ProxyCommand depends on; None without one. A hop taken from one may name files of any kind."""
    if settings.proxycommand is None and all(_is_plain(hop.argv) for hop in settings.proxyjump):
        return None
    environ = frozenset(item for item in caller.environ.items() if item[0] not in _OF_SESSION)
    return caller.directory, caller.umask, environ


def _is_plain(argv: tuple[str, ...]) -> bool:
    """Whether these flags of a jump host are those of a ProxyJump: ``-F`` with an absolute path, and ``-v``."""
    words = [word for word in argv if word != "-v"]
    return not words or (len(words) == 2 and words[0] == "-F")
