"""Cache of module payloads across runs.

In every run Ansible builds the payload of each module anew: a tenth of a second for the first, half as much for each other,
before anything is sent. Here the main process of a run stores the payloads at its end, in a directory of the user
(``~/.ansible/pmitogen``). The first worker of a later run that is about to build a payload restores them into Ansible's cache.

A payload is restored only if Ansible would build the same again: its source files, their directories and the builder itself have
unchanged time stamps, and no ``module_utils`` may replace ansible-core's. It is stored only if it was built from files of
ansible-core and of the module's collection. It contains no data of a task: parameters are added later.

Payloads are code that runs on targets. So the directory must belong to the user and be closed to all others. Each payload must be
complete, and a regular file with one name that no other user can write to. Ansible's own cache uses pickle; this one uses JSON
and an archive, from which a new pickle is written for Ansible. ``PMITOGEN_PRELOAD=0`` disables the cache. It needs ansible-core
2.19 or later.
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

from pmitogen.ansible.preload.prebuild import ansiballz_cache_dir, has_module_utils, playbook_paths
from pmitogen.ansible.preload.shared_state import SharedState
from pmitogen.util import atomic_file, private_directory, trusted_path

CACHE_DIR = "pmitogen"  # in ANSIBLE_HOME
LOCK = "pmitogen.lock"  # in the run's own cache: locked while payloads are restored, and not empty afterwards
MAX_STORED = 64  # payloads
MAX_RESTORED = 32  # payloads for one run
MAX_ENTRY_SIZE = 4 << 20  # bytes
STALE_AFTER = 3600.0  # seconds after which an unfinished file was left by a run that has ended
_FORMAT = 2
_COLLECTION = re.compile(r"ansible_collections\.\w+\.\w+(?=\.plugins\.)")
# "none": built without a debugger.
_MODULE_CACHE_NAME = re.compile(rf"(?:ansible\.modules|{_COLLECTION.pattern}\.plugins\.modules)\.[\w.]+-ZIP_\w+-none")
_BUILDER = (module_common, release)
_FIELDS, _METADATA = ["zip_data", "metadata", "source_mapping"], ["serialization_profile"]  # of _CachedModule
_GENERATED = ("ansible/__init__.py", "ansible/module_utils/__init__.py")  # the builder writes these itself
_CORE = os.path.dirname(os.path.abspath(str(ansible.__file__)))


def restore(state: SharedState) -> None:
    """Restore stored payloads, in a worker that is about to build one, unless another worker has done so. Never raises."""
    with contextlib.suppress(Exception):
        if hasattr(module_common, "_CachedModule"):
            os.makedirs(ansiballz_cache_dir(), exist_ok=True)
            with _locked(os.path.join(ansiballz_cache_dir(), LOCK)) as lock:  # other workers wait, and then find the payloads
                if not os.read(lock, 1):
                    os.write(lock, b"restored\n")
                    _restore_all()
    state.payloads_restored = True  # also if there was nothing to restore: no worker looks again


def store() -> None:
    """Store new payloads for later runs. Never raises.

    The main process calls this at its end; without one that forks workers (``ansible``), each worker does.
    """
    with contextlib.suppress(Exception):
        entries = {entry: name for name in os.listdir(ansiballz_cache_dir()) if (entry := _cache_name(name))}
        if not entries:
            return
        with _open_cache_dir(create=True) as cache_dir:
            new = entries.keys() - set(os.listdir(cache_dir))
            for entry in new:
                with contextlib.suppress(Exception):
                    _store_one(cache_dir, entry, entries[entry])
            if new:
                _prune(cache_dir)


@contextlib.contextmanager
def _locked(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with contextlib.suppress(OSError):  # a filesystem without locks: other workers may build the same payload
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _open_cache_dir(create: bool) -> Iterator[int]:
    """Open the directory of stored payloads. Raises OSError if it does not exist, or if other users could change it."""
    home = os.path.expanduser(str(constants.config.get_config_value("ANSIBLE_HOME")))
    path = os.path.join(home, CACHE_DIR)
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
def _installation_key(root: str | None) -> str:
    """Return a key for this installation of ansible-core, because machines with other installations may share a home.

    *root*: the path of the module's collection; None: it is of ansible-core.
    """
    core = [_FORMAT, release.__version__, _CORE, sys.implementation.cache_tag, _file_signature(str(release.__file__))]
    return hashlib.sha256(json.dumps([core, root]).encode()).hexdigest()[:16]


def _cache_name(name: str) -> str | None:
    """Return the stored name of the payload *name* in Ansible's cache; None if it is not to be stored."""
    if not _MODULE_CACHE_NAME.fullmatch(name):
        return None
    collection = _collection(name)
    root = _collection_path(collection) if collection else None
    return f"{_installation_key(root)}-{name}" if root or not collection else None


def _collection(name: str) -> str:
    """Return the Python name of the module's collection; "" for ansible-core."""
    match = _COLLECTION.match(name)
    return match.group() if match else ""


def _collection_path(collection: str) -> str | None:
    """Return the path from which this process loaded a collection, or None."""
    places = list(getattr(sys.modules.get(collection), "__path__", ()))
    return str(places[0]) if len(places) == 1 else None


# Restoring


def _restore_all() -> None:
    if not _has_only_core_module_utils():
        return
    with _open_cache_dir(create=False) as cache_dir:
        entries = [entry for entry in os.listdir(cache_dir) if entry == _cache_name(entry.partition("-")[2])]
        entries.sort(key=lambda entry: os.stat(entry, dir_fd=cache_dir, follow_symlinks=False).st_mtime, reverse=True)
        for entry in entries[:MAX_RESTORED]:
            with contextlib.suppress(OSError):
                _restore_one(cache_dir, entry)


def _restore_one(cache_dir: int, entry: str) -> None:
    payload = _read_entry(cache_dir, entry)
    if payload is None:
        os.unlink(entry, dir_fd=cache_dir)  # it will never be valid again
        return
    path = os.path.join(ansiballz_cache_dir(), entry.partition("-")[2])
    if not os.path.exists(path):
        payload.dump(path)


def _read_entry(cache_dir: int, entry: str) -> Any:
    """Return the stored payload in Ansible's form if it is complete and a new build would be equal; otherwise None."""
    try:
        with open(trusted_path.open_own(entry, dir_fd=cache_dir), "rb") as stream:
            head, _, data = stream.read(MAX_ENTRY_SIZE).partition(b"\n")
        header = json.loads(head)
        sound = header["sha256"] == _digest(header, data)
        sources = header["sources"]
        complete = all(str(module.__file__) in sources for module in _BUILDER)
        same = all(_file_signature(path) == tuple(state) for path, state in sources.items())
        return _from_text(header, data) if sound and complete and same else None
    except (trusted_path.UntrustedPath, ValueError, KeyError, TypeError, AttributeError):
        return None


def _digest(header: dict[str, Any], data: bytes) -> str:
    text = json.dumps([header["profile"], header["mapping"], header["sources"]], sort_keys=True).encode()
    return hashlib.sha256(text + data).hexdigest()


def _from_text(header: dict[str, Any], data: bytes) -> Any:
    """Make an object of Ansible's cache from JSON values. Raises ValueError, TypeError."""
    mapping = header["mapping"]
    if not isinstance(header["profile"], str) or not all(isinstance(word, str) for item in mapping.items() for word in item):
        raise ValueError
    metadata = module_common.ModuleMetadataV1(serialization_profile=header["profile"])
    return module_common._CachedModule(zip_data=data, metadata=metadata, source_mapping=mapping)


def _to_text(payload: Any) -> dict[str, Any]:
    """Return the JSON values of such an object, without its archive. Raises TypeError if it has other values."""
    fields = [field.name for field in dataclasses.fields(payload)], [field.name for field in dataclasses.fields(payload.metadata)]
    if fields != (_FIELDS, _METADATA) or type(payload.metadata) is not module_common.ModuleMetadataV1:
        raise TypeError
    return {"profile": payload.metadata.serialization_profile, "mapping": payload.source_mapping}


@functools.cache
def _file_signature(path: str) -> tuple[int, ...]:
    """Return values that change whenever a file changes, or a file is added to or removed from a directory."""
    try:
        status = os.stat(path)
    except OSError:
        return ()
    if stat.S_ISDIR(status.st_mode):
        return (status.st_mtime_ns,)
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size


def _has_only_core_module_utils() -> bool:
    """Return True if ansible-core has the only non-empty ``module_utils``, including those that the run may still load."""
    own = os.path.dirname(str(module_utils.__file__))
    for path in module_utils_loader._get_paths(subdirs=False):
        if os.path.isdir(path) and not os.path.samefile(path, own) and os.listdir(path):
            return False
    return not (playbook_paths() and has_module_utils(playbook_paths()))


# Storing


def _store_one(cache_dir: int, entry: str, name: str) -> None:
    payload = module_common._CachedModule.load(os.path.join(ansiballz_cache_dir(), name))
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(payload.zip_data))) as archive:
        members = [member for member in archive.infolist() if member.filename not in _GENERATED]
    collection = _collection(name)
    root = _collection_path(collection) or ""
    files = {_source_path(member.filename, collection, root): member for member in members}
    more = [*_builder_files(), *([os.path.join(root, "meta", "runtime.yml")] if collection else [])]
    states = {source: _file_signature(source) for source in [*files, *map(os.path.dirname, files), *more]}
    for source, member in files.items():
        if not states[source] and not member.file_size and source.endswith("/__init__.py"):
            continue  # a package without such a file: the builder adds one
        with open(source, "rb") as stream:
            if zlib.crc32(stream.read()) != member.CRC:
                return  # not what Ansible would take, or no longer
    header = {**_to_text(payload), "sources": states}
    head = json.dumps({**header, "sha256": _digest(header, payload.zip_data)}).encode() + b"\n"
    if len(head) + len(payload.zip_data) <= MAX_ENTRY_SIZE:
        with atomic_file.create(entry, dir_fd=cache_dir) as stream:
            stream.write(head + payload.zip_data)


def _source_path(member: str, collection: str, root: str) -> str:
    """Return the source file of a member of a payload's archive. Raises ValueError if it is from another collection."""
    if member.startswith("ansible/"):
        return os.path.join(os.path.dirname(_CORE), member)
    own = collection.replace(".", "/") + "/"
    if not root or not (member.startswith(own) or own.startswith(member.removesuffix("__init__.py"))):  # or of the packages above
        raise ValueError(member)
    return os.path.join(root.removesuffix("/" + own[:-1]), member)


def _builder_files() -> list[str]:
    """Return the files of Ansible's builder."""
    return [
        str(module.__file__)
        for name, module in list(sys.modules.items())
        if name.startswith("ansible._internal._ansiballz") or module in _BUILDER
        if getattr(module, "__file__", None)
    ]


def _prune(cache_dir: int) -> None:
    """Remove all but the newest payloads, and unfinished files of processes that were stopped while writing."""
    ages = {}
    for entry in os.listdir(cache_dir):
        with contextlib.suppress(OSError):
            ages[entry] = os.stat(entry, dir_fd=cache_dir, follow_symlinks=False).st_mtime
    whole = sorted((entry for entry in ages if not entry.startswith(".")), key=ages.__getitem__)
    strays = [entry for entry in ages if entry.startswith(".") and ages[entry] < time.time() - STALE_AFTER]
    for entry in strays + whole[:-MAX_STORED]:
        with contextlib.suppress(OSError):
            os.unlink(entry, dir_fd=cache_dir)
