"""First pmitogen code in a new interpreter on the target.

The command line holds only stage0.py, with a token, the size of the bundle and, for the agent, the path of this interpreter and
the number of its Mitogen context. It prints a marker, reads the bundle from stdin and executes this file. The bundle is a JSON
object: ``role``, ``files`` ({path: source}) and more, depending on the role.

``agent``: the process imports what both need and forks. The parent becomes the runner of the login account, so that the session
lasts as long as the processes in it. The child becomes the agent. So one start of an interpreter serves both. Both end when the
hub is gone.

``runner``: another account, or another interpreter of the login account. The process speaks to the agent on its stdin and
stdout. Its bundle has the bytecode of the login account's runner (``bytecode``), for interpreters with the same ``bytecode_tag``.
"""

import gc
import os
import socket
import sys

MYPY = False
if MYPY:
    from types import CodeType  # noqa: F401
    from typing import Dict  # noqa: F401
    from pmitogen.target.types import Bundle, Json  # noqa: F401

ROOT = "/pmitogen/bundle"  # in __file__, the directory of the bundle's files; it does not exist
PACKAGES = ("pmitogen", "pmitogen.protocol", "pmitogen.target", "pmitogen.target.agent", "pmitogen.target.payload")
# The modules that import all others. Each needs only those before it.
BOOTSTRAP_MODULES = (
    ("pmitogen.protocol", "framing"),
    ("pmitogen.target.payload", "archive"),
    ("pmitogen.target.payload", "importer"),
    ("pmitogen.target.payload", "module_cache"),
)


def redirect_stdio_to_null():
    # type: () -> None
    """Redirect stdin and stdout to /dev/null, after the channel was moved to other descriptors."""
    fd = os.open(os.devnull, os.O_RDWR)
    os.dup2(fd, 0)
    os.dup2(fd, 1)
    if fd > 1:
        os.close(fd)


def install_importer(bundle):
    # type: (Bundle) -> None
    """Make the bundle's files importable. Their paths are absolute: Python would search the current directory for others."""
    import types

    for name in PACKAGES:
        module = sys.modules[name] = types.ModuleType(name)
        module.__path__ = [ROOT + "/" + name.replace(".", "/")]
    bytecode = bundled_bytecode(bundle)
    for package, name in BOOTSTRAP_MODULES:
        path = "%s/%s.py" % (package.replace(".", "/"), name)
        module = sys.modules[package + "." + name] = types.ModuleType(package + "." + name)
        setattr(sys.modules[package], name, module)
        if path not in bytecode:
            bytecode[path] = compile(bundle["files"][path], ROOT + "/" + path, "exec", 0, True)
        exec(bytecode[path], module.__dict__)
    from pmitogen.target.payload import importer, module_cache

    store = module_cache.ModuleStore(ROOT)
    files = bundle["own"] = importer.PayloadFiles(store)
    for path, source in bundle["files"].items():
        store.blobs[path] = source if isinstance(source, bytes) else source.encode("utf-8")
        files.manifest[path] = path
    for path, code in bytecode.items():
        store.bytecode[path, path] = code
    sys.meta_path.insert(0, importer.Importer(files))


def bundled_bytecode(bundle):
    # type: (Bundle) -> Dict[str, CodeType]
    """Return {path: code} of the bytecode in the bundle; {} if an interpreter of another version has compiled it."""
    if bundle.get("bytecode_tag") != "%s %d" % (
        sys.version,
        sys.flags.optimize,
    ):  # as in module_cache.py, which is not imported yet
        return {}
    import base64
    import marshal

    return dict((path, marshal.loads(base64.b64decode(text))) for path, text in bundle["bytecode"].items())


def run_agent(bundle):
    # type: (Bundle) -> None
    """Fork into the login account's runner and the agent. Does not return."""
    from pmitogen.target import start_state
    from pmitogen.target.payload import module_cache

    start_state.shell_pid = os.getppid()
    module_cache.import_stdlib(module_cache.STDLIB_BEFORE_FORK)
    agent_socket, runner_socket = socket.socketpair()
    if os.fork():
        agent_socket.close()
        redirect_stdio_to_null()
        from pmitogen.target import runner

        runner.main(runner_socket.fileno(), runner_socket.fileno(), sys.argv[3], bundle)
        os._exit(0)
    runner_socket.close()
    in_fd, out_fd = os.dup(0), os.dup(1)
    redirect_stdio_to_null()
    from pmitogen.target.agent import main as agent

    gc.enable()
    sock = os.dup(agent_socket.fileno())
    agent_socket.close()
    agent.main(bundle, in_fd, out_fd, sock)


def run_runner(bundle):
    # type: (Bundle) -> None
    """Become a runner. Does not return."""
    from pmitogen.target import start_state

    if "entered" in sys.argv[3:]:  # started by a shell that waits for this process: see become/entry.py
        start_state.shell_pid = os.getppid()
    try:
        os.environ.setdefault("PWD", os.getcwd())  # as the shell does that starts modules over ssh
    except OSError:
        pass
    in_fd, out_fd = os.dup(0), os.dup(1)
    redirect_stdio_to_null()
    from pmitogen.target import runner

    runner.main(in_fd, out_fd, sys.executable, bundle)
    os._exit(0)  # the interpreter's finalisation has nothing to do


def main(bundle):
    # type: (Bundle) -> None
    """Run the agent or the runner. Called by stage0.py; does not return."""
    gc.disable()  # while there are only imports: each collection would visit all that they have created
    install_importer(bundle)
    {"agent": run_agent, "runner": run_runner}[bundle["role"]](bundle)
