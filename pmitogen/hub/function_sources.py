"""Source files that a function of the program that uses the library needs on the target: its module and that module's imports.

The import statements are found by parsing the sources, at the top and inside functions alike; nothing is imported for this.
Modules of the standard library are not sent, because every Python has them. Extension modules cannot be sent; the target may have
its own. pmitogen is not sent either: on the target its public names are placeholders (see target/payload/remote_call.py), so that
a program may import it at its top.
"""

from __future__ import annotations

import ast
import functools
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from pmitogen.errors import UsageError
from pmitogen.hub import bootstrap

MAIN = "pmitogen_caller_main"  # the name of the program's own script on the target: not __main__, so that its guard is false
_NOT_SENT = sys.stdlib_module_names | {"pmitogen"}


def collect(function: Callable[..., object]) -> tuple[str, str, dict[str, bytes]]:
    """Return (name of the module on the target, name in the module, {path: source}). Raises UsageError without a source."""
    module, qualname, files = _collect(function)
    placeholders = bootstrap.module_source("pmitogen.target.payload", "remote_call").encode()
    return module, qualname, {**files, "pmitogen/target/payload/remote_call.py": placeholders}


def _collect(function: Callable[..., object]) -> tuple[str, str, dict[str, bytes]]:
    module, qualname = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if not module or not qualname or "<" in qualname:
        advice = "a lambda or nested function cannot be called on a host; define it at the top level of a module"
        raise UsageError(f"call: {qualname or function!r}: {advice}")
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, (type, types.ModuleType)):
        raise UsageError(f"call: {qualname}: a method cannot be called on a host; use a function, and pass its data as arguments")
    if module == "__main__":
        return _of_main(qualname)
    if module.partition(".")[0] in sys.stdlib_module_names:
        return module, qualname, {}
    return module, qualname, _files(module)


def _of_main(qualname: str) -> tuple[str, str, dict[str, bytes]]:
    """Collect for a function of the script itself. With ``python -m package.module`` it has a name and relative imports."""
    main = sys.modules["__main__"]
    spec, path = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return spec.name, qualname, _files(spec.name)
    try:
        source = Path(path or "").read_bytes()
    except OSError:
        raise UsageError(f"call: {qualname}: defined interactively, without a source file; put it in a module") from None
    return MAIN, qualname, {f"{MAIN}.py": source, **_dependencies(MAIN, source, False)}


@functools.lru_cache(maxsize=256)
def _files(module: str) -> dict[str, bytes]:
    module_file = _find(module)
    if module_file is None:
        raise UsageError(f"call: {module}: the source of this module cannot be found")
    path, source, is_package = module_file
    return {path: source, **_dependencies(module, source, is_package)}


def _dependencies(module: str, source: bytes, is_package: bool) -> dict[str, bytes]:
    """Return the sources of all modules that *module* imports, directly or not, and of their packages."""
    files: dict[str, bytes] = {}
    seen = {module}
    waiting = list(_imports(module, source, is_package))
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        module_file = _find(name)
        if module_file is not None:
            files[module_file[0]] = module_file[1]
            waiting.extend(_imports(name, *module_file[1:]))
    return files


def _imports(module: str, source: bytes, is_package: bool) -> Iterator[str]:
    """Yield names that *module* may import: modules, and names that may be modules or their attributes."""
    yield from _with_parents(module.rpartition(".")[0])
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # the syntax of another Python version: sent as it is
        return
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            if base:
                yield from _with_parents(base)
                yield from (f"{base}.{alias.name}" for alias in node.names)


def _base(node: ast.ImportFrom, package: str) -> str:
    """Return the module that ``from ... import`` names, or "" if there is none."""
    if not node.level:
        return node.module or ""
    try:
        return importlib.util.resolve_name("." * node.level + (node.module or ""), package)
    except ImportError:
        return ""


def _with_parents(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]


@functools.lru_cache(maxsize=4096)
def _find(name: str) -> tuple[str, bytes, bool] | None:
    """Return (path, source, is package) of a module that is sent; None if it is not found, or not sent."""
    if name.partition(".")[0] in _NOT_SENT:
        return None
    spec = _spec(name)
    if spec is None:
        return None
    is_package = spec.submodule_search_locations is not None
    path = name.replace(".", "/") + ("/__init__.py" if is_package else ".py")
    if spec.origin is None:  # a namespace package has none
        return (path, b"", True) if is_package else None
    read = getattr(spec.loader, "get_data", None)
    if read is None or not spec.origin.endswith(".py"):
        return None
    try:
        return path, read(spec.origin), is_package
    except OSError:
        return None


def _spec(name: str) -> importlib.machinery.ModuleSpec | None:
    """Return a module's spec without importing anything."""
    loaded: importlib.machinery.ModuleSpec | None = getattr(sys.modules.get(name), "__spec__", None)
    if loaded is not None:
        return loaded
    parent = name.rpartition(".")[0]
    locations = None
    if parent:
        outer = _spec(parent)
        if outer is None or outer.submodule_search_locations is None:
            return None
        locations = outer.submodule_search_locations
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        try:
            spec = find(name, locations) if find is not None else None
        except Exception:  # a finder of another package may fail on a name that is not a module
            continue
        if spec is not None:
            return cast(importlib.machinery.ModuleSpec, spec)
    return None
