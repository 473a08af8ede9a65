"""What the hub's libraries would load and it has no use for, left out.

Only in the hub's own process, and before its libraries are loaded. For the same end the records that it loads are made without
``==`` and ``repr`` (``eq=False, repr=False``), which nobody asks them for: half of what it costs to make such a class.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
import types
from typing import Any

# Optional imports, of Paramiko's (50 ms) and Mitogen's.
_MISSING = ("invoke", "cProfile")
_METADATA = "importlib.metadata"


def leave_out() -> None:
    """Keep out what is not needed. To be called once, by the hub's main thread."""
    for name in _MISSING:
        sys.modules[name] = None  # type: ignore[assignment]
    sys.modules["pstats"] = types.ModuleType("pstats")  # one of Mitogen's that it does not do without
    if _METADATA not in sys.modules:
        sys.modules[_METADATA] = _Metadata(_METADATA)


class _Metadata(types.ModuleType):
    """Tells which version of a package is installed, as Paramiko asks of its own, without a parser of e-mail.

    For whatever else is asked of it the real one is loaded.
    """

    def version(self, name: str) -> str:
        """The version in the name of the folder that was installed beside the package, if there is just one."""
        spec = importlib.util.find_spec(name)
        pattern = re.compile(re.escape(name) + r"-([\w.+!]+)\.dist-info")
        for place in spec.submodule_search_locations or () if spec is not None else ():
            found = [match.group(1) for match in map(pattern.fullmatch, os.listdir(os.path.dirname(place))) if match]
            if len(found) == 1:
                return found[0]
        return str(_real().version(name))

    def __getattr__(self, name: str) -> Any:
        return getattr(_real(), name)


def _real() -> Any:
    if isinstance(sys.modules.get(_METADATA), _Metadata):
        del sys.modules[_METADATA]
    return importlib.import_module(_METADATA)
