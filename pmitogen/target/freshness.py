"""Files and variables that a login, sudo, su, doas, shell, C library, OpenSSL and Python read when they start.

A running interpreter has read them once. ``TABLE`` says for each of them how a later change takes effect:

========  =================================================================================================================
CHILD     Each child reads it itself. Nothing is watched.
START     It is a variable that is read only when an interpreter starts. A task that sets it gets a new interpreter.
PYTHON    The runner watches it. A new interpreter replaces the runner.
ENTRY     The runner of an entered account watches it. The hub runs sudo, su or doas again.
SESSION   The agent watches it. The hub opens a new session on the same connection, as ssh does for each task.
CONNECT   The agent watches it. The hub logs in again once ssh would: ssh keeps a connection for a while (ControlPersist).
========  =================================================================================================================

The third column holds paths (``~`` is the account's home), a function that returns paths (see sources.py), or names of variables
(a trailing ``*`` matches any end). The comment of each row names its test: a task of a play in
``tests/ansible/differential/plays``, or a test function.

Watched files are checked with stat(2) before each request. If one has changed, the request is refused, and the hub resends it to
a new interpreter, account or session (see ``pmitogen/hub/host/stale_interpreters.py``). Running requests are not affected. Each
check of a file takes 1 to 3 microseconds, so files beyond ``MAX_CHECKED`` are checked less often (``FULL_CHECK_PAUSE``).
"""

import os
import time

from pmitogen.protocol.framing import to_wire
from pmitogen.target import rules, sources

MYPY = False
if MYPY:
    from typing import Callable, Dict, Iterable, List, Optional, Tuple, Union  # noqa: F401
    from pmitogen.target.types import Header, StartInfo  # noqa: F401

CHILD, START, PYTHON, ENTRY, SESSION, CONNECT = "child", "start", "python", "entry", "session", "connect"

TABLE = (  # type: Tuple[Tuple[str, str, Union[Tuple[str, ...], Callable[[StartInfo], List[str]]]], ...]
    # name, how a change takes effect, paths or variables
    ("time zone", CHILD, ("TZ", "TZDIR", "/etc/localtime")),  # fresh.yml: time zone
    ("resolver", CHILD, ("RES_OPTIONS", "LOCALDOMAIN", "/etc/resolv.conf", "/etc/hosts")),  # fresh_login.yml: resolver
    ("certificates", CHILD, ("SSL_CERT_FILE", "SSL_CERT_DIR")),  # fresh_login.yml: certificates
    ("host name", CHILD, ()),  # test_system_changes.py: test_a_changed_host_name_is_seen_by_the_next_task
    ("linker and malloc variables", START, ("LD_*", "GLIBC_TUNABLES", "MALLOC_*")),  # fresh_login.yml: variables
    ("locale variables", START, ("LANG*", "LC_*", "LOCPATH", "GCONV_PATH")),  # fresh_login.yml: variables
    ("OpenSSL variables", START, ("OPENSSL_*",)),  # fresh_login.yml: variables
    ("Python variables", START, ("PYTHON*", "HOME")),  # fresh_login.yml: variables
    ("interpreter", PYTHON, sources.interpreter),  # fresh_login.yml: interpreter, interpreter on the path
    ("site directories", PYTHON, sources.site_directories),  # fresh_login.yml: user site, path configuration file
    ("imported modules", PYTHON, sources.imported_modules),  # fresh_become.yml: changed module
    ("dynamic linker", PYTHON, ("/etc/ld.so.cache", "/etc/ld.so.preload")),  # test_freshness.py: test_library_files_are_watched
    ("locales", PYTHON, sources.locale_files),  # test_freshness.py: test_library_files_are_watched
    ("OpenSSL", PYTHON, sources.openssl_files),  # test_freshness.py: test_library_files_are_watched
    ("name service", PYTHON, sources.name_service_files),  # test_freshness.py: test_library_files_are_watched
    ("SELinux", PYTHON, sources.selinux_files),  # test_freshness.py: test_library_files_are_watched
    ("accounts and groups", ENTRY, sources.ACCOUNT_FILES),  # fresh_become.yml: group, home, locked
    ("sudo, su, doas and PAM", ENTRY, sources.entry_files),  # fresh_become.yml: limit, rule is removed
    ("profile", ENTRY, sources.profile_files),  # fresh_become.yml: profile
    ("home and shell", SESSION, sources.session_files),  # fresh_login.yml: start-up file, home moved away and made anew
    ("groups and limits of the login", CONNECT, sources.connection_files),  # test_system_changes.py: test_new_groups_need_a_login
)

MAX_CHECKED = 128  # paths of one watch that are checked before each request
FULL_CHECK_PAUSE = 50  # until the others are checked again, as a multiple of the time that their last check took
now = getattr(time, "monotonic", time.time)

STARTUP_VARIABLES = tuple(name for _, scope, names in TABLE if scope == START and isinstance(names, tuple) for name in names)
STARTUP_PREFIXES = tuple(name[:-1] for name in STARTUP_VARIABLES if name.endswith("*"))


def is_startup_variable(name):
    # type: (str) -> bool
    """Return True if a variable is read only when an interpreter starts."""
    return name in STARTUP_VARIABLES or name.startswith(STARTUP_PREFIXES)


def expand_paths(path):
    # type: (str) -> List[str]
    """Return the paths to watch for *path*: a directory and its files; if directories are missing, the topmost of these."""
    names = sources.list_directory(path) if path.endswith("/") else []
    paths = [path + name for name in names]
    path = path.rstrip("/")
    while not os.path.exists(path) and not os.path.exists(os.path.dirname(path)):
        path = os.path.dirname(path)
    return [path] + paths


class Watch(object):
    """Files of the rows of TABLE with the given *scope*, which are checked before each request.

    *start_info*: see sources.py. Its ``users`` are those whose lines count in the files of rules.py.
    """

    def __init__(self, scope, start_info):
        # type: (str, StartInfo) -> None
        self._users = start_info.get("users")  # type: Optional[List[str]]
        self._signatures = {}  # type: Dict[str, object]
        self._first, self._others = [], []  # type: List[str], List[str] # its keys, in the order in which they are checked
        self._others_due = 0.0  # when the others are checked again
        for _, row_scope, paths in TABLE:
            if row_scope == scope:
                self.add(paths if isinstance(paths, tuple) else paths(start_info))
        self._rules = [path for path in rules.FILES if path.rstrip("/") in self._signatures]
        self._lines = rules.lines_about(self._users, self._rules) if self._users else None  # type: Optional[List[rules.Line]]

    def add(self, paths):
        # type: (Iterable[str]) -> None
        """Watch further *paths*, from now on."""
        for path in paths:
            for part in expand_paths(path):
                if part not in self._signatures:
                    self._signatures[part] = sources.signature(part)
                    (self._first if len(self._first) < MAX_CHECKED else self._others).append(part)

    def changed(self):
        # type: () -> Optional[str]
        """Return a path that has changed, or None."""
        path = self._find_changed(self._first)
        if path is None and self._others:
            started = now()
            if started >= self._others_due:
                path = self._find_changed(self._others)
                self._others_due = now() + FULL_CHECK_PAUSE * (now() - started)
        return path

    def _find_changed(self, paths):
        # type: (List[str]) -> Optional[str]
        for path in paths:
            if sources.signature(path) != self._signatures[path] and not self._concerns_others(path):
                return path
        return None

    def _concerns_others(self, path):
        # type: (str) -> bool
        """Return True if the lines of *path* about the users are the same as before. Then its new state becomes the known one."""
        if self._lines is None or not path.startswith(rules.PREFIXES):
            return False
        if rules.lines_about(self._users or (), self._rules) != self._lines:
            return False
        for path in [path for path in self._signatures if path.startswith(rules.PREFIXES)]:
            self._signatures[path] = sources.signature(path)
            if path + "/" in rules.FILES:
                self.add([path + "/"])
        return True


class FreshnessGuard(object):
    """Refuses a runner's requests once a new interpreter would differ from it. *user*: its account."""

    def __init__(self, user):
        # type: (str) -> None
        self._user = user
        self._watches = []  # type: List[Watch]
        self._reason = None  # type: Optional[List[str]] # [what to replace, the path that has changed], if requests are refused
        self._refused = {}  # type: Dict[Optional[int], int] # chain -> number of its requests with ``no_reply`` that were refused

    def start(self, executable):
        # type: (str) -> None
        """Watch the files that this interpreter, started as *executable*, has read."""
        self._watches.append(Watch(PYTHON, {"python": executable}))

    def watch_imports(self):
        # type: () -> None
        """Watch the files and directories of imported modules too."""
        self._watches[0].add(sources.imported_modules({}))

    def on_entered(self, start_info):
        # type: (StartInfo) -> None
        """Note that the account was entered as in *start_info*, or that the interpreter was requested by another name."""
        self._watches[0].add(sources.interpreter(start_info))
        if "programs" in start_info:
            self._watches.append(Watch(ENTRY, dict(start_info, users=start_info["users"] + [self._user])))

    def refusal(self, header):
        # type: (Header) -> Optional[Header]
        """Return the answer if the request is refused, {} if it is refused without an answer, None if it is accepted."""
        chain = header.get("chain")
        if header.get("action") == "remove" or not (
            chain in self._refused if header.get("even_if_stale") else self._is_over(header)
        ):
            return None
        if header.get("no_reply"):
            self._refused[chain] = self._refused.get(chain, 0) + 1
            return {}
        reason, path = self._reason or ["", ""]
        refused = self._refused.pop(chain, 0)
        return {"op": "error", "id": header["id"], "kind": "stale", "reason": reason, "msg": path, "refused_count": refused}

    def _is_over(self, header):
        # type: (Header) -> bool
        if self._reason is None and "stale" in header:
            self._reason = header["stale"]
        for watch in self._watches if self._reason is None else ():
            path = watch.changed()
            if path is not None:
                self._reason = ["account", to_wire(path)]
                break
        return self._reason is not None


class LoginSession(object):
    """The login session, in the agent. Marks requests once a new session would differ. *user*: the login account."""

    def __init__(self, user):
        # type: (str) -> None
        self._user = user
        self._session = Watch(SESSION, {})
        self._connection = None  # type: Optional[Watch]
        self._accounts = sources.signature("/etc/passwd")  # type: object

    def watch_connection(self):
        # type: () -> None
        """Watch the files of SSH logins. Takes a millisecond, so it is called after the start, but before a task has ended."""
        self._connection = Watch(CONNECT, {"users": [self._user]})

    def mark_stale(self, header):
        # type: (Header) -> None
        """Set ``stale`` in a request to the scope that must be replaced. With ``reconnect`` in it, check the connection too."""
        reason, path = SESSION, self._session.changed()
        if path is None and header.pop("reconnect", False) and self._connection is not None:
            reason, path = CONNECT, self._connection.changed()
        if path is not None:
            header["stale"] = [reason, to_wire(path)]

    def accounts_changed(self):
        # type: () -> bool
        """Return True if /etc/passwd has changed since the last call: known home directories may be wrong."""
        before, self._accounts = self._accounts, sources.signature("/etc/passwd")
        return before != self._accounts
