"""What must travel for a function of the embedding program to run elsewhere: its module, and what that imports."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from pmitogen.errors import UsageError

MAIN = "pmitogen_caller_main"  # the program's own script travels under this name, so its guard stays shut


def source_of(function: Callable[..., Any]) -> tuple[str, str, dict[str, bytes]]:
    """Return (module name there, name in the module, {path: source}). Raises UsageError where there is none."""
    module, qualname = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if not module or not qualname or "<" in qualname:
        raise UsageError(f"call: {qualname or function!r}: only a function that can be imported by name can be called on a host")
    if module in sys.builtin_module_names or _is_stdlib(module):
        return module, qualname, {}
    return (MAIN if module == "__main__" else module), qualname, _files(module)


def _is_stdlib(module: str) -> bool:
    return module.partition(".")[0] in sys.stdlib_module_names and module != "__main__"


@functools.lru_cache(maxsize=256)
def _files(module: str) -> dict[str, bytes]:
    from mitogen.master import ModuleFinder

    finder = ModuleFinder()
    files: dict[str, bytes] = {}
    for name in [module, *finder.find_related(module)]:
        _add(finder, name, files)
    return files


def _add(finder: Any, name: str, files: dict[str, bytes]) -> None:
    _path, source, is_package = finder.get_module_source(name)
    if source is None:
        if name == "__main__" or not files:
            raise UsageError(f"call: {name}: the source of this module cannot be found")
        return  # an extension module, or one that only exists here: the target may have its own
    text = source if isinstance(source, bytes) else source.encode("utf-8")
    base = (MAIN if name == "__main__" else name).replace(".", "/")
    files[base + ("/__init__.py" if is_package else ".py")] = text
    parent = name.rpartition(".")[0]
    if parent and parent.replace(".", "/") + "/__init__.py" not in files:
        _add(finder, parent, files)
