"""Start payloads in forked children.

The runner imports what modules import (see module_cache.py), so that its children need not.
"""

import gc
import os
import sys

from pmitogen.protocol import framing
from pmitogen.target import fork
from pmitogen.target.fds import FdGuard
from pmitogen.target.payload import archive, fast_subprocess, importer, module_cache, run

MYPY = False
if MYPY:
    from typing import Callable, List, Optional, Set  # noqa: F401
    from pmitogen.target.freshness import FreshnessGuard  # noqa: F401
    from pmitogen.target.jobs import Job, ProcessReaper  # noqa: F401
    from pmitogen.target.types import Frame, Header, Manifest, Task  # noqa: F401


class Launcher(object):
    """The modules and children of one runner.

    *preload*: False if nothing is to be done ahead of tasks.
    *own_files*: the files of pmitogen's modules; None if they are not from a bundle.
    *flush*: sends the frames that are queued for the agent.
    """

    def __init__(self, preload, own_files, freshness, reaper, flush):
        # type: (bool, Optional[importer.PayloadFiles], FreshnessGuard, ProcessReaper, Callable[[], object]) -> None
        self._preload_enabled = preload
        self._own_files = own_files
        self._freshness, self._reaper, self._flush = freshness, reaper, flush
        self._archive = archive.Archive()
        self._store = module_cache.ModuleStore(self._archive.path or importer.ROOT)
        self._files = importer.PayloadFiles(self._store)
        self._preloaded = module_cache.PreloadedModules(self._files)
        self._learned_manifests = set()  # type: Set[str] # the imports of their children are preloaded here
        self._exiting_pids = []  # type: List[int] # of children that are about to end

    def receive_blobs(self, header, body):
        # type: (Header, bytes) -> None
        blobs = header["blobs"]
        pieces = framing.split_pieces(blobs + header.get("bytecode", []), body)
        self._store.blobs.update(pieces[: len(blobs)])
        self._store.load_bytecode(header.get("bytecode_tag"), pieces[len(blobs) :])

    def dump_bytecode(self):
        # type: () -> Frame
        """Return the frame with the bytecode that is compiled here."""
        listed, bodies = [], []
        for own, source in ((False, self._files), (True, self._own_files)):
            for digest, path, code in source.store.dump_bytecode() if source else ():
                listed.append([own, digest, path, len(code)])
                bodies.append(code)
        return {"op": "bytecode", "bytecode_tag": module_cache.BYTECODE_TAG, "bytecode": listed}, b"".join(bodies)

    def start(self, header, parameters, running):
        # type: (Header, bytes, List[str]) -> PayloadChild
        """Start a payload. *running*: the manifests of the payloads that run now.

        Raises KeyError if the manifest was not sent, OSError if no child can be started.
        """
        digest = header["manifest"]
        manifest = self._store.manifest(digest)
        if header["generation"] != "call" and self._preload_enabled and not self._preloaded.files:
            self._preload_core(manifest)
        conflicts = self._preloaded.conflicts(digest)
        record_imports = self._preload_enabled and digest not in self._learned_manifests
        if record_imports:
            self._store.precompile_all(manifest)  # here, or this child and the next ones would do it
        self._flush()
        in_archive = self._archive.path is not None and self._archive.write_files(self._store, running + [digest])
        task = (header, parameters, conflicts, record_imports, in_archive)
        return PayloadChild(self._files, task)

    def on_finished(self, job):
        # type: (Job) -> None
        """Handle the end of a job. Its process may still run: a child reports its status shortly before it ends."""
        if not job.is_collected():
            self._exiting_pids.append(job.pid)
        report = job.report or {}
        if job.manifest is not None and "payload" in report:
            self._learned_manifests.add(job.manifest)
            self._flush()  # the answer first
            added = self._preloaded.add(self._store.manifest(job.manifest), report["payload"])
            if added + module_cache.import_stdlib(report["stdlib"]):
                self.freeze_heap()

    def reap(self):
        # type: () -> None
        """Collect the children that were about to end."""
        self._exiting_pids = [pid for pid in self._exiting_pids if self._reaper.collect(pid) is None]

    # Modules
    def _preload_core(self, manifest):
        # type: (Manifest) -> None
        """Import what every module imports: here, or the first child would, and then this process again."""
        gc.disable()
        if self._preloaded.add(manifest, module_cache.PRELOAD_FIRST):
            self.freeze_heap()
            fast_subprocess.preload_locale()
            if "subprocess" in sys.modules:
                fast_subprocess.patch(sys.modules["subprocess"], sys.modules.get("selectors"))
        gc.enable()

    def freeze_heap(self):
        # type: () -> None
        """Exclude all objects from garbage collection, so that children do not copy their pages.

        While the collector is disabled, there are only imports, which make almost no garbage. Then it is not run: it would take
        a tenth of the start.
        """
        self._freshness.watch_imports()
        if hasattr(gc, "freeze"):
            if gc.isenabled():
                gc.collect()
            gc.freeze()


class PayloadChild(object):
    """A fork of the runner that runs one payload, with pipes for its output and its report. Raises OSError."""

    def __init__(self, files, task):
        # type: (importer.PayloadFiles, Task) -> None
        run.own_modules()
        with FdGuard() as guard:
            null_fd, stdout, stderr, report = guard.devnull(), guard.pipe(), guard.pipe(), guard.pipe()

            def work():
                # type: () -> None
                run.prepare_streams()
                run.run_payload(files, task, report[1])

            self.pid = fork.fork(work, null_fd, stdout[1], stderr[1], keep=[report[1]])
        for fd in (null_fd, stdout[1], stderr[1], report[1]):
            os.close(fd)
        self.stdout_fd, self.stderr_fd, self.report_fd = stdout[0], stderr[0], report[0]
