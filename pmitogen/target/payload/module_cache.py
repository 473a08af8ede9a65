"""What a runner keeps of the modules that its tasks bring: contents by hash, code compiled from them, what it has imported.

A *blob* is the content of one file, named by its hash; a *manifest* is itself a blob, a JSON object that maps the paths
inside one AnsiballZ archive to the hashes of their contents. ``ModuleStore`` keeps both, and the code compiled from them, for the
life of the process.

An account's runner need not compile what the login account's has compiled: ``ModuleStore.dump_bytecode`` and
``ModuleStore.load_bytecode`` carry code from the one to the other, between interpreters of the same ``BYTECODE_TAG``.

``PreloadedModules`` are those that the runner has imported before it forks, so that a child need not. A child may use them
only where its own manifest holds the very same contents; :func:`unload_all` takes from ``sys.modules`` whatever differs, so
that a child never runs code that its task did not bring.
"""

import json
import linecache
import marshal
import os
import sys
import warnings

from pmitogen.target.payload.importer import find, module_name

try:
    from _imp import _fix_co_filename as set_filename
except ImportError:  # Python 2

    def set_filename(code, filename):
        pass


# Interpreters with the same tag can exchange bytecode.
BYTECODE_TAG = "%s %d" % (sys.version, sys.flags.optimize)


class ModuleStore(object):
    """Blobs by hash, manifests by hash, code by (hash, path). *root*: the path of the archive that all seem to be in."""

    def __init__(self, root):
        self.root = root
        self.blobs = {}
        self._manifests = {}
        self.bytecode = {}  # (hash, path) -> code object, or its marshalled form

    def manifest(self, digest):
        """Return the {path: hash} of a manifest blob. Raises KeyError if it was not sent."""
        found = self._manifests.get(digest)
        if found is None:
            found = self._manifests[digest] = json.loads(self.blobs[digest].decode("utf-8"))
        return found

    def code(self, digest, path, root=None):
        """Return the code object of a blob, compiled once; what the compiler warns of is compiled, and warned of, each time.

        *root*: the archive that it seems to be in, if that is another.
        """
        filename = (root or self.root) + "/" + path
        found = self.bytecode.get((digest, path))
        if isinstance(found, bytes):
            found = self.bytecode[digest, path] = marshal.loads(found)
        if found is None:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                try:
                    found = self.bytecode[digest, path] = compile(self.blobs[digest], filename, "exec", 0, 1)
                except Exception:
                    pass
        if found is None:
            return compile(self.blobs[digest], filename, "exec", 0, 1)
        if found.co_filename != filename:  # from another interpreter's archive
            set_filename(found, filename)
        return found

    def dump_bytecode(self):
        """All that is compiled: a list of (hash, path, marshalled code)."""
        return [
            (digest, path, code if isinstance(code, bytes) else marshal.dumps(code))
            for (digest, path), code in self.bytecode.items()
        ]

    def load_bytecode(self, bytecode_tag, bytecode):
        """Take what another interpreter exported, if it was of our kind. Nothing that is here already is replaced."""
        if bytecode_tag == BYTECODE_TAG:
            for digest, path, code in bytecode:
                self.bytecode.setdefault((digest, path), code)

    def precompile(self, path, digest):
        """Compile a module, if it is not yet; one that cannot be fails when it is imported, in its own task."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.code(digest, path)
        except Exception:
            pass

    def precompile_all(self, manifest):
        """Compile every module of a manifest, but what is unlikely to be needed."""
        for path, digest in manifest.items():
            if path.endswith(".py") and path not in LAZY_FALLBACKS:
                self.precompile(path, digest)


# What may be executed in the runner itself, ahead of the children: ansible-core's own support code, which has no effect at import
# but definitions. Everything else is at most compiled there.
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
# Imported together with its package, or never: it stands in for a library that the host may have. Slow to compile.
LAZY_FALLBACKS = ("ansible/module_utils/distro/_distro.py",)
# Reads the archive's own path at import, so it must be imported under the path of its task.
PRELOAD_FIRST = (
    "ansible.module_utils.basic",
    "ansible.module_utils.common.json",
    "ansible.module_utils._internal._errors",
    "ansible.module_utils._internal._traceback",
    "ansible.module_utils._internal._messages",
)
NEVER_PRELOAD = ("ansible.module_utils.common.respawn", "ansible.module_utils._internal._ansiballz")


def may_preload(name):
    """Whether a module may be executed ahead of the children."""
    if name in ("ansible", "ansible.module_utils"):
        return True
    if any(name == never or name.startswith(never + ".") for never in NEVER_PRELOAD):
        return False
    return any(name == prefix or name.startswith(prefix + ".") for prefix in PRELOAD_PREFIXES)


# What is of no use to a module, or keeps what it finds on its import: the host's name (uuid), the time zone (_strptime of 2.7).
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
# What ansible-core's module_utils import of the standard library, in an order in which each finds what it needs.
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
# What the login's two processes both import: once, before they part.
STDLIB_BEFORE_FORK = ("base64", "fcntl", "lzma", "signal")


def import_stdlib(names):
    """Import what is of the standard library among *names*; return how many modules were new."""
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
    """Whether a module belongs to the standard library in *where* (or is built in)."""
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
    """The modules that the runner has imported for its children: {path: hash} of what is in ``sys.modules``.

    *source*: the importers' Files.
    """

    def __init__(self, source):
        self.store, self._source = source.store, source
        self.files = {}
        self._conflicts = {}

    def add(self, manifest, names):
        """Import *names* as *manifest* has them, but for those that conflict with what is warm already.

        Returns how many modules are new.
        """
        before = len(self.files)
        wanted = {}
        for name in sorted(names):
            found = find(manifest, name)
            if found is None:
                continue
            digest = manifest[found[0]]
            if may_preload(name) and self.files.get(found[0], digest) == digest:
                wanted[name] = found[0]
            else:
                self.store.precompile(found[0], digest)
        if not wanted or any(self.files.get(path, digest) != digest for path, digest in manifest.items() if path in self.files):
            return 0
        self._source.mount(manifest)
        try:
            for name in wanted:
                try:
                    __import__(name)
                except (Exception, SystemExit):  # its own task will say why, in its own words
                    unload(name)
        finally:
            sys.path.remove(self._source.root)
        for name in list(sys.modules):
            if name.split(".")[0] == "ansible":
                found = find(manifest, name)
                if found is not None:
                    self.files[found[0]] = manifest[found[0]]
        return len(self.files) - before

    def conflicts(self, digest):
        """Which warm modules a child with the manifest *digest* must forget: a list of names, or None for all of ansible's.

        Asked in the runner, before the fork: a child that looked itself would have to touch, and so copy, every page they are on.
        """
        found = self._conflicts.get((digest, len(self.files)))
        if found is None:
            manifest = self.store.manifest(digest)
            found = [module_name(path) for path in self.files if path not in manifest]
            if any(manifest.get(path, own_digest) != own_digest for path, own_digest in self.files.items()):
                found = [None]
            self._conflicts[digest, len(self.files)] = found
        return None if found == [None] else found


def unload_all(names):
    """In a child: forget these modules; None is all of ansible's, which makes it a cold start."""
    if names is None:
        names = [name for name in list(sys.modules) if name == "ansible" or name.startswith("ansible.")]
    for name in names:
        unload(name)


def unload(name):
    """Drop a module from ``sys.modules`` and from its parent package."""
    sys.modules.pop(name, None)
    parent, _, leaf = name.rpartition(".")
    parent_module = sys.modules.get(parent)
    if parent_module is not None:
        try:
            delattr(parent_module, leaf)
        except AttributeError:
            pass


def clear_line_cache():
    """Tracebacks of a child must show its own task's lines."""
    linecache.clearcache()
