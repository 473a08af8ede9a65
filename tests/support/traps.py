"""Files that must never be executed: each records its name and the uid that ran it, and fails."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

# Modules that pmitogen's interpreters import, and that Python imports by itself.
MODULES = (
    "__future__", "abc", "ansible", "ast", "atexit", "base64", "codecs", "collections", "ctypes", "encodings",
    "errno", "fcntl", "functools", "gc", "grp", "hashlib", "importlib", "inspect", "io", "json", "linecache",
    "locale", "logging", "lzma", "marshal", "os", "pkgutil", "platform", "pmitogen", "pwd", "re", "resource",
    "runpy", "select", "selectors", "shlex", "shutil", "signal", "site", "sitecustomize", "socket", "stat",
    "string", "struct", "subprocess", "tempfile", "termios", "textwrap", "threading", "time", "traceback",
    "types", "typing", "usercustomize", "warnings", "zipfile", "zlib",
)  # fmt: skip
RELATIVE = (
    "bundle/pmitogen/__init__",
    "bundle/pmitogen/target/payload/remote_call",
    "bundle/pmitogen/become/__init__",
    "lib/json",
    "lib/base64",
)

# posix and sys are part of the interpreter.
_CODE = """import posix, sys
posix.close(posix.open({mark!r} + "-%d" % posix.geteuid(), posix.O_CREAT | posix.O_WRONLY, 438))
raise ImportError("a trap")
"""


class Traps:
    """The traps of one test, which write their records to *directory*."""

    def __init__(self, directory: Path) -> None:
        self._marks = directory
        directory.mkdir(exist_ok=True)
        directory.chmod(0o777)

    def install(self, directory: Path, uid: int, gid: int, names: Iterable[str] = MODULES + RELATIVE) -> None:
        """Install a trap for each of *names*, modules or paths, in *directory*: as a file, and as a package."""
        for name in names:
            mark = str(self._marks / name.replace("/", "_"))
            for path in (directory / f"{name}.py", directory / name / "__init__.py"):
                for parent in reversed(path.parents):
                    if directory in parent.parents and not parent.exists():
                        parent.mkdir()
                        os.chown(parent, uid, gid)
                path.write_text(_CODE.format(mark=mark))
                os.chown(path, uid, gid)

    def executed(self) -> list[str]:
        """Return the executed traps, as ``name-uid``."""
        return sorted(path.name for path in self._marks.iterdir())
