"""What every worker would find out anew, found out once in the process that they are forked from.

``ansible-playbook`` imports every connection plugin before it forks its first worker (to learn their options), so our file is
loaded there. A worker that finds a module imported, a directory listed or a lookup cached saves that time in each task. Nothing
is changed by it: these are imports, lookups and a conversion without effect, whose answers Ansible itself keeps; and the garbage
collector is told to leave alone what is there already. Where an ansible-core has no such place, or another one, that step does
nothing, and workers do it themselves, as they would without us.

``PMITOGEN_WARM=0`` leaves all of it out, for diagnosis.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import multiprocessing
import os

from ansible import constants
from ansible.plugins import loader


def warm() -> None:
    """Do it, if this is the process that forks the workers. Never raises."""
    if multiprocessing.parent_process() is not None or os.environ.get("PMITOGEN_WARM") == "0":
        return
    for step in (_profiles, _results, _plugins, _hub):
        with contextlib.suppress(Exception):
            step()
    gc.freeze()  # a round of the collector in a worker would visit, and so copy, the whole heap of this process


def _profiles() -> None:
    """How parameters and results of modules are written as JSON (ansible-core 2.19 and later)."""
    from ansible.module_utils.common import json

    json.get_module_encoder("legacy", json.Direction.CONTROLLER_TO_MODULE)
    json.get_module_decoder("legacy", json.Direction.MODULE_TO_CONTROLLER)


def _results() -> None:
    """Which fields the result of a task has, by their annotations (ansible-core 2.21)."""
    task = importlib.import_module("ansible._internal._task")
    task.UnifiedTaskResult.from_action_result_dict({})
    task.UnifiedTaskResult.from_module_result_dict({})


def _plugins() -> None:
    """Where modules and shell plugins lie. Ansible forgets this whenever a play or role brings folders of its own."""
    importlib.import_module("ansible_collections.ansible.builtin.plugins.shell")
    importlib.import_module("ansible_collections.ansible.builtin.plugins.become")
    if constants.OLD_PLUGIN_CACHE_CLEARING:  # then it does not forget, and would overlook such a folder
        return
    loader.module_loader.find_plugin("command")
    loader.shell_loader.find_plugin("sh")
    loader.connection_loader.find_plugin("pmitogen")


def _hub() -> None:
    """Our own modules that most first tasks want."""
    importlib.import_module("pmitogen.hub.starting")
