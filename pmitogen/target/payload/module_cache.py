"""A runner's modules: contents by hash, bytecode, and the modules that it has imported before it forks.

A *blob* is the content of a file, named by its hash. A *manifest* is a blob too: a JSON object that maps the paths in one
AnsiballZ archive to hashes. ``ModuleStore`` stores both, and the code compiled from them, until the process ends.

A further runner need not compile modules that the login account's runner has compiled: ``ModuleStore.dump_bytecode`` and
``ModuleStore.load_bytecode`` transfer code between interpreters with the same ``BYTECODE_TAG``.

``PreloadedModules`` are imported in the runner, so that its children need not import them. A child uses one only if its own
manifest has the same content. :func:`unload_all` removes the others from ``sys.modules``: a child never runs code that its task
did not bring.
"""

import json
import linecache
import marshal
import os
import sys
import warnings

from pmitogen.protocol.framing import PY2
from pmitogen.target.payload.importer import find, module_name

MYPY = False
if MYPY:
    from types import CodeType  # noqa: F401
    from typing import Dict, Iterable, List, Optional, Sequence, Tuple, Union  # noqa: F401
    from pmitogen.target.payload.importer import PayloadFiles  # noqa: F401
    from pmitogen.target.types import Bytecode, Manifest  # noqa: F401

if PY2:

    def set_filename(code, filename):
        pass
else:
    from _imp import _fix_co_filename as set_filename  # type: ignore[attr-defined]


# Interpreters with the same tag can exchange bytecode.
BYTECODE_TAG = "%s %d" % (sys.version, sys.flags.optimize)


class ModuleStore(object):
    """Blobs by hash, manifests by hash, code by (hash, path). *root*: the path of the archive in which they appear to be."""

    def __init__(self, root):
        # type: (str) -> None
        self.root = root
        self.blobs = {}  # type: Dict[str, bytes]
        self._manifests = {}  # type: Dict[str, Manifest]
        self.bytecode = {}  # type: Dict[Tuple[str, str], Union[CodeType, bytes]] # (hash, path) -> code, perhaps marshalled

    def manifest(self, digest):
        # type: (str) -> Manifest
        """Return a manifest. Raises KeyError if it was not sent."""
        parsed = self._manifests.get(digest)
        if parsed is None:
            parsed = self._manifests[digest] = json.loads(self.blobs[digest].decode("utf-8"))
        return parsed

    def code(self, digest, path, root=None):
        # type: (str, str, Optional[str]) -> CodeType
        """Return the code of a blob. It is compiled once; if the compiler warns, each time, so that each task has the warning.

        *root*: the archive in which it appears to be; None: that of the store.
        """
        filename = (root or self.root) + "/" + path
        compiled = self.bytecode.get((digest, path))
        if isinstance(compiled, bytes):
            compiled = self.bytecode[digest, path] = marshal.loads(compiled)
        if compiled is None:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                try:
                    compiled = self.bytecode[digest, path] = compile(self.blobs[digest], filename, "exec", 0, True)
                except Exception:
                    pass
        if compiled is None:
            return compile(self.blobs[digest], filename, "exec", 0, True)
        if compiled.co_filename != filename:  # from another interpreter's archive
            set_filename(compiled, filename)
        return compiled

    def dump_bytecode(self):
        # type: () -> List[Bytecode]
        """Return all that is compiled."""
        return [
            (digest, path, code if isinstance(code, bytes) else marshal.dumps(code))
            for (digest, path), code in self.bytecode.items()
        ]

    def load_bytecode(self, bytecode_tag, bytecode):
        # type: (Optional[str], Iterable[Bytecode]) -> None
        """Add bytecode of another interpreter, if it has the same tag. Existing bytecode is not replaced."""
        if bytecode_tag == BYTECODE_TAG:
            for digest, path, code in bytecode:
                self.bytecode.setdefault((digest, path), code)

    def precompile(self, path, digest):
        # type: (str, str) -> None
        """Compile a module if it is not yet compiled. If that fails, the task that imports it reports the error."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.code(digest, path)
        except Exception:
            pass

    def precompile_all(self, manifest):
        # type: (Manifest) -> None
        """Compile every module of a manifest, except those that are rarely imported."""
        for path, digest in manifest.items():
            if path.endswith(".py") and path not in LAZY_FALLBACKS:
                self.precompile(path, digest)


# Modules that may be imported in the runner: ansible-core's own module_utils, whose import only defines things. All others are
# at most compiled there.
PRELOAD_PREFIXES = (
    "ansible.module_utils._internal",
    "ansible.module_utils.basic",
    "ansible.module_utils.common",
    "ansible.module_utils.compat",
    "ansible.module_utils.datatag",
    "ansible.module_utils.distro",
    "ansible.module_utils.errors",
    "ansible.module_utils.facts",
    "ansible.module_utils.parsing",
    "ansible.module_utils.secrets",
    "ansible.module_utils.six",
    "ansible.module_utils._text",
    "ansible.module_utils.pycompat24",
)
# Slow to compile, and imported only on hosts that lack the library which it replaces.
LAZY_FALLBACKS = ("ansible/module_utils/distro/_distro.py",)
# Imported first, before it is known what modules import.
PRELOAD_FIRST = (
    "ansible.module_utils.basic",
    "ansible.module_utils.common.json",
    "ansible.module_utils._internal._errors",
    "ansible.module_utils._internal._traceback",
    "ansible.module_utils._internal._messages",
)
# They read the path of the archive at import, so each task imports them from its own.
NEVER_PRELOAD = ("ansible.module_utils.common.respawn", "ansible.module_utils._internal._ansiballz")


def may_preload(name):
    # type: (str) -> bool
    """Return True if a module may be imported in the runner."""
    if name in ("ansible", "ansible.module_utils"):
        return True
    if any(name == never or name.startswith(never + ".") for never in NEVER_PRELOAD):
        return False
    return any(name == prefix or name.startswith(prefix + ".") for prefix in PRELOAD_PREFIXES)


# Modules that no Ansible module needs, or that store changeable values at import: the host's name (uuid), the time zone
# (_strptime of 2.7).
STDLIB_SKIPPED = (
    "_strptime",
    "antigravity",
    "idlelib",
    "lib2to3",
    "multiprocessing",
    "pty",
    "readline",
    "rlcompleter",
    "test",
    "this",
    "tkinter",
    "turtle",
    "turtledemo",
    "uuid",
)
# Modules of the standard library that ansible-core's module_utils import, each after those that it imports.
STDLIB_PRELOADED = (
    "__future__",
    "ast",
    "copy",
    "datetime",
    "dataclasses",
    "fcntl",
    "grp",
    "hashlib",
    "inspect",
    "json",
    "locale",
    "logging",
    "platform",
    "runpy",
    "select",
    "selectors",
    "shlex",
    "shutil",
    "socket",
    "string",
    "subprocess",
    "syslog",
    "tempfile",
    "textwrap",
    "argparse",
    "ctypes",
    "decimal",
    "importlib.machinery",
    "ipaddress",
    "pathlib",
    "pkgutil",
    "urllib.parse",
)
# Modules that both agent and runner import: once, before the fork.
STDLIB_BEFORE_FORK = ("base64", "fcntl", "lzma", "signal")


def import_stdlib(names):
    # type: (Sequence[str]) -> int
    """Import those of *names* that are in the standard library. Return the number of new modules."""
    stdlib_dir = os.path.dirname(os.__file__)
    before = len(sys.modules)
    for name in names:
        top = name.split(".")[0]
        if name not in sys.modules and top not in STDLIB_SKIPPED and is_stdlib(name, stdlib_dir):
            try:
                __import__(name)
            except Exception:
                pass
    return len(sys.modules) - before


def is_stdlib(name, stdlib_dir):
    # type: (str, str) -> bool
    """Return True if a module is built in or in the standard library, whose directory is *stdlib_dir*."""
    top = name.split(".")[0]
    if top in sys.builtin_module_names:
        return True
    if hasattr(sys, "stdlib_module_names"):
        return top in sys.stdlib_module_names
    for suffix in (".py", "/__init__.py"):
        if os.path.exists(os.path.join(stdlib_dir, top + suffix)):
            return True
    return False


class PreloadedModules(object):
    """The modules that the runner has imported for its children. ``files``: {path: hash} of those in ``sys.modules``."""

    def __init__(self, source):
        # type: (PayloadFiles) -> None
        self.store, self._source = source.store, source
        self.files = {}  # type: Manifest
        self._conflicts = {}  # type: Dict[Tuple[str, int], Optional[List[str]]]

    def add(self, manifest, names):
        # type: (Manifest, Iterable[str]) -> int
        """Import *names* from *manifest*, except those that differ from an imported module.

        Returns the number of new modules.
        """
        before = len(self.files)
        wanted = {}
        for name in sorted(names):
            module = find(manifest, name)
            if module is None:
                continue
            digest = manifest[module[0]]
            if may_preload(name) and self.files.get(module[0], digest) == digest:
                wanted[name] = module[0]
            else:
                self.store.precompile(module[0], digest)
        if not wanted or any(self.files.get(path, digest) != digest for path, digest in manifest.items() if path in self.files):
            return 0
        self._source.mount(manifest)
        try:
            for name in wanted:
                try:
                    __import__(name)
                except (Exception, SystemExit):  # the task that imports it reports the error
                    unload(name)
        finally:
            sys.path.remove(self._source.root)
        for name in list(sys.modules):
            if name.split(".")[0] == "ansible":
                module = find(manifest, name)
                if module is not None:
                    self.files[module[0]] = manifest[module[0]]
        return len(self.files) - before

    def conflicts(self, digest):
        # type: (str) -> Optional[List[str]]
        """Return the names of the modules that a child with the manifest *digest* must unload; None: all of the package ansible.

        Called before the fork: in the child it would copy every page that these modules are on.
        """
        key = digest, len(self.files)
        if key not in self._conflicts:
            manifest = self.store.manifest(digest)
            conflicting = [module_name(path) for path in self.files if path not in manifest]  # type: Optional[List[str]]
            if any(manifest.get(path, own_digest) != own_digest for path, own_digest in self.files.items()):
                conflicting = None
            self._conflicts[key] = conflicting
        return self._conflicts[key]


def unload_all(names):
    # type: (Optional[Iterable[str]]) -> None
    """Unload these modules, in a child. None: all of the package ansible."""
    if names is None:
        names = [name for name in list(sys.modules) if name == "ansible" or name.startswith("ansible.")]
    for name in names:
        unload(name)


def unload(name):
    # type: (str) -> None
    """Remove a module from ``sys.modules`` and from its parent package."""
    sys.modules.pop(name, None)
    parent, _, leaf = name.rpartition(".")
    parent_module = sys.modules.get(parent)
    if parent_module is not None:
        try:
            delattr(parent_module, leaf)
        except AttributeError:
            pass


def clear_line_cache():
    # type: () -> None
    """Let the tracebacks of a child show the lines of its own task."""
    linecache.clearcache()
