"""Cache of files that depend only on the installation and take long to build, beside Python's own bytecode.

The sources that travel to targets are minified and compressed, which takes as long as a login. The result is stored in the
``__pycache__`` of this package, under Python's conditions: only if the directory is writable and ``PYTHONDONTWRITEBYTECODE`` is
not set. The file's name contains a digest of its inputs, so a changed input gives another name. The result runs on every target.
So it is read only if it belongs to this user, to root or to the owner of the package, and if no other user can write to it. A
digest at its start shows whether it is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

from pmitogen.util import atomic_file, trusted_path


def cached(name: str, inputs: object, make: Callable[[], bytes]) -> bytes:
    """Return the stored result of *make* for these *inputs* and the installed files, or call it and store the result."""
    directory = Path(importlib.util.cache_from_source(__file__)).parent
    path = directory / f"{name}.{_digest(inputs)}.bin"
    with contextlib.suppress(OSError):
        owners = (0, os.stat(__file__).st_uid)
        with open(trusted_path.open_own(path, owners=owners), "rb") as stream:
            stored = stream.read()
        if stored[:32] == hashlib.sha256(stored[32:]).digest():
            return stored[32:]
    made = make()
    if not sys.dont_write_bytecode:
        with contextlib.suppress(OSError):
            _write(directory, path, hashlib.sha256(made).digest() + made)
    return made


def _digest(inputs: object) -> str:
    """Return a digest of the inputs: pmitogen's files, Mitogen's, and *inputs*."""
    import mitogen.minify

    package = Path(__file__).parent.parent
    files = [path for name in ("target", "become", "protocol") for path in sorted((package / name).rglob("*.py"))]
    files += [Path(__file__).parent / "bootstrap.py", Path(mitogen.minify.__file__)]
    stats = [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files]
    return hashlib.sha256(repr((inputs, stats)).encode()).hexdigest()[:24]


def _write(directory: Path, path: Path, data: bytes) -> None:
    """Write the file atomically, and remove those that it replaces."""
    with atomic_file.create(path, 0o644) as stream:
        stream.write(data)
        for old in directory.glob(path.name.partition(".")[0] + ".*.bin"):
            old.unlink()
