"""Payloads that earlier runs have built, lent to this one.

Every run has Ansible build the payload of each module anew: a tenth of a second for the first, half as much for each other,
before anything is sent. Here the main process of a run, at its end, keeps a copy of what was built, in a folder of the account's
(``~/.ansible/pmitogen``); and the first worker of a later run that is about to build puts the copies where Ansible looks for what
the run has built already.

A copy is lent only where Ansible would make the same again: the files that it was made from, the folders that they lie in and the
builder itself are what they were, to the time when anything was last done to them; and there is no ``module_utils`` that may take
the place of core's. It is kept only if it was made from files of ansible-core and of the collection that the module is from. It
holds nothing of a task's: parameters are added later.

A copy is code that runs on targets, so the folder must be ours and closed to everybody else, and each copy whole, and a regular
file with one name that nobody else can write to. Ansible keeps its own in Python's pickle; ours are JSON and an archive, of which
a new pickle is made for Ansible. ``PMITOGEN_WARM=0`` switches it off, and it is for ansible-core 2.19 and later.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import io
import json
import os
import re
import stat
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import ansible
from ansible import constants, module_utils, release
from ansible.executor import module_common
from ansible.plugins.loader import module_utils_loader

from pmitogen.ansible.preload.prebuild import brings_module_utils, cache, played
from pmitogen.ansible.preload.shared_state import Hosts
from pmitogen.util import atomic_file, private_directory, trusted_path

FOLDER = "pmitogen"  # in ANSIBLE_HOME
LOCK = "pmitogen.lock"  # in the run's own cache: held by whoever lends, and not empty when that has been done
MOST_KEPT, MOST_LENT, LARGEST = 64, 32, 4 << 20
STRAY = 3600.0  # seconds after which an unfinished file is nobody's
_FORMAT = 2
_COLLECTION = re.compile(r"ansible_collections\.\w+\.\w+(?=\.plugins\.)")
_NAME = re.compile(rf"(?:ansible\.modules|{_COLLECTION.pattern}\.plugins\.modules)\.[\w.]+-ZIP_\w+-none")  # no debugger
_BUILDER = (module_common, release)
_FIELDS, _METADATA = ["zip_data", "metadata", "source_mapping"], ["serialization_profile"]  # of _CachedModule, as we know it
_GENERATED = ("ansible/__init__.py", "ansible/module_utils/__init__.py")  # the builder writes these itself
_CORE = os.path.dirname(os.path.abspath(str(ansible.__file__)))


def lend(shared: Hosts) -> None:
    """In a worker that is about to build a payload: find what need not be built, unless another has done so. Never raises."""
    with contextlib.suppress(Exception):
        if hasattr(module_common, "_CachedModule"):
            os.makedirs(cache(), exist_ok=True)
            with _locked(os.path.join(cache(), LOCK)) as lock:  # the others wait, and then need not build
                if not os.read(lock, 1):
                    os.write(lock, b"lent\n")
                    _lend_all()
    shared.lent = True  # also if there was nothing to lend: nobody need look again


def keep() -> None:
    """Keep what is new, for later runs. Never raises.

    In the process that the workers are forked from, at its end; without such a one (``ansible``), in each worker.
    """
    with contextlib.suppress(Exception):
        entries = {entry: name for name in os.listdir(cache()) if (entry := _entry(name))}
        if not entries:
            return
        with _folder(create=True) as folder:
            new = entries.keys() - set(os.listdir(folder))
            for entry in new:
                with contextlib.suppress(Exception):
                    _keep(folder, entry, entries[entry])
            if new:
                _drop_oldest(folder)


@contextlib.contextmanager
def _locked(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.suppress(OSError):  # a filesystem without locks: the others may build in vain
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _folder(create: bool) -> Iterator[int]:
    """The folder of the copies, open. Raises OSError if there is none, or if others could have a hand in it."""
    home = os.path.expanduser(str(constants.config.get_config_value("ANSIBLE_HOME")))
    path = os.path.join(home, FOLDER)
    if create and os.stat(home).st_uid == os.geteuid():
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        private_directory.check(path, os.fstat(fd))
        yield fd
    finally:
        os.close(fd)


@functools.cache
def _key(root: str | None) -> str:
    """Tells the copies of this ansible-core, as it was installed here, from those of any other: machines may share a home.

    *root*: where the collection lies that the module is from.
    """
    core = [_FORMAT, release.__version__, _CORE, sys.implementation.cache_tag, _state(str(release.__file__))]
    return hashlib.sha256(json.dumps([core, root]).encode()).hexdigest()[:16]


def _entry(name: str) -> str | None:
    """How a copy of what Ansible's cache calls *name* is called; None: it is not for us."""
    if not _NAME.fullmatch(name):
        return None
    collection = _collection(name)
    root = _root(collection) if collection else None
    return f"{_key(root)}-{name}" if root or not collection else None


def _collection(name: str) -> str:
    """The collection that the module is from, as Python calls it; empty: it is core's."""
    found = _COLLECTION.match(name)
    return found.group() if found else ""


def _root(collection: str) -> str | None:
    """Where this process has loaded a collection from, if it has."""
    places = list(getattr(sys.modules.get(collection), "__path__", ()))
    return str(places[0]) if len(places) == 1 else None


# Lending


def _lend_all() -> None:
    if not _is_core_alone():
        return
    with _folder(create=False) as folder:
        entries = [entry for entry in os.listdir(folder) if entry == _entry(entry.partition("-")[2])]
        entries.sort(key=lambda entry: os.stat(entry, dir_fd=folder, follow_symlinks=False).st_mtime, reverse=True)
        for entry in entries[:MOST_LENT]:
            with contextlib.suppress(OSError):
                _lend(folder, entry)


def _lend(folder: int, entry: str) -> None:
    payload = _payload(folder, entry)
    if payload is None:
        os.unlink(entry, dir_fd=folder)  # it will never be of use again
        return
    path = os.path.join(cache(), entry.partition("-")[2])
    if not os.path.exists(path):
        payload.dump(path)


def _payload(folder: int, entry: str) -> Any:
    """What is kept under that name, as Ansible has it, if it is whole and would be built the same today; else None."""
    try:
        with open(trusted_path.open_own(entry, dir_fd=folder), "rb") as stream:
            head, _, data = stream.read(LARGEST).partition(b"\n")
        about = json.loads(head)
        sound = about["sha256"] == _digest(about, data)
        sources = about["sources"]
        complete = all(str(module.__file__) in sources for module in _BUILDER)
        same = all(_state(path) == tuple(state) for path, state in sources.items())
        return _from_text(about, data) if sound and complete and same else None
    except (trusted_path.UntrustedPath, ValueError, KeyError, TypeError, AttributeError):
        return None


def _digest(about: dict[str, Any], data: bytes) -> str:
    text = json.dumps([about["profile"], about["mapping"], about["sources"]], sort_keys=True).encode()
    return hashlib.sha256(text + data).hexdigest()


def _from_text(about: dict[str, Any], data: bytes) -> Any:
    """Make what Ansible's cache holds of plain values. Raises ValueError, TypeError."""
    mapping = about["mapping"]
    if not isinstance(about["profile"], str) or not all(isinstance(word, str) for item in mapping.items() for word in item):
        raise ValueError
    metadata = module_common.ModuleMetadataV1(serialization_profile=about["profile"])
    return module_common._CachedModule(zip_data=data, metadata=metadata, source_mapping=mapping)


def _to_text(payload: Any) -> dict[str, Any]:
    """The plain values that such an object holds besides its archive. Raises TypeError where there are others."""
    fields = [field.name for field in dataclasses.fields(payload)], [field.name for field in dataclasses.fields(payload.metadata)]
    if fields != (_FIELDS, _METADATA) or type(payload.metadata) is not module_common.ModuleMetadataV1:
        raise TypeError
    return {"profile": payload.metadata.serialization_profile, "mapping": payload.source_mapping}


@functools.cache
def _state(path: str) -> tuple[int, ...]:
    """What changes when anybody does anything to a file, or adds one to a folder or takes one from it."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    if stat.S_ISDIR(found.st_mode):
        return (found.st_mtime_ns,)
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size


def _is_core_alone() -> bool:
    """Whether core's is the only ``module_utils`` with anything in it, now and in what the run may still load."""
    own = os.path.dirname(str(module_utils.__file__))
    for path in module_utils_loader._get_paths(subdirs=False):
        if os.path.isdir(path) and not os.path.samefile(path, own) and os.listdir(path):
            return False
    return not (played() and brings_module_utils(played()))


# Keeping


def _keep(folder: int, entry: str, name: str) -> None:
    payload = module_common._CachedModule.load(os.path.join(cache(), name))
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(payload.zip_data))) as archive:
        members = [info for info in archive.infolist() if info.filename not in _GENERATED]
    collection = _collection(name)
    root = _root(collection) or ""
    files = {_source(info.filename, collection, root): info for info in members}
    more = [*_builder(), *([os.path.join(root, "meta", "runtime.yml")] if collection else [])]
    states = {source: _state(source) for source in [*files, *map(os.path.dirname, files), *more]}
    for source, info in files.items():
        if not states[source] and not info.file_size and source.endswith("/__init__.py"):
            continue  # a package without such a file: the builder makes it one
        with open(source, "rb") as stream:
            if zlib.crc32(stream.read()) != info.CRC:
                return  # not what Ansible would take, or no longer
    about = {**_to_text(payload), "sources": states}
    head = json.dumps({**about, "sha256": _digest(about, payload.zip_data)}).encode() + b"\n"
    if len(head) + len(payload.zip_data) <= LARGEST:
        with atomic_file.create(entry, dir_fd=folder) as stream:
            stream.write(head + payload.zip_data)


def _source(member: str, collection: str, root: str) -> str:
    """The file that a member of a payload's archive should be a copy of. Raises ValueError if it is of another collection."""
    if member.startswith("ansible/"):
        return os.path.join(os.path.dirname(_CORE), member)
    own = collection.replace(".", "/") + "/"
    if not root or not (member.startswith(own) or own.startswith(member.removesuffix("__init__.py"))):  # or of the packages above
        raise ValueError(member)
    return os.path.join(root.removesuffix("/" + own[:-1]), member)


def _builder() -> list[str]:
    """The files of Ansible's builder."""
    return [
        str(module.__file__)
        for name, module in list(sys.modules.items())
        if name.startswith("ansible._internal._ansiballz") or module in _BUILDER
        if getattr(module, "__file__", None)
    ]


def _drop_oldest(folder: int) -> None:
    """Keep the newest; and nothing that a process left that was stopped while it wrote."""
    ages = {}
    for entry in os.listdir(folder):
        with contextlib.suppress(OSError):
            ages[entry] = os.stat(entry, dir_fd=folder, follow_symlinks=False).st_mtime
    whole = sorted((entry for entry in ages if not entry.startswith(".")), key=ages.__getitem__)
    strays = [entry for entry in ages if entry.startswith(".") and ages[entry] < time.time() - STRAY]
    for entry in strays + whole[:-MOST_KEPT]:
        with contextlib.suppress(OSError):
            os.unlink(entry, dir_fd=folder)
