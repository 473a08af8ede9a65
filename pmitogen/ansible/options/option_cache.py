"""What the options are worth where no variable or keyword of a task says otherwise: asked once, not anew for every task.

Most options of a connection, and of its shell, are set by nobody, or for the whole run: by the command line, the environment or
ansible.cfg. The process that workers are forked from asks Ansible for these; a worker then asks for those only that its task's
variables and keywords name, which are few. Each value comes from Ansible's own configuration manager, either way.

A worker asks for all of them, as it would without this, if what they were found in has changed since (somebody's plugin may
set a variable of the environment), and where the manager had something to say of one, an error or a warning, so that it is said
where it belongs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible import constants, context

OptionSource = Mapping[str, Any] | None
Options = tuple[dict[str, Any], dict[str, Any]]  # values and origins, by option


class OptionCache:
    """The options of the plugin that Ansible knows as *name*; *kind* is "connection" or "shell".

    Raises what the configuration manager raises.
    """

    def __init__(self, kind: str, name: str) -> None:
        self.kind, self.name = kind, name
        self._definitions = constants.config.get_configuration_definitions(kind, name)
        self._environment = [entry["name"] for option in self._definitions.values() for entry in option.get("env", ())]
        self._by_variable = _index(self._definitions, "vars")
        self._by_keyword = _index(self._definitions, "keyword")
        for option, definition in self._definitions.items():  # any keyword sets the option of its name
            for word in (option, *definition.get("aliases", ())):
                self._by_keyword.setdefault(word, set()).add(option)
        self._config, self._arguments = constants.config, context.CLIARGS
        self._setting = self._read_environment()
        self._values: dict[str, Any] = {}
        self._origins: dict[str, Any] = {}
        for option in self._definitions:
            self._values[option], self._origins[option] = self._lookup(option)

    def _read_environment(self) -> list[str | None]:
        return [os.environ.get(name) for name in self._environment]

    def _lookup(self, option: str, **sources: OptionSource) -> tuple[Any, Any]:
        cache: tuple[Any, Any] = constants.config.get_config_value_and_origin(
            option, plugin_type=self.kind, plugin_name=self.name, **sources
        )
        return cache

    def is_valid(self) -> bool:
        """Whether everything is as it was found."""
        return (
            constants.config is self._config
            and constants.config.get_configuration_definitions(self.kind, self.name) is self._definitions
            and context.CLIARGS is self._arguments
            and self._read_environment() == self._setting
        )

    def options(self, keys: OptionSource, variables: OptionSource, direct: OptionSource) -> Options:
        """All options of a task with these keywords and variables, and these words of whoever made the plugin."""
        values, origins = dict(self._values), dict(self._origins)
        named: set[str] = set()
        for given, index in ((variables, self._by_variable), (keys, self._by_keyword), (direct, self._by_keyword)):
            for word in given or ():
                if word in index:
                    named |= index[word]
        for option in named:
            values[option], origins[option] = self._lookup(option, keys=keys, variables=variables, direct=direct)
        return values, origins


def _index(definitions: Mapping[str, Any], source: str) -> dict[str, set[str]]:
    """Which options each word of this *source* sets."""
    cache: dict[str, set[str]] = {}
    for option, definition in definitions.items():
        for entry in definition.get(source, ()):
            cache.setdefault(entry["name"], set()).add(option)
    return cache


_caches: dict[tuple[str, str], OptionCache] = {}


def prime(kind: str, name: str) -> None:
    """Ask for the options of the plugin *name*, for the workers that are forked from this process."""
    before = _pending_warnings()
    cache = OptionCache(kind, name)
    if _pending_warnings() == before:
        _caches[kind, name] = cache


def _pending_warnings() -> list[list[Any]]:
    """What the configuration manager is going to say to the user."""
    return [list(getattr(constants.config, kind, ())) for kind in ("WARNINGS", "DEPRECATED", "_errors")]


def cached_options(kind: str, name: str, keys: OptionSource, variables: OptionSource, direct: OptionSource) -> Options | None:
    """The options of the plugin *name* for one task, or None where Ansible has to be asked for each."""
    cache = _caches.get((kind, name))
    return cache.options(keys, variables, direct) if cache is not None and cache.is_valid() else None
