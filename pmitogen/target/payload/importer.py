"""Modules imported from memory as Python imports them from a zip archive.

The files of a task lie in no directory. The interpreter is told that they are in an archive, whose path (``Files.root``) is on
``sys.path`` as over ssh; our hook in ``sys.path_hooks`` claims that path, and each one below it, and gives an :class:`Importer`
for it. This does what ``zipimport.zipimporter`` does, under both import protocols (PEP 302 for Python 2.7, PEP 451 after it), so
that ``pkgutil``, ``importlib.resources``, ``inspect``, ``runpy`` and tracebacks work as they do over ssh. Where possible, the
archive exists as well (see archive.py), for programs that a module starts.
"""

from __future__ import absolute_import

import sys
import types
import zipimport

from pmitogen.target.payload import archive

if str is not bytes:
    from importlib._bootstrap_external import _fix_up_module
    from importlib.machinery import ModuleSpec

ROOT = "/pmitogen/payload.zip"  # the archive's path where there is none


class PayloadFiles(object):
    """The files of one payload, {path: hash}, and where they seem to be. Used by all importers of a process.

    ``used`` collects the names of the modules whose code was asked for.
    """

    def __init__(self, store):
        self.store = store
        self.default_root = self.root = store.root  # a task may have another than what was imported ahead of it
        self.manifest = {}
        self.used = set()

    def mount(self, manifest, root=None):
        """These are the files now; have Python look for modules among them before it looks anywhere else."""
        self.manifest, self.root, self.used = dict(manifest), root or self.default_root, set()
        self.manifest[archive.SITECUSTOMIZE] = archive.SITECUSTOMIZE
        self.store.blobs[archive.SITECUSTOMIZE] = archive.sitecustomize(self.root)
        if self.hook not in sys.path_hooks:
            sys.path_hooks.insert(0, self.hook)
        sys.path.insert(0, self.root)
        sys.path_importer_cache.pop(self.root, None)

    def hook(self, path):
        """The importer of a directory, for ``sys.path_hooks``."""
        for root in (self.root, self.default_root):
            if (path + "/").startswith(root + "/"):
                return Importer(self, (path[len(root) + 1 :] + "/").lstrip("/"))
        raise ImportError(path)

    def read(self, path):
        """The content of a file. Raises KeyError."""
        return self.store.blobs[self.manifest[path]]


class Importer(object):
    """Finder and loader of the modules in one directory; *prefix* is its path in the archive, with a slash at the end."""

    def __init__(self, files, prefix=""):
        self._source = files
        self.prefix = prefix

    @property
    def archive(self):
        return self._source.root

    def __repr__(self):
        return '<Importer "%s/%s">' % (self.archive, self.prefix)

    def _seek(self, fullname):
        """Return (path, is_package) of a module, or None."""
        return find(self._source.manifest, self.prefix + (fullname.rpartition(".")[2] if self.prefix else fullname))

    def _find(self, fullname):
        found = self._seek(fullname)
        if found is None:
            raise zipimport.ZipImportError("can't find module %r" % (fullname,))
        return found

    # PEP 451, as in zipimport since Python 3.10
    if sys.version_info >= (3, 10):

        def find_spec(self, fullname, path=None, target=None):
            found = self._seek(fullname)
            if found is None:
                return None
            spec = ModuleSpec(fullname, self, origin=self.archive + "/" + found[0], is_package=found[1])
            spec.has_location = True
            if found[1]:
                spec.submodule_search_locations = [spec.origin.rpartition("/")[0]]
            return spec

        def create_module(self, spec):
            return None

        def exec_module(self, module):
            exec(self.get_code(module.__name__), module.__dict__)

        def invalidate_caches(self):
            pass

    # PEP 302
    def find_module(self, fullname, path=None):
        return self if self._seek(fullname) else None

    def load_module(self, fullname):
        path, is_package = self._find(fullname)
        known = sys.modules.get(fullname)
        module = sys.modules[fullname] = known or types.ModuleType(fullname)
        module.__file__ = self.archive + "/" + path
        module.__loader__ = self
        if is_package:
            module.__path__ = [module.__file__.rpartition("/")[0]]
        try:
            if str is bytes:
                module.__package__ = None
            else:
                _fix_up_module(module.__dict__, fullname, module.__file__)
            exec(self.get_code(fullname), module.__dict__)
        except BaseException:
            if known is None:
                sys.modules.pop(fullname, None)
            raise
        return sys.modules[fullname]

    # What runpy, inspect, pkgutil, linecache and importlib.resources ask for
    def is_package(self, fullname):
        return self._find(fullname)[1]

    def get_filename(self, fullname):
        return self.archive + "/" + self._find(fullname)[0]

    def get_code(self, fullname):
        path = self._find(fullname)[0]
        self._source.used.add(module_name(path))
        return self._source.store.code(self._source.manifest[path], path, self.archive)

    def get_source(self, fullname):
        data = self._source.read(self._find(fullname)[0])
        return data if str is bytes else data.decode("utf-8", "replace")

    def get_data(self, path):
        """The content of a file, by its path, or by that in the archive."""
        for root in (self._source.root, self._source.default_root):
            if path.startswith(root + "/"):
                path = path[len(root) + 1 :]
        try:
            return self._source.read(path)
        except KeyError:
            raise (IOError if str is bytes else OSError)(0, "", path)

    def iter_modules(self, prefix=""):
        """(name, is_package) of each module here, as pkgutil lists an archive's: in Python 2 without the prefix of packages."""
        seen = {"__init__"}
        for path in sorted(self._source.manifest):
            name, _, rest = path[len(self.prefix) :].partition("/")
            if not path.startswith(self.prefix) or rest not in ("", "__init__.py") or not (rest or name.endswith(".py")):
                continue
            name = name if rest else name[:-3]
            if name not in seen and "." not in name:
                seen.add(name)
                yield ("" if rest and str is bytes else prefix) + name, bool(rest)

    def get_resource_reader(self, fullname):
        """What ``importlib.resources`` reads a package's files with (Python 3.7 on): that for archives, over our files."""
        if sys.version_info < (3, 8):
            from importlib.resources import _zipimport_get_resource_reader as get
        else:
            get = zipimport.zipimporter.get_resource_reader
        found = get(self, fullname)
        if found is not None and sys.version_info >= (3, 10):
            import io
            import zipfile

            files = self._source
            found.archive = zipfile.ZipFile(io.BytesIO(archive.build_zip((name, files.read(name)) for name in files.manifest)))
            found.archive.filename = files.root
        return found

    @property
    def _files(self):
        """The paths in the archive, for that reader."""
        return self._source.manifest


def find(manifest, fullname):
    """Return (path, is_package) of a module in a manifest, or None."""
    base = fullname.replace(".", "/")
    for end, is_package in (("/__init__.py", True), (".py", False)):
        if base + end in manifest:
            return base + end, is_package
    return None


def module_name(path):
    """The module that a path in a manifest is the source of."""
    return (path[: -len("/__init__.py")] if path.endswith("/__init__.py") else path[:-3]).replace("/", ".")
