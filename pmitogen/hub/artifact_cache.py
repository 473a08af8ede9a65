"""Cache of artifacts that depend only on installed files and take long to build, beside Python's own bytecode.

The sources that travel to targets are minified and compressed, which costs as much as a login. The outcome is kept where
Python keeps the compiled form of this very package (``__pycache__``), under the same conditions: only if that folder can be
written and ``PYTHONDONTWRITEBYTECODE`` is not set. Its name holds a digest of what it was made from; a changed file is another
name. It runs on every target, so it is read back only if it belongs to us, to root or to the owner of the package, and nobody
else can write to it; its own digest tells when it is not whole.
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


def kept(name: str, inputs: object, make: Callable[[], bytes]) -> bytes:
    """Return what *make* returned when it last was called with these *inputs* and installed files, or call it."""
    folder = Path(importlib.util.cache_from_source(__file__)).parent
    path = folder / f"{name}.{_digest(inputs)}.bin"
    with contextlib.suppress(OSError):
        owners = (0, os.stat(__file__).st_uid)
        with open(trusted_path.open_own(path, owners=owners), "rb") as stream:
            found = stream.read()
        if found[:32] == hashlib.sha256(found[32:]).digest():
            return found[32:]
    made = make()
    if not sys.dont_write_bytecode:
        with contextlib.suppress(OSError):
            _write(folder, path, hashlib.sha256(made).digest() + made)
    return made


def _digest(inputs: object) -> str:
    """Names what it is made from: our files, Mitogen's, and *inputs*."""
    import mitogen.minify

    package = Path(__file__).parent.parent
    files = [path for name in ("target", "become", "protocol") for path in sorted((package / name).rglob("*.py"))]
    files += [Path(__file__).parent / "bootstrap.py", Path(mitogen.minify.__file__)]
    stats = [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files]
    return hashlib.sha256(repr((inputs, stats)).encode()).hexdigest()[:24]


def _write(folder: Path, path: Path, data: bytes) -> None:
    """Write it, and remove what it replaces."""
    with atomic_file.create(path, 0o644) as stream:
        stream.write(data)
        for old in folder.glob(path.name.partition(".")[0] + ".*.bin"):
            old.unlink()
