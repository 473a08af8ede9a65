"""Commands on a target are spawned, not forked from the runner, without a difference for the program."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pmitogen.protocol import framing
from tests.support import processes, programs, session
from tests.unit.test_target_runner import START, Peer

pytestmark = pytest.mark.usefixtures("still_accounts")
VERSIONS = ("2.7", "3.6", "3.8", "3.9", "3.13")  # with and without posix_spawn
FOUND = programs.target_pythons()
PYTHONS = {version: FOUND[version] for version in VERSIONS if version in FOUND} or {"this": sys.executable}
LOOK = """import json, os, resource, signal
status = dict(line.rstrip("\\n").split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
print(json.dumps({
    "session": [os.getsid(0) == os.getpid(), os.getpgrp() == os.getpid()],
    "files": sorted((int(fd), os.readlink("/proc/self/fd/" + fd).split(":")[0])
                    for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd)),
    "signals": [status[name] for name in ("SigBlk", "SigIgn")],
    "umask": status.get("Umask"),
    "cwd": os.getcwd(),
    "env": {name: value for name, value in os.environ.items() if name not in ("_", "LC_CTYPE")},
    "limits": [resource.getrlimit(number) for number in range(10)],
}))
"""


class Runner(Peer):
    """A runner that executes *code* first. It has descriptor 50 open, which programs could inherit."""

    def __init__(self, python: str, code: str) -> None:
        self.python = python
        self.sock, theirs = socket.socketpair()
        args = [python, "-c", f"import os\nos.dup2(0, 50)\n{code}\n{START}", str(session.repository), str(theirs.fileno())]
        self.process = subprocess.Popen(args, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        theirs.close()
        self.sock.settimeout(20)
        self._reader, self._ready = framing.FrameReader(), []
        self.version = tuple(self.receive()[0]["python_version"])

    def end(self) -> int:
        status = super().end()
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            assert stream.read() == b""
        return status


WAYS = {
    "usual": "import warnings\nif hasattr(__builtins__, 'ResourceWarning'):\n    warnings.simplefilter('always')",
    "forked": programs.ON_A_TARGET + "from pmitogen.target import vfork\nvfork.start = lambda *args: None",
    "spawned": "def fork():\n    raise OSError(11, 'no fork')\nos.fork = fork",
}


@pytest.fixture(params=PYTHONS)
def start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Runner]]:
    """Start a runner in one of the ``WAYS``."""
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    made = []

    def start(way: str) -> Runner:
        made.append(Runner(PYTHONS[request.param], WAYS[way]))
        return made[-1]

    yield start
    for runner in made:
        assert runner.end() == 0


def _requests(directory: Path) -> dict[str, dict[str, Any]]:
    (directory / "here").mkdir()
    (directory / "locked").mkdir()
    for name, mode, text in (
        ("program", 0o755, '#!/bin/sh\necho program $0 "$@"\n'),
        ("here/relative", 0o755, "#!/bin/sh\necho relative; pwd\n"),
        ("plain", 0o755, "echo no interpreter line\n"),
        ("closed", 0o644, "#!/bin/sh\n"),
        ("lost", 0o755, "#!/nonexistent/interpreter\n"),
    ):
        (directory / name).write_text(text)
        (directory / name).chmod(mode)
    look = [sys.executable, "-c", LOOK]
    return {
        "look": {"argv": look},
        "look with more": {"argv": look, "env": {"GIVEN": "gr\xc3\xbcn", "HOME": "/"}, "cwd": str(directory / "here")},
        "by name": {"argv": ["echo", "x"]},
        "by its own path": {"argv": ["program", "a b"], "env": {"PATH": f"/nonexistent:{directory}:/bin"}},
        "by an empty path": {"argv": ["relative"], "env": {"PATH": ""}, "cwd": str(directory / "here")},
        "relative": {"argv": ["./relative"], "cwd": str(directory / "here")},
        "account's shell": {"argv": ["", "-c", "echo $0"], "env": {"SHELL": "/bin/sh"}},
        "no such program": {"argv": ["/nonexistent/program"]},
        "no such name": {"argv": ["nonexistent-program"]},
        "no such directory": {"argv": ["/bin/true"], "cwd": "/nonexistent/directory"},
        "a directory": {"argv": [str(directory)]},
        "not executable": {"argv": [str(directory / "closed")]},
        "not executable by name": {"argv": ["closed"], "env": {"PATH": str(directory)}},
        "no interpreter line": {"argv": [str(directory / "plain")]},
        "no such interpreter": {"argv": [str(directory / "lost")]},
        "too long": {"argv": ["/bin/echo", "x" * (3 << 20)]},
        "status": {"argv": ["/bin/sh", "-c", "exit 3"]},
        "signal": {"argv": ["/bin/sh", "-c", "kill -9 $$"]},
        "a pipe that is closed": {"argv": ["/bin/sh", "-c", "yes | head -1; echo ${PIPESTATUS-}"]},
    }


def _answers(peer: Peer, requests: dict[str, dict[str, Any]]) -> dict[str, tuple[dict[str, Any], bytes]]:
    return {
        name: peer.ask({"op": "exec", "id": request_id, **request})
        for request_id, (name, request) in enumerate(requests.items(), 1)
    }


def test_a_spawned_program_has_the_environment_of_a_forked_one(start: Callable[[str], Runner], tmp_path: Path) -> None:
    requests = _requests(tmp_path)
    usual, forked = _answers(start("usual"), requests), _answers(start("forked"), requests)
    for name in requests:
        assert usual[name] == forked[name], name
    looked = json.loads(usual["look"][1])
    assert looked["session"] == [True, True] and [fd for fd, _ in looked["files"]] == [0, 1, 2]
    statuses = {"no such name": 127, "no such directory": 127, "not executable": 126, "signal": 137, "status": 3}
    assert {name: usual[name][0]["rc"] for name in statuses} == statuses


def test_no_command_is_forked_if_the_python_can_spawn(start: Callable[[str], Runner]) -> None:
    runner = start("spawned")
    if runner.version < (3,):
        answer, _ = runner.ask({"op": "exec", "id": 1, "argv": ["/bin/true"]})
        assert answer["op"] == "error" and answer["errno"] == "EAGAIN"
        return
    for request_id, request in enumerate(({}, {"cwd": "/usr"}, {"env": {"A": "b"}}, {"argv": ["cat"]}), 1):
        answer, body = runner.ask({"op": "exec", "id": request_id, "argv": ["echo", "x"], **request}, b"x\n")
        assert (answer["rc"], body) == (0, b"x\n")
    assert runner.ask({"op": "exec", "id": 9, "argv": ["/nonexistent"]})[0]["errno"] == "EAGAIN", "reported by a fork"


def test_each_command_has_its_own_status(start: Callable[[str], Runner]) -> None:
    """The runner and ``subprocess`` both collect children by their pid."""
    runner, count = start("usual"), 60
    for index in range(count):
        runner.send({"op": "exec", "id": 1 + index, "argv": ["/bin/sh", "-c", f"exit {index}"]})
    found = {answer["id"] - 1: answer["rc"] for answer, _ in (runner.receive() for _ in range(count))}
    assert found == {index: index for index in range(count)}
    assert processes.descendants(runner.process.pid) == set()


CHANGES = f"""
{programs.ON_A_TARGET}
import os, resource, signal
from pmitogen.target import login_state, start_state
start_state.shell_pid = os.getppid()
changes = {{
    "none": lambda: None,
    "umask": lambda: os.umask(0o77),
    "directory": lambda: os.chdir("/usr"),
    "ignored signal": lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
    "signal that was ignored": lambda: signal.signal(signal.SIGUSR2, signal.SIG_DFL),
    "handled signal": lambda: signal.signal(signal.SIGUSR1, print_nothing),
    "soft limit": lambda: resource.setrlimit(resource.RLIMIT_CORE, (1, resource.getrlimit(resource.RLIMIT_CORE)[1])),
    "priority": lambda: os.nice(1),
    "processors": lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1]),
}}
def print_nothing(*args): pass
for name in sorted(changes):
    if os.fork() == 0:
        try:
            changes[name]()
            state = login_state.read().is_current()
        except AttributeError:  # Python 2 has no affinity
            state = None
        os.write(1, ("%s: %s\\n" % (name, state)).encode())
        os._exit(0)
    os.wait()
"""


@pytest.mark.parametrize("version", PYTHONS)
def test_a_change_of_the_login_state_is_detected(version: str) -> None:
    """Commands are then forked, because only a forked child can undo it."""
    script = 'ulimit -S -c 0; trap "" USR2; "$0" "$@"; exit $?'  # a shell that waits, and ignores a signal
    args = ["/bin/sh", "-c", script, PYTHONS[version], "-c", CHANGES, str(session.repository)]
    output = subprocess.run(args, capture_output=True, text=True, check=True).stdout
    found = dict(line.split(": ") for line in output.splitlines())
    alike = {name for name, state in found.items() if state == "True"}
    unnoticed = {"none", "handled signal"} | ({"processors"} if os.cpu_count() == 1 else set())
    assert len(found) == 9 and alike <= unnoticed and "none" in alike
