"""Cache of option values: those that no variable or keyword of a task sets are looked up once, not for every task.

Most options of a connection and of its shell have their default, or are set for the whole run by the command line, the
environment or ansible.cfg. The process that forks the workers looks these up. A worker then looks up only the few options that
its task's variables and keywords set. Every value comes from Ansible's own configuration manager.

A worker looks up all options, as without the cache, in two cases: if a source of the values has changed since (another plugin
may set an environment variable), or if the manager reported an error or a warning for an option, which the user should see with
the task.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ansible import constants, context

OptionSource = Mapping[str, Any] | None
Options = tuple[dict[str, Any], dict[str, Any]]  # values and origins, by option


class OptionCache:
    """Cached options of one plugin. *name*: the plugin's name in Ansible. *kind*: "connection" or "shell".

    Raises what the configuration manager raises.
    """

    def __init__(self, kind: str, name: str) -> None:
        self.kind, self.name = kind, name
        self._definitions = constants.config.get_configuration_definitions(kind, name)
        self._environment = [entry["name"] for option in self._definitions.values() for entry in option.get("env", ())]
        self._by_variable = _index(self._definitions, "vars")
        self._by_keyword = _index(self._definitions, "keyword")
        for option, definition in self._definitions.items():  # a keyword sets the option with its name
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
        """Return True if no source of the values has changed."""
        return (
            constants.config is self._config
            and constants.config.get_configuration_definitions(self.kind, self.name) is self._definitions
            and context.CLIARGS is self._arguments
            and self._read_environment() == self._setting
        )

    def options(self, keys: OptionSource, variables: OptionSource, direct: OptionSource) -> Options:
        """Return all options of a task with these keywords, variables and options passed directly to ``set_options``."""
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
    """Return, for each name in this *source*, the options that it sets."""
    cache: dict[str, set[str]] = {}
    for option, definition in definitions.items():
        for entry in definition.get(source, ()):
            cache.setdefault(entry["name"], set()).add(option)
    return cache


_caches: dict[tuple[str, str], OptionCache] = {}


def prime(kind: str, name: str) -> None:
    """Look up the options of the plugin *name* for the workers that this process forks."""
    before = _pending_warnings()
    cache = OptionCache(kind, name)
    if _pending_warnings() == before:
        _caches[kind, name] = cache


def _pending_warnings() -> list[list[Any]]:
    """Return the warnings that the configuration manager has yet to show to the user."""
    return [list(getattr(constants.config, kind, ())) for kind in ("WARNINGS", "DEPRECATED", "_errors")]


def cached_options(kind: str, name: str, keys: OptionSource, variables: OptionSource, direct: OptionSource) -> Options | None:
    """Return the options of the plugin *name* for one task, or None if Ansible has to look up each."""
    cache = _caches.get((kind, name))
    return cache.options(keys, variables, direct) if cache is not None and cache.is_valid() else None
