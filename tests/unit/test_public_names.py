"""The public names of the package: complete, and imported only on use."""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import sys
import types
import typing
from collections.abc import Iterator

import pytest
import typing_extensions

import pmitogen
from pmitogen import aio, errors, executors
from pmitogen.aio.hub import Connecting  # the result of aio.connect: to be awaited or entered
from pmitogen.flags.ssh.report import explain  # the JSON form of its command, a dict
from tests.support.session import repository

HEAVY = ("paramiko", "mitogen", "ansible", "cryptography", "argparse", "asyncio")


def test_importing_the_package_loads_no_large_module() -> None:
    code = f"import sys, pmitogen, pmitogen.errors; print([name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True).stdout
    assert loaded.strip() == "[]"


def test_all_lists_exactly_the_public_names() -> None:
    error_names = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.Error)}
    library = {
        "Ask",
        "Changes",
        "Completed",
        "ConnectArguments",
        "ConnectOptions",
        "DirEntry",
        "Forwarding",
        "Host",
        "Hub",
        "Jump",
        "JumpCredentials",
        "Outcome",
        "Process",
        "Terminal",
        "connect",
    }
    assert set(pmitogen.__all__) == error_names | library | {"__version__", "connect"}
    assert pmitogen.__all__ == sorted(pmitogen.__all__)


@pytest.mark.parametrize("name", pmitogen.__all__)
def test_every_public_name_loads(name: str) -> None:
    assert getattr(pmitogen, name) is not None
    assert name in dir(pmitogen)


def _classes(annotation: object) -> Iterator[type]:
    """Yield the classes in an annotation."""
    if isinstance(annotation, type) and not typing.get_args(annotation):
        yield annotation
    for part in typing.get_args(annotation) or ():
        for each in part if isinstance(part, list) else (part,):
            yield from _classes(each)


@pytest.mark.parametrize("module", [pmitogen, aio, executors])
def test_every_class_in_a_public_signature_is_public(module: types.ModuleType) -> None:
    public = {getattr(each, name) for each in (pmitogen, aio, executors) for name in each.__all__}
    missing = set()
    for name in module.__all__:
        value = getattr(module, name)
        members = (
            [member for key, member in inspect.getmembers(value) if not key.startswith("_")] if inspect.isclass(value) else []
        )
        for function in (value, *members):
            scope = sys.modules[getattr(function, "__module__", None) or "pmitogen"]
            function = function.fget if isinstance(function, property) else function
            if not inspect.isfunction(function) and not inspect.isclass(function):
                continue
            names = {**vars(typing), **vars(typing_extensions), **vars(explain), **vars(aio), **vars(pmitogen.api), **vars(scope)}
            hints = typing.get_type_hints(function, names, {"Hub": aio.Hub if module is aio else pmitogen.Hub})
            found = {each for key, hint in hints.items() if not key.startswith("_") for each in _classes(hint)}
            found = {each for each in found if each.__module__.startswith("pmitogen.")} - {explain.Explanation, Connecting}
            missing |= {each.__qualname__ for each in found - public}
    assert not missing


def test_every_public_name_is_documented() -> None:
    page = (repository / "docs/library.md").read_text()
    names = {*pmitogen.__all__, *aio.__all__, *executors.__all__} - {"__version__"}
    assert not [name for name in sorted(names) if not re.search(rf"`[^`\n]*\b{name}\b", page)]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Hosts'"):
        pmitogen.Hosts  # noqa: B018


def test_the_plugin_imports_no_ssh_and_no_mitogen() -> None:
    """These are the modules that a task's process imports before its first request."""
    if importlib.util.find_spec("ansible") is None:
        pytest.skip("needs ansible-core in this interpreter")
    code = "import sys, pmitogen.ansible.options.register;"
    code += "print([n for n in ('paramiko', 'mitogen', 'cryptography') if n in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout
    # Ansible itself loads cryptography for its vault.
    assert "paramiko" not in loaded and "mitogen" not in loaded
