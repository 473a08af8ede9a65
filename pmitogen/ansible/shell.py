"""The shell object: a subclass of Ansible's shell plugin that records the operation behind each command text.

Ansible asks its shell plugin for the text of a command (make a temporary directory, change a mode, start a module) and
hands that text to ``exec_command``. The subclass here records, for each text that it returns, the operation that was requested.
The connection looks the text up. It carries out a recorded operation without a shell, and runs any other text as a command. The
texts remain valid commands, so they can also run in a shell.

In a become task everything runs in the account that the task becomes, so no files are shared between accounts, and giving
another user access (``setfacl``, ``chown``) needs no action.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ansible.plugins.shell import ShellBase

U_RWX = 0o700
_SHELL_METACHARACTERS = frozenset("`*?[]()<>|&;\\'\" \t\n#!")  # in a directory's name, only a shell can expand these
_MODE_BITS = {"u+x": 0o100, "u+rwx": U_RWX}


class ShellOperation:
    """The operation behind a text: one of the classes below. No dataclasses, because this file is imported for every task."""

    __slots__ = ()


class MakeTemp(ShellOperation):
    """Make a directory *name* in *base* that only this account can access. No base: the account's own temporary directory."""

    __slots__ = ("base", "name")

    def __init__(self, name: str, base: str | None) -> None:
        self.name, self.base = name, base


class AddMode(ShellOperation):
    """Add permission bits to paths."""

    __slots__ = ("bits", "paths")

    def __init__(self, paths: tuple[str, ...], bits: int) -> None:
        self.paths, self.bits = paths, bits


class PathOperation(ShellOperation):
    """An operation on one path."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path


class Remove(PathOperation):
    """Remove a tree."""

    __slots__ = ()


class Home(PathOperation):
    """Return a user's home directory."""

    __slots__ = ()


class Exists(PathOperation):
    """Test whether a path exists."""

    __slots__ = ()


class NoOperation(ShellOperation):
    """No action is needed."""

    __slots__ = ()


class Module(ShellOperation):
    """Start a module: with *command* empty, the payload comes on stdin."""

    __slots__ = ("arguments", "command", "env", "interpreter")

    def __init__(self, interpreter: str, env: tuple[tuple[str, str], ...], command: str, arguments: str | None) -> None:
        self.interpreter, self.env, self.command, self.arguments = interpreter, env, command, arguments


class RecordingShellMixin:
    """Mixin for the class of the shell plugin that Ansible loaded. Records operations by the text of their command."""

    operations: dict[str, ShellOperation]
    environments: dict[str, tuple[tuple[str, str], ...]]

    @staticmethod
    def is_becoming() -> bool:
        """Return True in a become task whose account the hub enters. The connection replaces this function on its instance."""
        return False

    def env_prefix(self, **kwargs: object) -> str:
        text: str = super().env_prefix(**kwargs)  # type: ignore[misc]
        self.environments[text] = tuple((str(name), str(value)) for name, value in kwargs.items())
        return text

    def mkdtemp(self, basefile: str | None = None, system: bool = False, mode: int = U_RWX, tmpdir: str | None = None) -> str:
        if not basefile:
            basefile = self._generate_temp_dir_name()  # type: ignore[attr-defined]
        text: str = super().mkdtemp(basefile=basefile, system=system, mode=mode, tmpdir=tmpdir)  # type: ignore[misc]
        if mode == U_RWX and (self.is_becoming() or not system and not _SHELL_METACHARACTERS.intersection(tmpdir or "")):
            self.operations[text] = MakeTemp(basefile, None if self.is_becoming() else tmpdir)
        return text

    def chmod(self, paths: Iterable[str], mode: str) -> str:
        paths = list(paths)
        text: str = super().chmod(paths, mode)  # type: ignore[misc]
        if mode in _MODE_BITS:
            self.operations[text] = AddMode(tuple(paths), _MODE_BITS[mode])
        return text

    def set_user_facl(self, paths: Iterable[str], user: str, mode: str) -> str:
        paths = list(paths)
        text: str = super().set_user_facl(paths, user, mode)  # type: ignore[misc]
        if self.is_becoming():
            self.operations[text] = AddMode(tuple(paths), U_RWX) if "x" in mode else NoOperation()
        return text

    def remove(self, path: str, recurse: bool = False) -> str:
        text: str = super().remove(path, recurse)  # type: ignore[misc]
        if recurse:
            self.operations[text] = Remove(path)
        return text

    def exists(self, path: str) -> str:
        text: str = super().exists(path)  # type: ignore[misc]
        self.operations[text] = Exists(path)
        return text

    def expand_user(self, user_home_path: str, username: str = "") -> str:
        text: str = super().expand_user(user_home_path, username)  # type: ignore[misc]
        if user_home_path.startswith("~") and "/" not in user_home_path:
            self.operations[text] = Home(user_home_path + username if user_home_path == "~" else user_home_path)
        return text

    def build_module_command(self, env_string: str, shebang: str | None, cmd: str, arg_path: str | None = None) -> str:
        text: str = super().build_module_command(env_string, shebang, cmd, arg_path)  # type: ignore[misc]
        env = self.environments.get(env_string, () if not env_string.strip() else None)
        if env is not None:
            self.operations[text.strip()] = Module((shebang or "").removeprefix("#!").strip(), env, cmd.strip(), arg_path)
        return text

    def append_command(self, cmd: str, cmd_to_append: str) -> str:
        text: str = super().append_command(cmd, cmd_to_append)  # type: ignore[misc]
        if (
            cmd_to_append == "sleep 0" and cmd in self.operations
        ):  # ansible-core up to 2.19 ends each command like this, because of terminals
            self.operations[text] = self.operations[cmd]
        return text


@functools.cache
def recording_class(shell: type) -> type:
    """Return a subclass of the class *shell* that records operations."""
    return type(shell.__name__, (RecordingShellMixin, shell), {"__module__": shell.__module__})


def record(shell: ShellBase) -> ShellBase:
    """Return a shell that behaves like *shell* and records operations."""
    kind: type = type(shell)
    new: Any = object.__new__(recording_class(kind))
    new.__dict__.update(shell.__dict__)
    new.operations, new.environments = {}, {}
    return new
