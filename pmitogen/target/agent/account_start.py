"""Starting a further runner: another account, or another interpreter of the login account.

The new interpreter gets the agent's own sources and, if it is of the same version, the bytecode that the login account's runner
has compiled from them: compiling takes most of a start. Bytecode of other accounts goes nowhere.
"""

import base64
import errno
import json
import os
import socket
import sys
import zlib

from pmitogen.protocol import framing
from pmitogen.target import login_state, start_state
from pmitogen.target.agent.event_loop import Peer
from pmitogen.target.agent.runner_proxy import START_FAILED_MESSAGE

MYPY = False
if MYPY:
    from typing import Dict, List, Optional  # noqa: F401
    from pmitogen.target.agent.main import Agent  # noqa: F401
    from pmitogen.target.agent.runner_proxy import RunnerProxy  # noqa: F401
    from pmitogen.target.types import Bundle, Header  # noqa: F401

AGENT_FILES = "pmitogen/target/agent/"  # of no use to a runner
MAX_START_OUTPUT = 64 << 10  # bytes of output before a runner's marker


class AccountStarter(object):
    """Starts runners, and builds their bundle.

    *bundle*: the agent's own.
    *user*: the login account.
    """

    def __init__(self, agent, bundle, user):
        # type: (Agent, Bundle, str) -> None
        self._agent, self._user = agent, user
        self._preload_enabled = bundle.get("preload", True)
        self._stage0 = bundle["stage0"].encode("ascii")
        files = dict((path, text) for path, text in bundle["files"].items() if not path.startswith(AGENT_FILES))
        self._bytecode = {}  # type: Dict[str, str] # path -> marshalled code in Base64
        self._parts = {"role": "runner", "files": files, "preload": self._preload_enabled, "bytecode": self._bytecode}
        self._bundle = None  # type: Optional[bytes]

    def add_bytecode(self, tag, path, code):
        # type: (str, str, bytes) -> None
        """Add code that the login account's runner has compiled from one of pmitogen's files."""
        self._bytecode[path] = base64.b64encode(code).decode("ascii")
        self._parts["bytecode_tag"], self._bundle = tag, None

    def bundle(self):
        # type: () -> bytes
        """Return the bundle that makes a new interpreter a runner, after its size in ten digits."""
        if self._bundle is None:
            data = zlib.compress(json.dumps(self._parts).encode("ascii"), 0)
            self._bundle = ("%010d" % len(data)).encode("ascii") + data
        return self._bundle

    def start(self, runner, header):
        # type: (RunnerProxy, Header) -> None
        """Begin to start *runner* as a ``start-account`` frame says. If that fails, its requests are answered with the reason."""
        own = sys.argv[3].encode("utf-8")
        argv = [framing.from_wire(arg) for arg in header["python"]] or [own]
        if header.get("plan") and not header["python"]:
            from pmitogen.become import interpreter

            argv = [interpreter.choose(own, framing.to_wire(own) in header.get("named_pythons", ()))]
        env = dict((framing.from_wire(name), framing.from_wire(value)) for name, value in header.get("env", {}).items())
        command = argv + [b"-c", self._stage0, header["token"].encode("ascii"), b"0"]
        runner.start_info = {"python": framing.to_wire(argv[0]), "users": [self._user]}
        if self._preload_enabled and argv == [own]:
            self._agent.request_bytecode()
        try:
            if header.get("plan"):
                from pmitogen.target.agent import escalated_start

                escalated_start.start(self._agent, runner, header, command, env)
            else:
                start_interpreter(self._agent, runner, command, env, header["token"])
        except (IOError, OSError) as exc:
            reason = "no such interpreter" if exc.errno == errno.ENOENT else exc.strerror
            message = "%s: %s" % (framing.to_wire(argv[0]), reason)
            self._agent.loop.defer(lambda: runner.fail("python", message))


class InterpreterStart(object):
    """Waits for the marker of an interpreter that was started at the other end of *fd*, then sends it the bundle."""

    def __init__(self, agent, runner, fd, marker):
        # type: (Agent, RunnerProxy, int, bytes) -> None
        self._agent, self._runner, self._marker = agent, runner, marker
        self._buf = b""
        self._peer = Peer(agent.loop, fd, fd, self._on_data, self._on_end)

    def _on_data(self, data):
        # type: (bytes) -> None
        self._buf += data
        if self._marker + b"\n" in self._buf:
            self._runner.on_ready(self._peer, self._agent.starter.bundle())
        elif len(self._buf) > MAX_START_OUTPUT:
            self._peer.close()

    def _on_end(self):
        # type: () -> None
        last_output = self._buf[-200:].decode("utf-8", "replace").strip()
        self._runner.reap()
        self._runner.fail("python", START_FAILED_MESSAGE + (": " + last_output if last_output else ""))


def start_interpreter(agent, runner, command, env, token):
    # type: (Agent, RunnerProxy, List[bytes], Dict[bytes, bytes], str) -> None
    """Start another interpreter of the login account, connected by a socket pair. Raises OSError."""
    import subprocess  # not at the top: that is two milliseconds, and most hosts have one interpreter

    own, other = socket.socketpair()
    state = login_state.read()
    environ = dict(state.environ if state else start_state.environb)
    environ.update(env)
    start_state.set_safe_path(environ)
    try:
        process = subprocess.Popen(
            command,
            stdin=other.fileno(),
            stdout=other.fileno(),
            env=environ,
            close_fds=True,
            preexec_fn=state.apply if state else None,
        )
        fd = os.dup(own.fileno())
    finally:
        own.close()
        other.close()
    runner.pid = process.pid
    runner.process = process  # otherwise its finaliser warns that the child still runs
    InterpreterStart(agent, runner, fd, ("PMITOGEN-%s ready" % token).encode("ascii"))
