"""Imports modules from memory as Python imports them from a zip archive.

The files of a task are in no directory. The path of an archive (``PayloadFiles.root``) is on ``sys.path``, as over ssh. A hook in
``sys.path_hooks`` returns an :class:`Importer` for this path and each path below it. It does what ``zipimport.zipimporter``
does, with both import protocols (PEP 302 for Python 2.7, PEP 451 for 3.x), so that ``pkgutil``, ``importlib.resources``,
``inspect``, ``runpy`` and tracebacks work as they do over ssh. Where possible the archive exists (see archive.py), for programs
that a module starts.
"""

from __future__ import absolute_import

import sys
import types
import zipimport

from pmitogen.protocol.framing import PY2
from pmitogen.target.payload import archive

MYPY = False
if MYPY:
    from types import CodeType, ModuleType  # noqa: F401
    from typing import Dict, Iterable, Iterator, Optional, Set, Tuple, Union  # noqa: F401
    from pmitogen.target.payload.module_cache import ModuleStore  # noqa: F401
    from pmitogen.target.types import Json, Manifest, Module  # noqa: F401

if not PY2:
    from importlib._bootstrap_external import _fix_up_module  # type: ignore[attr-defined]
    from importlib.machinery import ModuleSpec, SourceFileLoader

ROOT = "/pmitogen/payload.zip"  # the archive's path where there is none


class PayloadFiles(object):
    """The files of one payload and the path of their archive. Shared by all importers of a process.

    ``used`` are the names of the modules whose code was requested.
    """

    def __init__(self, store):
        # type: (ModuleStore) -> None
        self.store = store
        self.default_root = self.root = store.root  # a task may have another archive than the modules imported before it
        self.manifest = {}  # type: Manifest
        self.used = set()  # type: Set[str]

    def mount(self, manifest, root=None):
        # type: (Manifest, Optional[str]) -> None
        """Replace the files by those of *manifest*, and put them first on ``sys.path``."""
        self.manifest, self.root, self.used = dict(manifest), root or self.default_root, set()
        self.manifest[archive.SITECUSTOMIZE] = archive.SITECUSTOMIZE
        self.store.blobs[archive.SITECUSTOMIZE] = archive.sitecustomize(self.root)
        if self.hook not in sys.path_hooks:
            sys.path_hooks.insert(0, self.hook)
        sys.path.insert(0, self.root)
        sys.path_importer_cache.pop(self.root, None)

    def hook(self, path):
        # type: (str) -> Importer
        """Return the importer of a directory, for ``sys.path_hooks``. Raises ImportError."""
        for root in (self.root, self.default_root):
            if (path + "/").startswith(root + "/"):
                return Importer(self, (path[len(root) + 1 :] + "/").lstrip("/"))
        raise ImportError(path)

    def read(self, path):
        # type: (str) -> bytes
        """Return the content of a file. Raises KeyError."""
        return self.store.blobs[self.manifest[path]]


class Importer(object):
    """Finder and loader of the modules in one directory. *prefix*: its path in the archive, with a slash at the end."""

    def __init__(self, files, prefix=""):
        # type: (PayloadFiles, str) -> None
        self._source = files
        self.prefix = prefix

    @property
    def archive(self):
        # type: () -> str
        return self._source.root

    def __repr__(self):
        # type: () -> str
        return '<Importer "%s/%s">' % (self.archive, self.prefix)

    def _seek(self, fullname):
        # type: (str) -> Optional[Module]
        """Return (path, is_package) of a module, or None."""
        return find(self._source.manifest, self.prefix + (fullname.rpartition(".")[2] if self.prefix else fullname))

    def _find(self, fullname):
        # type: (str) -> Module
        module = self._seek(fullname)
        if module is None:
            raise zipimport.ZipImportError("can't find module %r" % (fullname,))
        return module

    # PEP 451, as in zipimport since Python 3.10
    if sys.version_info >= (3, 10):

        def find_spec(self, fullname, path=None, target=None):
            # type: (str, object, object) -> Optional[ModuleSpec]
            module = self._seek(fullname)
            if module is None:
                return None
            origin = self.archive + "/" + module[0]
            spec = ModuleSpec(fullname, self, origin=origin, is_package=module[1])  # type: ignore[arg-type] # of both protocols
            spec.has_location = True
            if module[1]:
                spec.submodule_search_locations = [origin.rpartition("/")[0]]
            return spec

        def create_module(self, spec):
            # type: (ModuleSpec) -> None
            return None

        exec_module = SourceFileLoader.exec_module  # calls get_code; unlike a function here, it is in no traceback

        def invalidate_caches(self):
            # type: () -> None
            pass

    # PEP 302
    def find_module(self, fullname, path=None):
        # type: (str, object) -> Optional[Importer]
        return self if self._seek(fullname) else None

    def load_module(self, fullname):
        # type: (str) -> ModuleType
        path, is_package = self._find(fullname)
        known = sys.modules.get(fullname)
        module = sys.modules[fullname] = known or types.ModuleType(fullname)
        module.__file__ = self.archive + "/" + path
        module.__loader__ = self
        if is_package:
            module.__path__ = [module.__file__.rpartition("/")[0]]
        try:
            if PY2:
                module.__package__ = None
            else:
                _fix_up_module(module.__dict__, fullname, module.__file__)
            exec(self.get_code(fullname), module.__dict__)
        except BaseException:
            if known is None:
                sys.modules.pop(fullname, None)
            raise
        return sys.modules[fullname]

    # For runpy, inspect, pkgutil, linecache and importlib.resources
    def is_package(self, fullname):
        # type: (str) -> bool
        return self._find(fullname)[1]

    def get_filename(self, fullname):
        # type: (str) -> str
        return self.archive + "/" + self._find(fullname)[0]

    def get_code(self, fullname):
        # type: (str) -> CodeType
        path = self._find(fullname)[0]
        self._source.used.add(module_name(path))
        return self._source.store.code(self._source.manifest[path], path, self.archive)

    def get_source(self, fullname):
        # type: (str) -> str
        data = self._source.read(self._find(fullname)[0])
        if PY2:
            return data
        return data.decode("utf-8", "replace")

    def get_data(self, path):
        # type: (str) -> bytes
        """Return the content of a file, by its full path or its path in the archive."""
        for root in (self._source.root, self._source.default_root):
            if path.startswith(root + "/"):
                path = path[len(root) + 1 :]
        try:
            return self._source.read(path)
        except KeyError:
            raise IOError(0, "", path)

    def iter_modules(self, prefix=""):
        # type: (str) -> Iterator[Module]
        """Yield (name, is_package) of each module here, as pkgutil does for an archive: in Python 2 packages have no prefix."""
        seen = {"__init__"}
        for path in sorted(self._source.manifest):
            name, _, rest = path[len(self.prefix) :].partition("/")
            if not path.startswith(self.prefix) or rest not in ("", "__init__.py") or not (rest or name.endswith(".py")):
                continue
            name = name if rest else name[:-3]
            if name not in seen and "." not in name:
                seen.add(name)
                yield ("" if rest and PY2 else prefix) + name, bool(rest)

    def get_resource_reader(self, fullname):
        # type: (str) -> Json
        """Return the object with which ``importlib.resources`` reads a package's files: that for archives (Python 3.7)."""
        if sys.version_info < (3, 8):
            from importlib.resources import _zipimport_get_resource_reader as get
        else:
            get = zipimport.zipimporter.get_resource_reader  # type: Json
        reader = get(self, fullname)  # type: Json
        if reader is not None and sys.version_info >= (3, 10):
            import io
            import zipfile

            files = self._source
            reader.archive = zipfile.ZipFile(io.BytesIO(archive.build_zip((name, files.read(name)) for name in files.manifest)))
            reader.archive.filename = files.root
        return reader

    @property
    def _files(self):
        # type: () -> Manifest
        """The paths in the archive, for that reader."""
        return self._source.manifest


def find(manifest, fullname):
    # type: (Manifest, str) -> Optional[Module]
    """Return (path, is_package) of a module in a manifest, or None."""
    base = fullname.replace(".", "/")
    for end, is_package in (("/__init__.py", True), (".py", False)):
        if base + end in manifest:
            return base + end, is_package
    return None


def module_name(path):
    # type: (str) -> str
    """Return the name of the module at *path* in a manifest."""
    return (path[: -len("/__init__.py")] if path.endswith("/__init__.py") else path[:-3]).replace("/", ".")
