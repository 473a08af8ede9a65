"""The variables of a task's host that the connection plugin uses besides its options.

ansible-core 2.17 and later give a connection the variables before its options; 2.16 asks it to add to them, after its options.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ansible import constants
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

from pmitogen.ansible.options import unread_variables

if TYPE_CHECKING:
    from ansible.template import Templar

display = Display()

_LEGACY = not hasattr(ConnectionBase, "_resolve_option_variables")
# An interpreter's path: not a template, and not one of the "auto" settings with which Ansible searches.
_INTERPRETER_PATTERN = re.compile(r"(?!auto)[\w./+-]+")


class TaskVariables(ConnectionBase):
    """Ansible's base class of connections, with the interpreter of the task's host. Warns of variables that are not read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._interpreter: object = None  # which the task's host names
        self._unread: dict[str, object] = {}
        self._delegate: object = None  # the host that the task is delegated to

    def set_options(
        self,
        task_keys: Mapping[str, Any] | None = None,
        var_options: Mapping[str, Any] | None = None,
        direct: Mapping[str, Any] | None = None,
    ) -> None:
        """Store the options."""
        super().set_options(task_keys, var_options, direct)
        self._delegate = (task_keys or {}).get("delegate_to")
        if not _LEGACY:
            self._warn_of_unread()

    def _resolve_option_variables(self, variables: dict[str, Any], templar: Templar) -> object:
        """Store the variables of the task's host. ansible-core 2.17 and later call this before they set the options."""
        self._take_variables(variables)
        return super()._resolve_option_variables(variables, templar)

    def update_vars(self, variables: dict[str, Any]) -> None:
        """Store the task's variables and add the options to them. ansible-core 2.16 sets the options before it calls this."""
        if _LEGACY:
            delegated = variables.get("ansible_delegated_vars") or {}
            self._take_variables(delegated.get(self._delegate, {}) if self._delegate else variables)
            self._warn_of_unread()
        super().update_vars(variables)

    def _take_variables(self, variables: Mapping[str, Any]) -> None:
        self._interpreter = variables.get("ansible_python_interpreter")
        self._unread = unread_variables.find(variables)

    def _warn_of_unread(self) -> None:
        for line in unread_variables.warnings(self._unread, self.get_option):
            display.warning(line)

    def _configured_interpreter(self) -> str | None:
        """Return the interpreter that the task's account will use, if it is set and not discovered."""
        named = self._interpreter or constants.config.get_config_value("INTERPRETER_PYTHON")
        return str(named) if isinstance(named, str) and _INTERPRETER_PATTERN.fullmatch(named) else None
