"""Build payloads ahead of time on an idle processor, with Ansible's own builder and into its own cache of this run.

Ansible needs a tenth of a second to build the first payload of each module, because it reads all direct and indirect imports of
the module. Later tasks find the payload in a cache among the run's temporary files. Most tasks of a run are sequential, so the
run waits for each build. Here the first worker, once its own payload is sent, forks a process that predicts the modules from the
playbook's text, and calls the builder for each. A worker that needs a payload before it is built builds it itself, under
Ansible's own lock.

Only modules of ansible-core are built: in the cache they have other names than modules of a role's ``library``. If a role or a
playbook has ``module_utils``, which may replace ansible-core's, none are built. ``PMITOGEN_PRELOAD=0`` disables this.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import glob
import inspect
import os
import signal
import time
from collections.abc import Iterator

import yaml  # type: ignore[import-untyped]
from ansible import constants, context, modules
from ansible.executor import module_common
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from pmitogen.ansible.preload.shared_state import SharedState
from pmitogen.util import processes

MAX_MODULES = 24
MAX_FILES = 60
MAX_FILE_SIZE = 1 << 18  # bytes
MODULES_OF_ACTION = {
    "shell": ("command",),
    "template": ("stat", "file", "copy"),
    "copy": ("stat", "file", "copy"),
    "fetch": ("slurp",),
}
KILL_ATTEMPTS = 100  # one each millisecond
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TASK_LIST_KEYS = ("tasks", "pre_tasks", "post_tasks", "handlers", "block", "rescue", "always")


def start(run_pid: int, state: SharedState) -> None:
    """Start the process that builds further payloads. For the first worker of a run, after it sent its own. Never raises."""
    with contextlib.suppress(Exception):
        if not _should_prebuild():
            return
        run_started = processes.start_time(run_pid)
        pid = os.fork()
        if pid == 0:
            try:
                _build_all(run_pid, run_started)
            finally:
                os._exit(0)
        state.prebuild_process = pid, int(processes.start_time(pid))


def stop(state: SharedState) -> None:
    """Kill that process before Ansible removes the run's temporary files. For the main process, at its end."""
    pid, run_started = state.prebuild_process
    for _ in range(KILL_ATTEMPTS):
        if not processes.is_running(pid, str(run_started)):
            break
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)


def _should_prebuild() -> bool:
    """Return True for a playbook's run with a spare processor and a known ansible-core builder."""
    known = {"module_name", "module_path", "module_args", "templar", "task_vars", "module_compression"}
    return (
        bool(playbook_paths())
        and len(os.sched_getaffinity(0)) > 1
        and hasattr(module_common, "_CachedModule")
        and known <= set(inspect.signature(module_common.modify_module).parameters)
    )


def _build_all(run_pid: int, run_started: str) -> None:
    """Build all predicted payloads, in a separate process that holds no shared resource and ends soon after the run at latest."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    _detach_fds()
    processes.forbid_dumps()
    gc.disable()  # the process is short-lived
    templar = Templar(loader=DataLoader(), variables={})
    for name in predicted_modules(playbook_paths()):
        if not processes.is_running(run_pid, run_started) or not os.path.isdir(str(constants.DEFAULT_LOCAL_TMP)):
            return  # the run was killed
        if glob.glob(os.path.join(ansiballz_cache_dir(), f"ansible.modules.{name}-*")):
            continue  # built, or being built
        with contextlib.suppress(Exception):
            module_common.modify_module(
                module_name=f"ansible.legacy.{name}",
                module_path=_path(name),
                module_args={},
                templar=templar,
                task_vars={"ansible_python_interpreter": "/usr/bin/python3", "ansible_facts": {}},
                module_compression=constants.config.get_config_value("DEFAULT_MODULE_COMPRESSION"),
            )


def ansiballz_cache_dir() -> str:
    """Return the directory in which Ansible caches this run's payloads."""
    return os.path.join(str(constants.DEFAULT_LOCAL_TMP), "ansiballz_cache")


def playbook_paths() -> list[str]:
    """Return the playbooks on the command line; none if the program is not ``ansible-playbook``."""
    return list(context.CLIARGS.get("args") or ()) if "syntax" in context.CLIARGS else []


def _detach_fds() -> None:
    """Replace all open descriptors by /dev/null. Closing them would free their numbers, to which a worker's code may write."""
    null = os.open(os.devnull, os.O_RDWR)
    for pid in os.listdir("/proc/self/fd"):
        os.dup2(null, int(pid))


def _path(name: str) -> str:
    return os.path.join(os.path.dirname(str(modules.__file__)), f"{name}.py")


@functools.cache
def _is_module(name: str) -> bool:
    """Return True if ansible-core's module *name* runs on a host. Modules that run on the controller only have documentation."""
    try:
        with open(_path(name), "rb") as stream:
            return b"\ndef main(" in stream.read()
    except OSError:
        return False


def predicted_modules(playbooks: list[str]) -> list[str]:
    """Return the ansible-core modules that the tasks of *playbooks* use, in order."""
    modules: dict[str, None] = {}
    if has_module_utils(playbooks):
        return []
    roles = _role_dirs(playbooks)
    files = [os.path.abspath(path) for path in playbooks]
    for index, path in enumerate(files):
        if index == MAX_FILES or len(modules) >= MAX_MODULES:
            break
        for key, value in _task_entries(path):
            name = key.removeprefix("ansible.builtin.").removeprefix("ansible.legacy.")
            if name.startswith(("include_", "import_")) or name == "roles":
                files += [more for more in _included_files(name, value, os.path.dirname(path), roles) if more not in files]
            elif name.isidentifier():
                modules.update((module, None) for module in MODULES_OF_ACTION.get(name, (name,)) if _is_module(module))
    return list(modules)[:MAX_MODULES]


def has_module_utils(playbooks: list[str]) -> bool:
    """Return True if a ``module_utils`` directory exists beside *playbooks* or in any available role."""
    roles = (os.path.join(glob.escape(directory), "*") for directory in _role_dirs(playbooks))
    return any(glob.glob(os.path.join(place, "module_utils")) for place in (*map(glob.escape, _playbook_dirs(playbooks)), *roles))


def _playbook_dirs(playbooks: list[str]) -> list[str]:
    return list(dict.fromkeys(os.path.dirname(os.path.abspath(path)) for path in playbooks))


def _role_dirs(playbooks: list[str]) -> list[str]:
    return [*(os.path.join(directory, "roles") for directory in _playbook_dirs(playbooks)), *(constants.DEFAULT_ROLES_PATH or ())]


def _task_entries(path: str) -> Iterator[tuple[str, yaml.Node]]:
    """Yield (key, value) of every play, block and task of a file."""
    try:
        with open(path, "rb") as stream:
            root = yaml.compose(stream.read(MAX_FILE_SIZE), Loader=_LOADER)
    except (OSError, yaml.YAMLError):
        return
    yield from _walk(root)


def _walk(node: yaml.Node) -> Iterator[tuple[str, yaml.Node]]:
    for entry in node.value if isinstance(node, yaml.SequenceNode) else ():
        for key, value in entry.value if isinstance(entry, yaml.MappingNode) else ():
            if key.value in _TASK_LIST_KEYS:
                yield from _walk(value)
            elif isinstance(key.value, str):
                yield key.value, value


def _included_files(keyword: str, value: yaml.Node, directory: str, roles: list[str]) -> Iterator[str]:
    """Yield the files that an include, an import or a list of roles names, if they are literal names."""
    values = value.value if isinstance(value, yaml.SequenceNode) else [value]
    for each in values:
        names = [each] if isinstance(each, yaml.ScalarNode) else []
        if isinstance(each, yaml.MappingNode):
            names = [entry for key, entry in each.value if key.value in ("file", "name", "role")]
        for name in names:
            if not isinstance(name, yaml.ScalarNode):
                continue
            if keyword.endswith(("_role", "roles")):
                for place in roles:
                    yield from sorted(glob.glob(os.path.join(glob.escape(place), glob.escape(name.value), "tasks", "*.y*ml")))
            else:
                yield os.path.join(directory, name.value)
