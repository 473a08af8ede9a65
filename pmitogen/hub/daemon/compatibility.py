"""Compatibility of a standby hub with a later run: it may serve a run that would start an identical hub.

A hub has loaded libraries, and its process has an environment, groups and namespaces. A later run takes it over only if these
are equal:

- pmitogen and its dependencies as they are installed (a new version may be in the same place), Python and ansible-core;
- the variables that an interpreter and its libraries read;
- the groups, which open files for it, and the namespaces in which files, hosts and processes have their names.

Otherwise the run starts another hub and does not use this one. The environment that ssh would read is not compared, because it is
sent with each option set (util/caller.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Mapping

from pmitogen import toggles
from pmitogen.protocol import hello
from pmitogen.util import processes
from pmitogen.util.caller import CallerEnvironment

# Variables that Python, the C library or one of the libraries reads in its own process.
_SYSTEM_PREFIXES = ("LD_", "DYLD_", "LC_", "MALLOC_", "GLIBC_", "OPENSSL_", "RES_", "COVERAGE_", "PMITOGEN_")
_TOKEN_PREFIXES = ("KRB5", "GSS", "SOFTHSM", "OPENSC", "PKCS11", "P11_KIT", "YKCS11", "YKPIV")
_VARIABLE_PREFIXES = _SYSTEM_PREFIXES + _TOKEN_PREFIXES
_VARIABLE_NAMES = frozenset(
    ("HOME", "LANG", "LANGUAGE", "LOCPATH", "TZ", "TMPDIR", "HOSTALIASES", "LOCALDOMAIN", "NSS_WRAPPER_HOSTS")
)
_PRELOAD_VARIABLES = ("LD_PRELOAD", "LD_AUDIT", "DYLD_INSERT_LIBRARIES")  # they load libraries that may read any variable
_LIBRARIES = ("mitogen", "paramiko", "cryptography", "nacl", "bcrypt")


def process_environment(caller: CallerEnvironment) -> dict[str, str]:
    """Return the environment for a hub's own process: only the variables that Python and its libraries read.

    The whole environment, if libraries are loaded into every program (``LD_PRELOAD``): these may read any variable.
    """
    environ = caller.environ
    if any(environ.get(name) for name in _PRELOAD_VARIABLES):
        return dict(environ)
    variables = {name: value for name, value in environ.items() if _is_read_by_libraries(name) or name == "PATH"}
    for name in variables:
        if "PYTHONPATH" in name:  # the hub's directory is another
            variables[name] = os.pathsep.join(map(caller.absolute, variables[name].split(os.pathsep)))
    return variables


def _is_read_by_libraries(name: str) -> bool:
    return name in _VARIABLE_NAMES or "PYTHON" in name or name.startswith(_VARIABLE_PREFIXES)


def _must_be_equal(name: str) -> bool:
    """Return whether two hubs that differ in this variable are incompatible."""
    return name in toggles.VARIABLES if name.startswith("PMITOGEN_") else name != "PATH"


def fingerprint(environ: Mapping[str, str], ansible: str) -> str:
    """Return a text that is equal in a hub and in a run that it may serve.

    :param environ: of the hub's process, or of one that the run would start.
    :param ansible: the version of ansible-core.
    """
    facts = [
        hello.identity(),
        ansible,
        [sys.version, sys.executable, sys.getfilesystemencoding()],
        list(_files()),
        sorted(item for item in environ.items() if _must_be_equal(item[0])),
        *processes.groups_and_namespaces(),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _files() -> Iterator[tuple[str, int, int]]:
    """Yield path, time and size of every file of pmitogen, and of the first file of each library."""
    paths = []
    for directory, _, names in os.walk(hello.identity()["root"]):
        paths += [os.path.join(directory, name) for name in names if name.endswith(".py")]
    for name in _LIBRARIES:
        with contextlib.suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(name)
            paths += [spec.origin] if spec is not None and spec.origin else []
    for path in sorted(paths):
        with contextlib.suppress(OSError):
            status = os.stat(path)
            yield path, status.st_mtime_ns, status.st_size
