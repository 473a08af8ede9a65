"""Runs a Python payload in a forked child, as a new interpreter would run it."""

from __future__ import absolute_import

import atexit
import io
import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import types

from pmitogen.protocol.framing import PY2
from pmitogen.target.fork import change_environment
from pmitogen.target.payload import archive, importer, module_cache

MYPY = False
if MYPY:
    from types import TracebackType  # noqa: F401
    from typing import Any, Callable, Dict, List, Optional, Set, Type  # noqa: F401
    from pmitogen.target.payload.module_cache import ModuleStore  # noqa: F401
    from pmitogen.target.types import Header, Json, Manifest, Report, Task  # noqa: F401

RESPAWN_MODULE = "ansible/module_utils/common/respawn.py"
# References that must not be dropped: a stream object would close descriptor 1 under its successor, a module clear its globals.
_retained = []  # type: List[object]
_own_modules = {}  # type: Dict[int, List[str]] # the number of all modules, and the names of pmitogen's


def prepare_streams():
    # type: () -> None
    """Prepare for any payload: open fresh text streams, restore SIGINT."""
    _retained.extend([sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__])
    if PY2:
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0, "r"), os.fdopen(1, "w"), os.fdopen(2, "w", 0)
    else:
        encoding = getattr(sys.__stdout__, "encoding", None) or "utf-8"  # as this interpreter gave its own
        sys.stdin = io.open(0, "r", encoding=encoding, errors="surrogateescape", closefd=False)
        sys.stdout = io.open(1, "w", encoding=encoding, errors="surrogateescape", closefd=False)
        sys.stderr = io.open(2, "w", encoding=encoding, errors="backslashreplace", closefd=False, buffering=1)
        streams = ((sys.stdin, "<stdin>"), (sys.stdout, "<stdout>"), (sys.stderr, "<stderr>"))  # type: Any
        for stream, name in streams:
            stream.buffer.raw.name = name
    for name in ("stdin", "stdout", "stderr"):
        setattr(sys, "__%s__" % name, getattr(sys, name))
    signal.signal(signal.SIGINT, signal.default_int_handler)


class StatusReport(object):
    """Reports the exit status to the runner on *fd* shortly before the child exits, and its imports if these are recorded.

    So the answer need not wait until the kernel has ended the process. A process that the child has forked may end in the same
    code; only the child itself reports. Best effort: the module may have closed the descriptor or opened another one there.
    """

    def __init__(self, fd):
        # type: (int) -> None
        self._fd = fd
        self._pid = os.getpid()
        self._pipe = os.fstat(fd)
        self.names = {}  # type: Report

    def send(self, status):
        # type: (int) -> None
        """Report *status*. Nothing may be written to stdout and stderr after that."""
        try:
            status_now = os.fstat(self._fd)
            if os.getpid() != self._pid or (status_now.st_dev, status_now.st_ino) != (self._pipe.st_dev, self._pipe.st_ino):
                return
            os.write(self._fd, json.dumps(dict(self.names, status=status & 255)).encode("ascii") + b"\n")
            os.close(2)
            os.close(1)
        except OSError:
            pass


def run_payload(files, task, report_fd):
    # type: (importer.PayloadFiles, Task, int) -> None
    """Run a module as its own program. Does not return.

    *task*: the request's header, which names the module; its parameters, JSON in bytes; the preloaded modules to unload; whether
    to report imported modules; whether the runner's archive contains the module's files.
    """
    header, parameters, conflicts, record_imports, in_archive = task
    report = StatusReport(report_fd)
    manifest = files.store.manifest(header["manifest"])
    module_cache.unload_all(conflicts)
    needs_archive = not in_archive and (files.default_root != importer.ROOT or RESPAWN_MODULE in manifest)
    files.mount(manifest, own_archive(files.store, manifest) if needs_archive else None)
    if header["generation"] == "call":  # one of pmitogen's modules is among the files
        sys.meta_path.insert(0, importer.Importer(files))
    else:
        hide_own_modules()
    module_cache.clear_line_cache()
    before = set(sys.modules) if record_imports else set()
    sys.argv = [""]
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
    status, failure = 1, None  # type: int, Any
    try:
        change_environment(header.get("env") or {})
        reset_timezone_and_random()
        limit_open_files(header.get("nofile"))
        try:
            os.getcwd()
        except OSError:
            os.chdir("/")
        STARTERS[header["generation"]](header, parameters, files.root)
        status = 0
    except SystemExit as exc:
        status = exit_status(exc)
    except BaseException:
        failure = sys.exc_info()
    if failure is not None:  # only now: an exception hook that fails does so while nothing is being handled
        status = report_uncaught(*failure)
        if failure[0] is KeyboardInterrupt and sys.version_info >= (3, 8):
            status = -signal.SIGINT  # so that the parent knows what ended it
    if record_imports:
        report.names = imported_names(files.used, before)
    finish(status, report)


def own_archive(store, manifest):
    # type: (ModuleStore, Manifest) -> str
    """Return the path of an archive of *manifest* for this process alone: in memory, else a file that is removed at its end."""
    try:
        fd = archive.memory_file()
        path = "/proc/%d/fd/%d" % (os.getpid(), fd)
        if not os.access(path, os.R_OK):
            raise OSError(path)
    except (OSError, AttributeError, ImportError):
        fd, path = tempfile.mkstemp("_payload.zip", "ansible_")
        atexit.register(os.unlink, path)
    archive.write(fd, [(name, store.blobs[digest]) for name, digest in manifest.items()], path)
    return path


def own_modules():
    # type: () -> List[str]
    """Return the names of pmitogen's modules. Called before the fork too: a child would copy the page of every module's name."""
    count = len(sys.modules)
    if count not in _own_modules:
        _own_modules.clear()
        _own_modules[count] = [name for name in sys.modules if name.partition(".")[0] == "pmitogen"]
    return _own_modules[count]


def hide_own_modules():
    # type: () -> None
    """Remove pmitogen's modules, and what finds them, from the module's view."""
    for name in own_modules():
        _retained.append(sys.modules.pop(name))
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, importer.Importer)]


def reset_timezone_and_random():
    # type: () -> None
    """Read the time zone again, and seed the random numbers differently from those of other children."""
    zone = os.environ.pop("TZ", None)
    time.tzset()  # another zone first: the C library does not read a zone again whose name is the same
    if zone is not None:
        os.environ["TZ"] = zone
        time.tzset()
    if sys.version_info < (3, 7) and "random" in sys.modules:
        sys.modules["random"].seed()


def limit_open_files(limit):
    # type: (Optional[int]) -> None
    if limit:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        limit = limit if hard == resource.RLIM_INFINITY else min(hard, limit)
        if limit != soft:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            except ValueError:
                pass


def _run_module(header, parameters, root):
    # type: (Header, bytes, str) -> None
    """Start a payload of ansible-core 2.16 to 2.18: the wrapper itself starts the module."""
    import runpy
    from ansible.module_utils import basic

    basic._ANSIBLE_ARGS = parameters
    names = {"_module_fqn": header["module"], "_modlib_path": root}
    runpy.run_module(mod_name=str(header["module"]), init_globals=names, run_name="__main__", alter_sys=True)
    print('{"msg": "New-style module did not handle its own exit", "failed": true}')
    sys.exit(1)


def _run_loader(header, parameters, root):
    # type: (Header, bytes, str) -> None
    """Start a payload of ansible-core 2.19 and later: the archive contains the function that starts the module.

    Arguments that releases since then have added are the last bytes of the body, since they may be secret: ``keywords_size`` is
    their size, and pmitogen/ansible/ansiballz.py says how they are written.
    """
    from ansible.module_utils._internal._ansiballz import _loader

    size, more = header.get("keywords_size", 0), {}
    if size:
        parameters, typed = parameters[:-size], json.loads(parameters[-size:].decode("ascii"))
        more = dict((name, EXTRA_TYPES[kind](value) if kind else value) for name, (kind, value) in typed.items())
    _loader.run_module(
        json_params=parameters, profile=header["profile"], module_fqn=header["module"], modlib_path=root, extensions={}, **more
    )


def _call_function(header, parameters, root):
    # type: (Header, bytes, str) -> None
    """Call a function of the program that uses the library. remote_call.py came with it: hosts of playbooks do not need it."""
    from pmitogen.target.payload import remote_call

    remote_call.run(header, parameters)


EXTRA_TYPES = {"frozenset": frozenset, "set": set}  # type: Dict[str, Callable[[Any], object]]  # that JSON does not have
STARTERS = {"runpy": _run_module, "loader": _run_loader, "call": _call_function}


def imported_names(used, before):
    # type: (Set[str], Set[str]) -> Report
    """Return the modules that this child imported, for the runner to preload."""
    names = [name for name in set(sys.modules) - before if sys.modules.get(name) is not None]
    return {"payload": sorted(used), "stdlib": sorted(name for name in names if name not in used)}


def report_uncaught(kind, value, trace):
    # type: (Type[BaseException], BaseException, Optional[TracebackType]) -> int
    """Handle an exception as the interpreter does, without this file's frames. Returns the exit status."""
    trace = strip_own_frames(trace)
    try:
        if callable(sys.excepthook) and sys.excepthook is not sys.__excepthook__:
            sys.excepthook(kind, value, trace)  # the module's own
            return 1
    except SystemExit as exc:
        return exit_status(exc)
    except BaseException:
        sys.stderr.write("Error in sys.excepthook:\n")
        failed, error, hook_trace = sys.exc_info()
        traceback.print_exception(failed, error, strip_own_frames(hook_trace))
        sys.stderr.write("\nOriginal exception was:\n")
    traceback.print_exception(kind, value, trace)
    return 1


def strip_own_frames(trace):
    # type: (Optional[TracebackType]) -> Optional[TracebackType]
    """Return a traceback from the first frame that is not this file's."""
    while trace is not None and trace.tb_frame.f_globals.get("__name__") == __name__:
        trace = trace.tb_next
    return trace


def exit_status(exc):
    # type: (SystemExit) -> int
    """Return the status that the interpreter would give SystemExit."""
    code = exc.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    sys.stderr.write("%s\n" % (code,))
    return 1


def finish(status, report):
    # type: (int, StatusReport) -> None
    """End the child as an interpreter ends: threads joined, exit functions run, globals dropped, streams flushed.

    A negative *status* is a signal's number.
    """
    for step in (getattr(threading, "_shutdown", None), getattr(atexit, "_run_exitfuncs", None)):
        try:
            if step:
                step()
        except BaseException:
            traceback.print_exc()
    try:
        sys.modules["__main__"].__dict__.clear()
    except BaseException:
        pass
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None and not stream.closed:
                stream.flush()
        except BaseException as exc:
            report_flush_error(stream, exc)
            status = status or 120
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    report.send(status)
    os._exit(status)


def report_flush_error(stream, exc):
    # type: (object, BaseException) -> None
    """Say that output was lost, as the interpreter does."""
    try:
        sys.stderr.write("Exception ignored in: %r\n%s: %s\n" % (stream, type(exc).__name__, exc))
        sys.stderr.flush()
    except BaseException:
        pass
