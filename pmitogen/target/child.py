"""What happens in a forked child: its descriptors, its session, and a Python payload run as a fresh interpreter would run it.

The parent is single-threaded, so everything may be done between fork and exit. ``enter_session`` makes the child a session of its
own with the three standard descriptors it was given and no other; ``execute`` replaces it by a program; ``run_payload``
runs a module from memory and exits. Nothing here returns to the runner's loop.
"""

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

from pmitogen.target import login_state
from pmitogen.target.payload import archive, importer, module_cache
from pmitogen.target.fds import set_cloexec
from pmitogen.protocol.framing import from_wire

RESPAWN_MODULE = "ansible/module_utils/common/respawn.py"
MAX_FD = 4096


def enter_session(stdin_fd, stdout_fd, stderr_fd, tty_fd=None, keep=()):
    """Become a session leader with these standard descriptors; *tty_fd* becomes the controlling terminal.

    Closes all others but those in *keep*, which no program that is executed will inherit.
    """
    os.setsid()
    if tty_fd is not None:
        import fcntl
        import termios

        fcntl.ioctl(tty_fd, termios.TIOCSCTTY, 0)
    signal.set_wakeup_fd(-1)
    for name in ("SIGCHLD", "SIGTERM", "SIGINT", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    # Out of the way first: one of the three may itself be 0, 1 or 2.
    fds = [os.dup(fd) for fd in (stdin_fd, stdout_fd, stderr_fd)]
    while min(fds) < 3:
        fds = [os.dup(fd) for fd in fds]
    for wanted, fd in enumerate(fds):
        os.dup2(fd, wanted)
        if sys.version_info >= (3, 4):
            os.set_inheritable(wanted, True)
    low = 3
    for fd in sorted(keep):
        os.closerange(low, fd)
        set_cloexec(fd)
        low = fd + 1
    os.closerange(low, MAX_FD)


def fork(action, stdin_fd, stdout_fd, stderr_fd, tty_fd=None, keep=()):
    """Fork a child that enters its own session and descriptors, does *work* and ends. Returns its pid. Raises OSError."""
    pid = os.fork()
    if pid == 0:
        error_fd = stderr_fd
        try:
            enter_session(stdin_fd, stdout_fd, stderr_fd, tty_fd, keep)
            error_fd = 2
            action()
        except BaseException:
            report_start_failure(error_fd)
        finally:
            os._exit(1)
    return pid


def change_environment(env):
    """Apply {name: value} as sent over the wire to this process's environment."""
    for name, value in env.items():
        if str is bytes:
            os.environ[from_wire(name)] = from_wire(value)
        else:
            os.environb[from_wire(name)] = from_wire(value)


def reset_timezone_and_random():
    """Read the time zone anew, and have other random numbers than our parent's other children."""
    zone = os.environ.pop("TZ", None)
    time.tzset()  # for another zone first: the C library does not read one again whose name it knows
    if zone is not None:
        os.environ["TZ"] = zone
        time.tzset()
    if sys.version_info < (3, 7) and "random" in sys.modules:
        sys.modules["random"].seed()


def execute(argv, env, cwd=None):
    """Replace the child by a program. Exits 127 or 126, as a shell would, if it cannot be run.

    A program without a name is the account's own shell, called by its bare name, as sshd calls it.
    """
    for name in ("SIGPIPE", "SIGINT", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    argv = [from_wire(arg) for arg in argv]
    program = argv[0]
    state = login_state.read()
    if state is not None:
        state.apply()
        environ = os.environ if str is bytes else os.environb
        environ.clear()
        environ.update(state.environ)
    failing = program
    try:
        change_environment(env)
        if cwd:
            failing = from_wire(cwd)
            os.chdir(failing)
        if not program:
            program = (os.environ if str is bytes else os.environb).get(b"SHELL") or b"/bin/sh"
            argv[0] = os.path.basename(program)
        failing = program
        os.execvp(program, argv)
    except OSError as exc:
        name = failing if str is bytes else os.fsdecode(failing)
        os.write(2, ("%s: %s\n" % (name, exc.strerror)).encode("utf-8", "replace"))
        os._exit(127 if exc.errno == 2 else 126)


# A stream object that loses its last reference may close descriptor 1 under its successor; a module may clear its globals.
_retained = []


def _open_streams():
    """Fresh text streams over descriptors 0-2, with the encodings that this interpreter gave its own."""
    _retained.extend([sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__])
    if str is bytes:
        sys.stdin, sys.stdout, sys.stderr = os.fdopen(0, "r"), os.fdopen(1, "w"), os.fdopen(2, "w", 0)
    else:
        encoding = getattr(sys.__stdout__, "encoding", None) or "utf-8"
        sys.stdin = io.open(0, "r", encoding=encoding, errors="surrogateescape", closefd=False)
        sys.stdout = io.open(1, "w", encoding=encoding, errors="surrogateescape", closefd=False)
        sys.stderr = io.open(2, "w", encoding=encoding, errors="backslashreplace", closefd=False, buffering=1)
        for stream, name in ((sys.stdin, "<stdin>"), (sys.stdout, "<stdout>"), (sys.stderr, "<stderr>")):
            stream.buffer.raw.name = name
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr


def materialize_archive(store, manifest):
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


def hide_own_modules():
    """Let the module see nothing of us: neither our modules under their names, nor what finds them."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "pmitogen"]:
        _retained.append(sys.modules.pop(name))
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, importer.Importer)]


def _set_nofile_limit(wanted):
    if wanted:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        if wanted != soft:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            except ValueError:
                pass


def prepare_streams():
    """What can be done before it is known what to run."""
    _open_streams()
    signal.signal(signal.SIGINT, signal.default_int_handler)


class StatusReport(object):
    """What the child tells the runner on *fd*: its status, a moment before it ends, and what it imported, if anyone is to learn.

    So its answer need not wait until the kernel has taken the process down. A process that the child forked may come to the
    same end as the child; only the child speaks. Best effort: a module may have closed the descriptor, or have another there.
    """

    def __init__(self, fd):
        self._fd = fd
        self._pid = os.getpid()
        self._pipe = os.fstat(fd)
        self.names = {}

    def send(self, status):
        """Say that this process is as good as over, with *status*; nothing may be written to stdout and stderr after that."""
        try:
            found = os.fstat(self._fd)
            if os.getpid() != self._pid or (found.st_dev, found.st_ino) != (self._pipe.st_dev, self._pipe.st_ino):
                return
            os.write(self._fd, json.dumps(dict(self.names, status=status & 255)).encode("ascii") + b"\n")
            os.close(2)
            os.close(1)
        except OSError:
            pass


def run_payload(files, task, report_fd):
    """Run a module as its own program. Does not return.

    *files* are the importers'. *order* is (the request's header, which names the module; its parameters, JSON in bytes; the warm
    modules to forget; whether to report what was imported; whether the runner's archive contains the module's files).
    """
    header, parameters, conflicts, record_imports, in_archive = task
    report = StatusReport(report_fd)
    manifest = files.store.manifest(header["man"])
    module_cache.unload_all(conflicts)
    needs_archive = not in_archive and (files.default_root != importer.ROOT or RESPAWN_MODULE in manifest)
    files.mount(manifest, materialize_archive(files.store, manifest) if needs_archive else None)
    if header["gen"] == "call":  # one of our own modules is among the files
        sys.meta_path.insert(0, importer.Importer(files))
    else:
        hide_own_modules()
    module_cache.clear_line_cache()
    before = set(sys.modules) if record_imports else None
    sys.argv = [""]
    main = types.ModuleType("__main__")
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
    status, failure = 1, None
    try:
        change_environment(header.get("env") or {})
        reset_timezone_and_random()
        _set_nofile_limit(header.get("nofile"))
        try:
            os.getcwd()
        except OSError:
            os.chdir("/")
        STARTERS[header["gen"]](header, parameters, files.root)
        status = 0
    except SystemExit as exc:
        status = exit_status(exc)
    except BaseException:
        failure = sys.exc_info()
    if failure is not None:  # only now: an exception hook that fails does so while nothing is being handled
        status = report_uncaught(*failure)
        if failure[0] is KeyboardInterrupt and sys.version_info >= (3, 8):
            status = -signal.SIGINT  # so that whoever waits for it knows what ended it
    if record_imports:
        report.names = _imported_names(files.used, before)
    finish(status, report)


def _run_module(header, parameters, root):
    """Payloads of ansible-core 2.16 to 2.18: the wrapper itself starts the module."""
    import runpy
    from ansible.module_utils import basic

    basic._ANSIBLE_ARGS = parameters
    names = {"_module_fqn": header["fqn"], "_modlib_path": root}
    runpy.run_module(mod_name=str(header["fqn"]), init_globals=names, run_name="__main__", alter_sys=True)
    print('{"msg": "New-style module did not handle its own exit", "failed": true}')
    sys.exit(1)


def _run_loader(header, parameters, root):
    """Payloads of ansible-core 2.19 and later: the archive brings the function that starts the module.

    Arguments that releases since then have added are the last bytes of the body, since they may be secret: ``keywords`` in the
    header is their size, and pmitogen/ansible/ansiballz.py says how they are written.
    """
    from ansible.module_utils._internal._ansiballz import _loader

    size, more = header.get("keywords", 0), {}
    if size:
        parameters, typed = parameters[:-size], json.loads(parameters[-size:].decode("ascii"))
        more = dict((name, EXTRA_TYPES[kind](value) if kind else value) for name, (kind, value) in typed.items())
    _loader.run_module(
        json_params=parameters, profile=header["profile"], module_fqn=header["fqn"], modlib_path=root, extensions={}, **more
    )


def _call_function(header, parameters, root):
    """A function of the embedding program. What calls it came with it: hosts of playbooks have no use for that."""
    from pmitogen.target.payload import remote_call

    remote_call.run(header, parameters)


EXTRA_TYPES = {"frozenset": frozenset, "set": set}  # of what JSON has not
STARTERS = {"runpy": _run_module, "loader": _run_loader, "call": _call_function}


def _imported_names(used, before):
    """What this child imported, for the runner to have ready next time."""
    names = [name for name in set(sys.modules) - before if sys.modules.get(name) is not None]
    return {"payload": sorted(used), "stdlib": sorted(name for name in names if name not in used)}


def report_uncaught(kind, value, trace):
    """Do with an exception what the interpreter does, without our own frames. Returns the exit status."""
    trace = strip_own_frames(trace)
    try:
        if callable(sys.excepthook) and sys.excepthook is not sys.__excepthook__:
            sys.excepthook(kind, value, trace)  # as the module wants it
            return 1
    except SystemExit as exc:
        return exit_status(exc)
    except BaseException:
        sys.stderr.write("Error in sys.excepthook:\n")
        failed, why, where = sys.exc_info()
        traceback.print_exception(failed, why, strip_own_frames(where))
        sys.stderr.write("\nOriginal exception was:\n")
    traceback.print_exception(kind, value, trace)
    return 1


def strip_own_frames(trace):
    """A traceback from the first frame that is not this file's."""
    while trace is not None and trace.tb_frame.f_globals.get("__name__") == __name__:
        trace = trace.tb_next
    return trace


def exit_status(exc):
    """Return the status that the interpreter would give SystemExit."""
    code = exc.code
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    sys.stderr.write("%s\n" % (code,))
    return 1


def report_start_failure(stderr_fd):
    """Say what went wrong before the payload or the program could."""
    failure = sys.exc_info()[1]
    if isinstance(failure, OSError):  # the machine has nothing left
        words = "the process could not be started: %s\n" % failure.strerror
    else:
        words = traceback.format_exc()
    os.write(stderr_fd, words.encode("utf-8", "replace"))


def finish(status, report):
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
    """Say that a stream's last words were lost, as the interpreter does."""
    try:
        sys.stderr.write("Exception ignored in: %r\n%s: %s\n" % (stream, type(exc).__name__, exc))
        sys.stderr.flush()
    except BaseException:
        pass
