"""Import and look up in the main process what each worker would otherwise import and look up again.

``ansible-playbook`` imports every connection plugin before it forks its first worker (to read their options), so this code runs
there. A worker that finds a module imported, a directory listed or a lookup cached saves that time in each task. Ansible's
behaviour does not change: these are imports, and lookups that Ansible itself caches; and the existing objects are frozen for the
garbage collector. If an ansible-core lacks one of these functions, that step has no effect, and each worker does it itself. The
hub is started as well.

A run that does not use the plugin is not changed: nothing is preloaded unless the command line, the configuration, the inventory
or a playbook names the plugin. ``PMITOGEN_PRELOAD=0`` disables preloading, for diagnosis.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import itertools
import multiprocessing
import os
from collections.abc import Iterator
from typing import Any

from ansible import constants, context
from ansible.parsing.dataloader import DataLoader
from ansible.plugins import loader
from ansible.plugins.shell import sh
from ansible.template import Templar

from pmitogen import toggles
from pmitogen.ansible import shell
from pmitogen.ansible.hub_session import hub_log
from pmitogen.ansible.options.register_shell import register_shell
from pmitogen.ansible.preload import shared_state
from pmitogen.hub.daemon import socket_paths
from pmitogen.util.caller import CallerEnvironment

PLUGIN_NAMES = ("pmitogen", "pmitogen.core.ssh")
# Limits for reading the inventory and the playbooks, to find out whether a run uses the plugin.
MAX_INVENTORY_FILES = 40
MAX_BYTES_READ = 1 << 18  # of each file


def preload() -> None:
    """Preload, if this is the process that forks the workers. Never raises."""
    if multiprocessing.parent_process() is not None or not toggles.preload_enabled() or not _run_uses_pmitogen():
        return
    steps = (
        _share_state,
        _start_hub,
        register_shell,
        _load_json_profiles,
        _load_result_types,
        _find_plugins,
        _compile_template_patterns,
    )
    for step in steps:
        with contextlib.suppress(Exception):
            step()
    gc.freeze()  # a collection in a worker would visit, and so copy, the whole heap of this process


def _share_state() -> None:
    """Create the state that workers share."""
    shared_state.current = shared_state.SharedState()
    socket_paths.cache_start_time()
    atexit.register(_at_exit, shared_state.current)


def _at_exit(state: shared_state.SharedState) -> None:
    """Stop the prebuild process and store payloads at the end of the run, before Ansible removes its temporary files."""
    if state.prebuild_process[0]:
        from pmitogen.ansible.preload import prebuild

        prebuild.stop(state)
    if state.payloads_restored:
        from pmitogen.ansible.preload import payload_cache

        payload_cache.store()


def _load_json_profiles() -> None:
    """Load the JSON profiles for parameters and results of modules (ansible-core 2.19 and later)."""
    from ansible.module_utils.common import json

    json.get_module_encoder("legacy", json.Direction.CONTROLLER_TO_MODULE)
    json.get_module_decoder("legacy", json.Direction.MODULE_TO_CONTROLLER)


def _load_result_types() -> None:
    """Evaluate the annotations of a task result's fields (ansible-core 2.21)."""
    task = importlib.import_module("ansible._internal._task")
    task.UnifiedTaskResult.from_action_result_dict({})
    task.UnifiedTaskResult.from_module_result_dict({})


def _find_plugins() -> None:
    """Load the shell's class, and the paths of modules and shell plugins.

    Ansible clears the paths whenever a play or role brings its own directories.
    """
    importlib.import_module("ansible_collections.ansible.builtin.plugins.shell")
    importlib.import_module("ansible_collections.ansible.builtin.plugins.become")
    shell.recording_class(sh.ShellModule)
    if constants.OLD_PLUGIN_CACHE_CLEARING:  # then Ansible does not clear them, and would miss such a directory
        return
    loader.module_loader.find_plugin("command")
    loader.action_loader.find_plugin("command")
    loader.shell_loader.find_plugin("sh")
    loader.connection_loader.find_plugin("pmitogen")


def _compile_template_patterns() -> None:
    """Compile the patterns of the template lexer, which each worker that sees a template would compile again."""
    text: Any = "{{ 1 }}"
    with contextlib.suppress(AttributeError):  # before ansible-core 2.19 every text is a template
        text = importlib.import_module("ansible.template").trust_as_template(text)
    Templar(loader=DataLoader(), variables={}).template(text)


def _start_hub() -> None:
    """Start the hub of a playbook's run: it loads its libraries while Ansible reads the playbook."""
    args = context.CLIARGS
    caller = CallerEnvironment.current()  # workers use the cached object, too
    if "syntax" in args and not any(args[name] for name in ("syntax", "listhosts", "listtasks", "listtags")):
        from pmitogen.hub.daemon import start_or_adopt

        start_or_adopt.start(os.getpid(), caller, log=hub_log())


def _run_uses_pmitogen() -> bool:
    """Return True if the command line, the configuration, an inventory or a playbook contains the plugin's name.

    A heuristic: a run that it misses (for example with a dynamic inventory) is slower, with the same result. A run without the
    plugin is not changed.
    """
    args = context.CLIARGS
    if args.get("connection") in PLUGIN_NAMES:
        return True
    playbooks = [name for name in args.get("args") or () if isinstance(name, str) and os.path.isfile(name)]
    files = itertools.chain(itertools.chain.from_iterable(map(_inventory_files, args.get("inventory") or ())), playbooks)
    return any(map(_mentions_pmitogen, itertools.islice(files, MAX_INVENTORY_FILES)))


def _inventory_files(source: str) -> Iterator[str]:
    """Yield the files of an inventory: the file or those in its directory, and the variables of groups and hosts beside it."""
    directory = source
    if os.path.isfile(source):
        yield source
        directory = os.path.dirname(source)
    elif os.path.isdir(source):
        yield from (entry.path for entry in os.scandir(directory) if entry.is_file())
    for variables in ("group_vars", "host_vars"):
        for root, _, names in os.walk(os.path.join(directory, variables)):
            yield from (os.path.join(root, name) for name in names)


def _mentions_pmitogen(path: str) -> bool:
    try:
        with open(path, "rb") as stream:
            return b"pmitogen" in stream.read(MAX_BYTES_READ)
    except OSError:
        return False
