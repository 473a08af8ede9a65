"""Every error that pmitogen raises on purpose.

::

    Error
    ├── UsageError            an invalid option, argument or file; .origin says where (nothing was attempted)
    ├── ConnectError          no usable connection; .stage says how far it came
    │   └── AuthenticationError   the server refused every credential; a retry would only lock the account
    ├── ConnectionLost        a connection that worked has ended
    ├── BecomeError           sudo, su or doas failed; .kind has the reason
    ├── RemoteError           something on the target failed: a file operation, an interpreter
    ├── TimeoutExpired        a call took longer than its timeout; a TimeoutError as well
    └── HubError              the hub process is gone, unreachable or of another version

A message is one line, ``place: option: problem; remedy``; it never contains a secret. Control and invisible characters of a
peer's text in it are escaped. Exceptions of Paramiko and the operating system are converted where they occur.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pmitogen.util.peer_text import one_line

if TYPE_CHECKING:
    from pmitogen.api.results import Completed

ConnectStage = Literal["local", "resolve", "tcp", "proxy", "kex", "hostkey", "auth", "exec", "python"]
BecomeKind = Literal[
    "password-missing",
    "password-wrong",
    "not-permitted",
    "unknown-user",
    "not-installed",
    "tty",
    "shell",
    "account",
    "python",
    "timeout",
    "state",
    "other",
]


class Error(Exception):
    """Base class of all errors that pmitogen raises on purpose."""

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))

    @property
    def message(self) -> str:
        """The one line for the user."""
        return str(self.args[0]) or type(self).__name__

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with the attributes, because the constructors of the subclasses have other parameters."""
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[Error], args: tuple[Any, ...], attributes: dict[str, Any]) -> Error:
    """Return the error that was pickled."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


class UsageError(Error):
    """An option or argument that cannot be honoured. Nothing was attempted.

    *problem*: the mistake, and the remedy.
    *origin*: where it was given ("command line", "ssh_args", a file and its line); the message begins with it. Empty if unknown.
    """

    def __init__(self, problem: str, origin: str = "") -> None:
        super().__init__(f"{origin}: {problem}" if origin else problem)
        self.problem = problem
        self.origin = origin


class ConnectError(Error):
    """The connection could not be established, or is not usable.

    *stage*: the step that failed.

    - ``local``: a problem of this machine: no thread or descriptor is left, a log file or a port to listen on cannot be opened,
      RefuseConnection, an internal error, or the hub is ending.
    - ``resolve``: the host name has no address.
    - ``tcp``: no TCP connection.
    - ``proxy``: a jump host, or ProxyCommand.
    - ``kex``: the key exchange, or no algorithm in common.
    - ``hostkey``: the host key is unknown, changed or revoked.
    - ``auth``: authentication. If the server refused all credentials, the error is an AuthenticationError.
    - ``exec``: after the login, the server refused a session, a command or a forwarding, or did not answer.
    - ``python``: the host has no usable Python, or it did not start.

    *jump_host*: the jump host that failed, as ``user@host port N``, and *stage* is a stage of its login; empty: none failed.
    """

    def __init__(self, message: str, stage: ConnectStage) -> None:
        super().__init__(message)
        self.stage: ConnectStage = stage
        self.jump_host = ""


class AuthenticationError(ConnectError):
    """The server refused all available credentials.

    *allowed_methods*: the authentication methods that the server named at the end; empty where it named none.
    """

    def __init__(self, message: str, allowed_methods: tuple[str, ...] = ()) -> None:
        super().__init__(message, "auth")
        self.allowed_methods = allowed_methods


class ConnectionLost(Error):
    """An established connection has ended: the peer closed it or stopped answering, or the hub was closed."""


class BecomeError(Error):
    """Privilege escalation failed.

    *kind* is one of ``password-missing``, ``password-wrong``, ``not-permitted``, ``unknown-user``, ``not-installed``, ``tty``,
    ``shell``, ``account``, ``python``, ``timeout``, ``state``, ``other``. With ``state``, the login account's interpreter has
    lowered its limits, and the become plugin can wrap the command instead; only plays get it.
    """

    def __init__(self, message: str, kind: BecomeKind) -> None:
        super().__init__(message)
        self.kind: BecomeKind = kind


class RemoteError(Error):
    """Something on the target failed.

    *text*: the target's own text, such as a remote traceback, or a command's output on stderr. It may contain control characters;
    do not print it to a terminal as it is.
    *result*: the result of a command that was run with ``check=True`` and failed; None for all other errors.
    *code*: the name of the operating system's error, such as ``ENOENT``; empty if unknown. With a code, the library's file
    operations raise a subclass that is an OSError as well (FileNotFoundError, PermissionError ...).
    """

    def __init__(self, message: str, text: str = "", result: Completed[Any] | None = None, code: str = "") -> None:
        super().__init__(message)
        self.text = text
        self.result = result
        self.code = code


class TimeoutExpired(Error, TimeoutError):
    """A call of the library took longer than its *timeout*, and its process on the host was ended. It is a TimeoutError as well.

    *stdout*, *stderr*: a command's output so far, of the type that the call would have returned; None for calls without output.
    """

    def __init__(self, message: str, stdout: bytes | str | None = None, stderr: bytes | str | None = None) -> None:
        super().__init__(message)
        self.stdout = stdout
        self.stderr = stderr


class HubError(Error):
    """The hub process is gone, cannot be reached, or is of another version."""
