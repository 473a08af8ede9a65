"""Tells Ansible's configuration manager the plugin's options, without parsing DOCUMENTATION.

Ansible's plugin loader parses the DOCUMENTATION of a plugin only where the manager does not know a plugin of that type and
name yet. The name is the one the plugin is loaded under: the file's for a plugin found on a search path (whether it was asked
for as ``pmitogen`` or ``ansible.legacy.pmitogen``), the module's for one in a collection. Where this guess is wrong, or the
plugin is loaded under a name of the user's, the loader finds nothing registered and parses the text: slower, never different.
"""

from __future__ import annotations

import os.path
from typing import Any

from ansible import constants

from pmitogen.ansible.options.table import OPTIONS

NAME = "pmitogen"


def plugin_load_name(module_name: str, path: str) -> str:
    """The name under which Ansible's loader knows the plugin whose module has this ``__name__`` and ``__file__``."""
    if module_name.startswith("ansible_collections."):
        return module_name
    return os.path.splitext(os.path.basename(path))[0]


def register_options(module_name: str, path: str) -> str:
    """Register the options for the connection plugin with this ``__name__`` and ``__file__``; known ones stay as they are.

    Returns the plugin's name.
    """
    name = plugin_load_name(module_name, path)
    if not constants.config.has_configuration_definition("connection", name):
        constants.config.initialize_plugin_configuration_definitions("connection", name, options_for(name))
    return name


def options_for(name: str) -> dict[str, dict[str, Any]]:
    """Return the options of the plugin under this name.

    Ansible removes ``ansible_NAME_*`` from facts where a plugin NAME lies on its search path, so under another name, as in a
    collection, a target could set ``ansible_pmitogen_*``.
    """
    if name == NAME:
        return OPTIONS
    prefix = f"ansible_{NAME}_"
    return {
        option: {**details, "vars": [entry for entry in details["vars"] if not entry["name"].startswith(prefix)]}
        if "vars" in details
        else details
        for option, details in OPTIONS.items()
    }
