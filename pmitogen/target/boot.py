"""First code of ours in a fresh interpreter on the target.

The command line holds only ``STAGE0`` (and a token, the bundle's size, and for the agent the path that was found for this
interpreter and its number as a Mitogen context): it prints a marker, reads a bundle of known size from stdin and executes this
file. The bundle is ``{"role", "files": {path: source}, ...}``.

Role ``agent``: the process forks once what both need is imported. The parent becomes the runner of the login account, so that
the session lasts until what it started has ended; the child becomes the agent. One interpreter start serves both, and both end
when the hub goes.

Role ``runner``: an account behind sudo, su or doas, or another interpreter: the process serves its stdin and stdout. Its bundle
has what the login account's runner has compiled already, under ``codes``, for an interpreter with the same ``tag``.
"""

import gc
import os
import socket
import sys

ROOT = "/pmitogen/bundle"  # stands for the bundle in __file__; nothing is there
# What imports all else, in an order in which each finds what it needs.
BOOTSTRAP_MODULES = (
    ("pmitogen.protocol", "framing"),
    ("pmitogen.target.payload", "archive"),
    ("pmitogen.target.payload", "importer"),
    ("pmitogen.target.payload", "module_cache"),
)


def redirect_stdio_to_null():
    """Point stdin and stdout at nothing, once the channel has moved elsewhere."""
    fd = os.open(os.devnull, os.O_RDWR)
    os.dup2(fd, 0)
    os.dup2(fd, 1)
    if fd > 1:
        os.close(fd)


def install_importer(bundle):
    """Make the bundle's files importable. Their paths are absolute, or Python would look for others in the current directory."""
    import types

    for name in ("pmitogen", "pmitogen.protocol", "pmitogen.target", "pmitogen.target.agent", "pmitogen.target.payload"):
        module = sys.modules[name] = types.ModuleType(name)
        module.__path__ = [ROOT + "/" + name.replace(".", "/")]
    bytecode = bundled_bytecode(bundle)
    for package, name in BOOTSTRAP_MODULES:
        path = "%s/%s.py" % (package.replace(".", "/"), name)
        module = sys.modules[package + "." + name] = types.ModuleType(package + "." + name)
        setattr(sys.modules[package], name, module)
        if path not in bytecode:
            bytecode[path] = compile(bundle["files"][path], ROOT + "/" + path, "exec", 0, 1)
        exec(bytecode[path], module.__dict__)
    store = sys.modules["pmitogen.target.payload.module_cache"].ModuleStore(ROOT)
    importer = sys.modules["pmitogen.target.payload.importer"]
    files = bundle["own"] = importer.PayloadFiles(store)
    for path, source in bundle["files"].items():
        store.blobs[path] = source if isinstance(source, bytes) else source.encode("utf-8")
        files.manifest[path] = path
    for path, code in bytecode.items():
        store.bytecode[path, path] = code
    sys.meta_path.insert(0, importer.Importer(files))


def bundled_bytecode(bundle):
    """The code objects that came with a bundle, by path, if this interpreter is of the kind that made them."""
    if bundle.get("tag") != "%s %d" % (sys.version, sys.flags.optimize):  # as in module_cache.py, which is not there yet
        return {}
    import base64
    import marshal

    return dict((path, marshal.loads(base64.b64decode(text))) for path, text in bundle["codes"].items())


def run_agent(bundle):
    """Split in two. Does not return."""
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
    from pmitogen.target import start_state

    if "entered" in sys.argv[3:]:  # by a shell that waits for us: see become/entry.py
        start_state.shell_pid = os.getppid()
    try:
        os.environ.setdefault("PWD", os.getcwd())  # as the shell would that starts modules over ssh
    except OSError:
        pass
    in_fd, out_fd = os.dup(0), os.dup(1)
    redirect_stdio_to_null()
    from pmitogen.target import runner

    runner.main(in_fd, out_fd, sys.executable, bundle)
    os._exit(0)  # nothing is left that a finalization of the interpreter would do


def main(bundle):
    gc.disable()  # until there is more than imports, of which the collector would visit all so far in each of its rounds
    install_importer(bundle)
    {"agent": run_agent, "runner": run_runner}[bundle["role"]](bundle)
