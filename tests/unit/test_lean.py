"""What the hub leaves out of its libraries: pmitogen/hub/daemon/slim_imports.py."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LEFT_OUT = ("email", "invoke", "cProfile", "importlib.metadata._meta")
LOAD = f"""
import json, sys
from pmitogen.hub.daemon import slim_imports as lean
lean.leave_out()
import mitogen.parent, paramiko
print(json.dumps([paramiko.__version__, [name for name in {LEFT_OUT} if sys.modules.get(name)]]))
"""
ASK = """
import json, sys
from pmitogen.hub.daemon import slim_imports as lean
lean.leave_out()
from importlib import metadata
def ask(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError as error:
        return type(error).__name__
print(json.dumps([ask(name) for name in sys.argv[1:]] + [callable(metadata.entry_points)]))
"""


def _answer(code: str, *words: str, path: str = "") -> Any:
    code = f"import sys; sys.path.insert(0, {path!r})\n{code}" if path else code
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_paramiko_says_its_version_all_the_same() -> None:
    assert _answer(LOAD) == [importlib.metadata.version("paramiko"), []]


def test_whatever_else_is_asked(tmp_path: Path) -> None:
    """One with no such folder beside it, one with two, one that is not there, and one whose distribution is called otherwise."""
    for name in ("none", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    for folder in ("none-7.0.egg-info", "two-1.0.dist-info", "two-2.0.dist-info"):
        (tmp_path / folder).mkdir()
        for file in ("PKG-INFO", "METADATA"):
            (tmp_path / folder / file).write_text(f"Name: {folder.split('-')[0]}\nVersion: {folder.split('-')[1][:3]}\n")
    answers = _answer(ASK, "none", "two", "missing", "pip", path=str(tmp_path))
    assert answers[0] == "7.0" and answers[1] in ("1.0", "2.0") and answers[2] == "PackageNotFoundError"
    assert answers[3] == importlib.metadata.version("pip") and answers[4] is True
