"""Decide whether two callers may use the same connection.

ssh shares a connection by the name of a socket (ControlPath), which usually contains host, port and user. Any process that
finds the socket uses the connection, regardless of its own keys, agent or ProxyCommand. Here two callers share a connection only
if each would have made the same one: equal options after resolution, including the agent's socket, key files, known hosts files,
variables to send, and secrets. Options for time limits, prompts and logging do not count.

A ProxyCommand or KnownHostsCommand depends on its whole environment and directory, and so do the options of a jump host, which
are resolved later (``${VAR}``, its agent, Match exec). So environment, directory and umask count as well where there is one of
them, except for variables that differ from terminal to terminal and mean nothing to a program without one. With GSSAPI, the
variables of its libraries count: they choose the tickets.

Three forms: :func:`connection_key` is compared within a process and has no secrets, :func:`digest` adds the secrets, and
:func:`fingerprint` is a text that processes compare.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Hashable

from pmitogen.flags.ssh.settings import Settings
from pmitogen.transport.auth.credentials import Credentials, Secret
from pmitogen.transport.session_env import variables
from pmitogen.util.caller import CallerEnvironment

_KEY = os.urandom(32)

# Of a terminal, a login session or a shell.
_SESSION_VARIABLES = frozenset(
    "_ SHLVL PWD OLDPWD COLUMNS LINES TERM COLORTERM TERM_PROGRAM TERM_PROGRAM_VERSION TERM_SESSION_ID WINDOWID WINDOW STY TMUX "
    "TMUX_PANE VTE_VERSION KONSOLE_VERSION SSH_TTY SSH_CLIENT SSH_CONNECTION GPG_TTY XDG_SESSION_ID INVOCATION_ID "
    "JOURNAL_STREAM SYSTEMD_EXEC_PID SUDO_COMMAND".split()
)

_GSSAPI_PREFIXES = ("KRB5", "GSS")


def digest(settings: Settings, credentials: Credentials, extra: str = "") -> bytes:
    """Return a digest that is equal, within this process, for callers who may share a connection. It reveals no secret.

    *extra*: further data that has to be equal.
    """
    entries = [(entry.user, entry.host, entry.port, entry.credentials.identity()) for entry in credentials.jump_entries]
    text = repr(_comparable([connection_key(settings), credentials.identity(), entries, extra]))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=_KEY, digest_size=32).digest()


def fingerprint(settings: Settings, of_hubs: bool = False) -> str:
    """Return a text that is equal, in any process, for settings that make the same connection with the same keys and files.

    Whether the connection is shared, and for how long, does not count. *of_hubs*: nor do the options that Ansible adds, which are
    compression and no password methods, if keys or tickets may be used. The settings hold no secrets.
    """
    same = settings._replace(controlmaster=True, controlpersist=0, exitonforwardfailure=None)
    if of_hubs:
        methods = tuple(method for method in same.preferredauthentications if _is_of_ansible(method, same))
        methods = methods or same.preferredauthentications
        same = same._replace(compression=False, controlpath=None, preferredauthentications=methods)
        same = same._replace(passwordauthentication=True, kbdinteractiveauthentication=True)
    return repr(_comparable([connection_key(same)]))


def _is_of_ansible(method: str, settings: Settings) -> bool:
    """Return whether *method* is one that Ansible's PreferredAuthentications has as well and that may be used."""
    return method == "publickey" or (method == "gssapi-with-mic" and settings.gssapiauthentication)


def _comparable(value: object) -> object:
    """Return *value* in a form in which equal values have equal texts, including secrets."""
    if isinstance(value, Secret):
        return "secret", value.reveal()
    if isinstance(value, (list, tuple)):
        return [_comparable(item) for item in value]
    if isinstance(value, frozenset):
        return sorted(map(repr, map(_comparable, value)))
    return value


def connection_key(settings: Settings) -> Hashable:
    """Return the part of the digest without secrets: the server, the user and the way to connect."""
    caller = settings.caller or CallerEnvironment.current()
    shared = settings._replace(
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
    return shared, _caller_state(settings, caller)


def _caller_state(settings: Settings, caller: CallerEnvironment) -> Hashable:
    """Return the caller's state that a program, a jump host or GSSAPI depends on; None without any."""
    if settings.proxycommand is not None or settings.proxyjump or settings.knownhostscommand is not None:
        environ = frozenset(item for item in caller.environ.items() if item[0] not in _SESSION_VARIABLES)
        return caller.directory, caller.umask, environ
    if settings.gssapiauthentication:
        return frozenset(item for item in caller.environ.items() if item[0].startswith(_GSSAPI_PREFIXES))
    return None
