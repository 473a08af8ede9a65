"""Register the plugin's options with Ansible's configuration manager, without parsing DOCUMENTATION.

Ansible's plugin loader parses a plugin's DOCUMENTATION only if the manager does not know a plugin of that type and name yet.
A plugin on a search path has the name of its file (``pmitogen``, also when requested as ``ansible.legacy.pmitogen``). A plugin
in a collection has the name of its module. If this guess is wrong, or the user has renamed the plugin, the loader finds nothing
registered and parses the text. That is slower, but has the same result.
"""

from __future__ import annotations

import os.path
from typing import Any

from ansible import constants

from pmitogen.ansible.options.table import OPTIONS

NAME = "pmitogen"


def plugin_load_name(module_name: str, path: str) -> str:
    """Return the name by which Ansible's loader knows the plugin whose module has this ``__name__`` and ``__file__``."""
    if module_name.startswith("ansible_collections."):
        return module_name
    return os.path.splitext(os.path.basename(path))[0]


def register_options(module_name: str, path: str) -> None:
    """Register the options of the connection plugin with this ``__name__`` and ``__file__``, unless that was done before."""
    name = plugin_load_name(module_name, path)
    if not constants.config.has_configuration_definition("connection", name):
        constants.config.initialize_plugin_configuration_definitions("connection", name, options_for(name))


def options_for(name: str) -> dict[str, dict[str, Any]]:
    """Return the options of the plugin under this name.

    Ansible removes ``ansible_NAME_*`` from facts if a plugin NAME is on its search path. Under another name, as in a collection,
    a target could set ``ansible_pmitogen_*``, so these variables are left out there.
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
