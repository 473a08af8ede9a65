"""The shell object: Ansible's own, remembering what each text means.

Ansible asks its shell plugin for the text of a command (make a temporary directory, change a mode, start a module) and
hands that text to ``exec_command``. Ours is the very plugin that Ansible loaded, in a subclass that writes down, for each
text it gives out, what was asked. The connection looks the text up: what it finds it does without a shell; what it does not
find is a command like any other. So the texts stay valid for whoever runs them in a shell after all.

In a become task everything happens in the account that the task becomes, so there is nothing to share between accounts:
giving another user access (``setfacl``, ``chown``) is done already.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from ansible.plugins import AnsiblePlugin

from pmitogen.ansible.options.option_cache import OptionSource, cached_options

U_RWX = 0o700
_SHELL_METACHARACTERS = frozenset("`*?[]()<>|&;\\'\" \t\n#!")  # what only a shell can make of a folder's name
_MODE_BITS = {"u+x": 0o100, "u+rwx": U_RWX}


class ShellOperation:
    """What a text stands for: the kinds below. Plain classes, because this file is imported anew for every task."""

    __slots__ = ()


class MakeTemp(ShellOperation):
    """Make a directory *name* in *base* for this account alone; no base: the account's own temporary directory."""

    __slots__ = ("base", "name")

    def __init__(self, name: str, base: str | None) -> None:
        self.name, self.base = name, base


class AddMode(ShellOperation):
    """Add permission bits to paths."""

    __slots__ = ("bits", "paths")

    def __init__(self, paths: tuple[str, ...], bits: int) -> None:
        self.paths, self.bits = paths, bits


class PathOperation(ShellOperation):
    """Something about one path."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path


class Remove(PathOperation):
    """Remove a tree."""

    __slots__ = ()


class Home(PathOperation):
    """Tell where a user's home is."""

    __slots__ = ()


class Exists(PathOperation):
    """Tell whether a path is there."""

    __slots__ = ()


class NoOperation(ShellOperation):
    """Nothing is left to do."""

    __slots__ = ()


class Module(ShellOperation):
    """Start a module: with *command* empty, the payload comes on stdin."""

    __slots__ = ("arguments", "command", "env", "interpreter")

    def __init__(self, interpreter: str, env: tuple[tuple[str, str], ...], command: str, arguments: str | None) -> None:
        self.interpreter, self.env, self.command, self.arguments = interpreter, env, command, arguments


class RecordingShellMixin:
    """Mixed into the class of the shell plugin that Ansible loaded; see the head of this file."""

    operations: dict[str, Any]
    environments: dict[str, tuple[tuple[str, str], ...]]

    @staticmethod
    def is_becoming() -> bool:
        """Whether this is a become task whose account the hub enters; the connection lays its own answer over this one."""
        return False

    def env_prefix(self, **kwargs: Any) -> str:
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
        ):  # ansible-core up to 2.19 ends each command so, for terminals' sake
            self.operations[text] = self.operations[cmd]
        return text


class CachedOptionsMixin(AnsiblePlugin):
    """Mixed in behind that class: what it asks its own base for is known already, but for what the task says."""

    def set_options(self, task_keys: OptionSource = None, var_options: OptionSource = None, direct: OptionSource = None) -> None:
        found = cached_options("shell", self._load_name, task_keys, var_options, direct)
        if found is None:
            super().set_options(task_keys, var_options, direct)
        else:
            self._options, self._origins = found


@functools.cache
def recording_class(shell: type) -> type:
    """The class of a shell that is one of class *shell* in every respect, and remembers."""
    return type(shell.__name__, (RecordingShellMixin, shell, CachedOptionsMixin), {"__module__": shell.__module__})


def record(shell: Any) -> Any:
    """Return a shell that is *shell* in every respect, and remembers."""
    kind: Any = type(shell)
    new: Any = object.__new__(recording_class(kind))
    new.__dict__.update(shell.__dict__)
    new.operations, new.environments = {}, {}
    return new
