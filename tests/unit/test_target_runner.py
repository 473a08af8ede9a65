"""The runner alone, over a socket pair, under every installed target Python."""

from __future__ import annotations

import base64
import errno
import io
import json
import os
import socket
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pmitogen.hub.blob_store import BlobStore
from pmitogen.protocol import framing
from pmitogen.target import jobs
from tests.support import processes, programs, session

pytestmark = pytest.mark.usefixtures("still_accounts")  # a runner refuses requests after another run has changed accounts

START = f"""
{programs.ON_A_TARGET}
from pmitogen.target import fork, runner
if len(sys.argv) > 3:  # a directory whose files name calls that must fail
    import os, subprocess
    def failing(name, real):
        def call(*args, **options):
            if os.path.exists(sys.argv[3] + "/" + name):
                raise OSError(11, os.strerror(11))
            return real(*args, **options)
        return call
    os.fork, fork.enter_session = failing("fork", os.fork), failing("enter_session", fork.enter_session)
    subprocess.Popen = failing("fork", failing("enter_session", subprocess.Popen))
fd = int(sys.argv[2])
runner.main(fd, fd, sys.executable, {{}})
"""
MODULE = b"""
import gc, json, os, sys
from ansible.module_utils import basic
args = json.loads(basic._ANSIBLE_ARGS.decode())
from ansible.module_utils.basic import counter
counter.append(1)
fds = sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + fd))
print(json.dumps({"args": args, "name": __name__, "count": len(counter), "env": os.environ.get("GIVEN"), "fds": fds,
                  "pid": os.getpid(), "collector": [gc.isenabled(), getattr(gc, "get_freeze_count", lambda: 0)()]}))
sys.stderr.write("to stderr")
sys.exit(args.get("rc", 0))
"""
FILES = {
    "ansible/__init__.py": b"",
    "ansible/module_utils/__init__.py": b"",
    "ansible/module_utils/basic.py": b"_ANSIBLE_ARGS = None\ncounter = []\n",
    "ansible/modules/__init__.py": b"",
    "ansible/modules/probe.py": MODULE,
}


class Peer:
    """The agent's end of the connection."""

    version: tuple[int, ...] = ()  # of the Python of the runner

    def __init__(self, python: str, *failures: Path) -> None:
        self.python = python
        self.sock, theirs = socket.socketpair()
        args = [python, "-c", START, str(session.repository), str(theirs.fileno()), *map(str, failures)]
        self.process = subprocess.Popen(args, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        self.sock.settimeout(20)
        self._reader = framing.FrameReader()
        self._ready: list[tuple[dict[str, Any], bytes]] = []

    def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        self.sock.sendall(framing.encode_frame(header, body))

    def receive(self) -> tuple[dict[str, Any], bytes]:
        while not self._ready:
            data = self.sock.recv(1 << 18)
            assert data, "the runner ended"
            self._ready = self._reader.feed(data)
        return self._ready.pop(0)

    def ask(self, header: dict[str, Any], body: bytes = b"") -> tuple[dict[str, Any], bytes]:
        self.send(header, body)
        return self.receive()

    def module(
        self, request_id: int, params: dict[str, Any], *, blobs: bool = True, **more: Any
    ) -> tuple[dict[str, Any], dict[str, Any], bytes]:
        manifest, contents = FILES_SENT
        if blobs:
            listed = [[name, len(data)] for name, data in contents.items()]
            self.send({"op": "blobs", "blobs": listed}, b"".join(contents.values()))
        header = {
            "op": "run",
            "id": request_id,
            "manifest": manifest,
            "module": "ansible.modules.probe",
            "generation": "runpy",
            **more,
        }
        answer, body = self.ask(header, json.dumps(params).encode())
        return answer, json.loads(body[: answer["stdout_size"]] or b"{}"), body[answer["stdout_size"] :]

    def end(self) -> int:
        self.sock.close()
        return self.process.wait(10)


def _sent() -> tuple[str, dict[str, bytes]]:
    blobs = BlobStore()
    manifest = blobs.add_files(FILES)
    return manifest, dict(blobs.contents)


FILES_SENT = _sent()


@pytest.fixture(params=programs.target_pythons() or {"this": sys.executable})
def peer(request: pytest.FixtureRequest) -> Iterator[Peer]:
    made = Peer(programs.target_pythons().get(request.param, sys.executable))
    hello, _ = made.receive()
    made.version = tuple(hello["python_version"])
    assert hello["op"] == "hello" and hello["uid"] == os.geteuid()
    assert request.param == "this" or ".".join(map(str, hello["python_version"][:2])) == request.param
    yield made
    assert made.end() == 0


def test_the_tables_of_the_locale_are_loaded_once_for_all_children(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.delenv("LC_ALL", raising=False)
    source = (
        b"import json, locale, os, sys\nbefore = locale.setlocale(locale.LC_TIME)\nlocale.setlocale(locale.LC_ALL, '')\n"
        b"maps = open('/proc/self/maps').read() + open('/proc/%d/maps' % os.getppid()).read()\n"
        b"print(json.dumps([before, [line.split('-')[0] for line in maps.splitlines() if line.endswith('LC_TIME')]]))\n"
        b"sys.exit(0)\n"
    )
    other = Peer(peer.python)
    other.receive()
    manifest = _send_module(other, source)
    body = other.ask(
        {"op": "run", "id": 1, "manifest": manifest, "module": "ansible.modules.other", "generation": "runpy"}, b"{}"
    )[1]
    assert other.end() == 0
    before, places = json.loads(body)
    assert before == "C", "the locale of this process must not change"
    assert len(places) == 2 and len(set(places)) == 1, "the child must share the tables of the runner"


def _last(peer: Peer, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Return the final frame of a request, with its whole output."""
    output = b""
    peer.send(request)
    while True:
        answer, body = peer.receive()
        output += body
        if answer["op"] != "out":
            return answer, output


OLDEST_AND_NEWEST = list(programs.target_pythons())[:1] + list(programs.target_pythons())[-1:]


@pytest.mark.parametrize("version", OLDEST_AND_NEWEST)
@pytest.mark.parametrize("call", ["fork", "enter_session"])
def test_exhausted_processes_or_descriptors_fail_only_the_task(version: str, call: str, tmp_path: Path) -> None:
    """The child must not continue as a second runner."""
    peer = Peer(programs.target_pythons()[version], tmp_path)
    peer.receive()
    assert peer.module(1, {})[1]["count"] == 1
    open_before = None
    (tmp_path / call).touch()
    for index in range(2, 7):
        requests: list[dict[str, Any]] = [
            {"op": "exec", "argv": ["true"], "env": {}, "more": False},
            {"op": "exec", "argv": ["true"], "env": {}, "tty": True},
            {"op": "run", "manifest": FILES_SENT[0], "module": "ansible.modules.probe", "generation": "runpy"},
        ]
        answers = [_last(peer, {**request, "id": 10 * index + place}) for place, request in enumerate(requests)]
        for answer, output in answers:
            assert os.strerror(11) in (answer.get("msg") or output.decode()), (answer, output)
            assert answer["op"] == ("error" if call == "fork" else "exit") and answer.get("rc", 1) == 1
        now = len(os.listdir(f"/proc/{peer.process.pid}/fd"))
        open_before = open_before or now
    assert now == open_before, "no descriptor may be left open"
    (tmp_path / call).unlink()
    assert peer.module(7, {}, blobs=False)[1]["count"] == 1
    assert peer.end() == 0


def test_the_garbage_collector_of_children_skips_objects_of_the_runner(peer: Peer) -> None:
    for request_id in (1, 2):
        works, frozen = peer.module(request_id, {}, blobs=request_id == 1)[1]["collector"]
        assert works
        assert frozen > 1000 or peer.version < (3, 7)
    assert peer.end() == 0


@pytest.mark.parametrize("peer", list(programs.target_pythons() or {"this": sys.executable})[-1:], indirect=True)
def test_bytecode_of_another_runner_is_used_for_the_same_interpreter_only(peer: Peer) -> None:
    manifest, blobs = FILES_SENT
    assert peer.module(1, {})[1]["count"] == 1
    answer, body = peer.ask({"op": "bytecode"})
    codes = [(name, filename, size) for own, name, filename, size in answer["bytecode"] if not own and name in blobs]
    assert {filename.rpartition("/")[2] for _, filename, _ in codes} == {"__init__.py", "basic.py", "probe.py"}
    probe = next(name for name, filename, _ in codes if filename.endswith("/probe.py"))
    contents = {**blobs, probe: b"raise SystemExit('compiled here')"}
    for tag, text in ((answer["bytecode_tag"], b"to stderr"), ("another " + answer["bytecode_tag"], b"compiled here\n")):
        other = Peer(peer.python)
        other.receive()
        listed = [[name, len(data)] for name, data in contents.items()]
        other.send({"op": "blobs", "blobs": listed, "bytecode_tag": tag, "bytecode": codes}, b"".join(contents.values()) + body)
        output, out = other.ask(
            {"op": "run", "id": 1, "manifest": manifest, "module": "ansible.modules.probe", "generation": "runpy"}, b"{}"
        )
        assert out[output["stdout_size"] :] == text
        assert other.end() == 0


@pytest.mark.parametrize("peer", list(programs.target_pythons() or {"this": sys.executable})[-1:], indirect=True)
@pytest.mark.parametrize("wanted", [False, True])
def test_a_bundled_replacement_of_a_library_is_compiled_only_if_needed(peer: Peer, wanted: bool) -> None:
    package = b"import ansible.module_utils.distro._distro\n" if wanted else b""
    stand_in = {"ansible/module_utils/distro/__init__.py": package, "ansible/module_utils/distro/_distro.py": b"NAME = 'own'\n"}
    source = b"import sys\nimport ansible.module_utils.distro\nname = ansible.module_utils.distro.__name__ + '._distro'\n"
    source += b"print(getattr(sys.modules.get(name), 'NAME', 'the other'))\nsys.exit(0)\n"
    manifest = _send_module(peer, source, stand_in)
    for request_id in (1, 2):
        run = {"op": "run", "id": request_id, "manifest": manifest, "module": "ansible.modules.other", "generation": "runpy"}
        assert peer.ask(run, b"{}")[1] == (b"own\n" if wanted else b"the other\n")
    answer, _ = peer.ask({"op": "bytecode"})
    compiled = {filename.rpartition("/")[2] for _, _, filename, _ in answer["bytecode"]}
    assert "other.py" in compiled and ("_distro.py" in compiled) == wanted


@pytest.mark.parametrize("peer", list(programs.target_pythons() or {"this": sys.executable})[:1], indirect=True)
def test_parameters_may_have_any_length(peer: Peer) -> None:
    peer.module(1, {})
    body = json.dumps({"x": "long" * 300000}).encode()
    for request_id, kill in ((2, False), (3, True), (4, False)):
        run = {
            "op": "run",
            "id": request_id,
            "manifest": FILES_SENT[0],
            "module": "ansible.modules.probe",
            "generation": "runpy",
            "more": True,
        }
        peer.send(run, body[:9])
        output, credit = [], 0
        for start in range(9, len(body), 100000):
            peer.send({"op": "data", "id": request_id}, body[start : start + 100000])
            credit += len(body[start : start + 100000])
        peer.send({"op": "kill" if kill else "eof", "id": request_id})
        while (answer := peer.receive())[0]["op"] in ("credit", "out"):
            credit -= answer[0].get("count", 0) if answer[0]["op"] == "credit" else 0
            output += [answer[1]] * (answer[0].get("stream") == 1)
            if answer[0]["op"] == "out":
                peer.send({"op": "credit", "id": request_id, "count": len(answer[1])})
        assert credit == 0
        if kill:
            assert answer[0] == {"op": "error", "id": request_id, "msg": "cancelled"}
        else:
            args = json.loads(b"".join([*output, answer[1][: answer[0]["stdout_size"]]]))["args"]
            assert args == json.loads(body)


def test_a_runner_serves_requests_of_each_kind(peer: Peer, tmp_path: Path) -> None:
    """Modules, programs, files and invalid requests, one after another."""
    for request_id in (1, 2, 3):
        answer, output, err = peer.module(
            request_id, {"x": request_id, "rc": request_id - 1}, env={"GIVEN": "gr\u00fcn".encode().decode("latin-1")}
        )
        assert (answer["op"], answer["id"], answer["rc"], err) == ("exit", request_id, request_id - 1, b"to stderr")
        assert output["args"] == {"x": request_id, "rc": request_id - 1} and output["name"] == "__main__"
        assert output["count"] == 1, "the state of a task must not reach the next one"
        assert len(output["fds"]) <= 5, "descriptors of the runner must not be open in a task"
    answer, body = peer.ask({"op": "exec", "id": 4, "argv": ["/bin/sh", "-c", "cat; echo err >&2; exit 3"]}, b"input")
    assert (answer["rc"], body[: answer["stdout_size"]], body[answer["stdout_size"] :]) == (3, b"input", b"err\n")
    answer, body = peer.ask({"op": "exec", "id": 5, "argv": ["/nonexistent/program"]})
    assert answer["rc"] == 127 and b"No such file" in body
    answer, body = peer.ask({"op": "exec", "id": 6, "argv": ["/bin/sh", "-c", "kill -9 $$"]})
    assert answer["rc"] == 137
    answer, body = peer.ask(
        {"op": "exec", "id": 7, "tty": True, "argv": ["/bin/sh", "-c", "test -t 0 && test -t 1 && echo terminal"]}
    )
    assert answer["rc"] == 0 and b"terminal" in body
    leaving = "exec </dev/null >/dev/null 2>&1; sleep 0.2; exit 3"  # as touch does, a moment before it ends
    assert peer.ask({"op": "exec", "id": 12, "tty": True, "argv": ["/bin/sh", "-c", leaving]})[0]["rc"] == 3
    answer, _ = peer.ask({"op": "nonsense", "id": 8})
    assert answer == {"op": "error", "id": 8, "msg": answer["msg"]}
    answer, _ = peer.ask({"op": "run", "id": 9, "manifest": "unknown", "module": "x", "generation": "runpy"}, b"{}")
    assert answer["op"] == "error" and answer["id"] == 9
    path = str(tmp_path / "file")
    assert peer.ask({"op": "put", "id": 10, "path": path, "mode": 0o600}, b"content")[0]["op"] == "ok"
    assert Path(path).read_bytes() == b"content"
    assert peer.ask({"op": "get", "id": 11, "path": path})[1] == b"content"
    assert peer.receive()[0]["op"] == "ok"


@pytest.mark.parametrize("peer", list(programs.target_pythons() or {"this": sys.executable})[-1:], indirect=True)
def test_a_frame_that_does_not_apply_to_its_request_is_ignored(peer: Peer, tmp_path: Path) -> None:
    path = str(tmp_path / "file")
    peer.send({"op": "put", "id": 1, "path": path, "more": True}, b"content")
    for frame in (
        {"op": "credit", "count": 5},
        {"op": "signal", "signal": 15},
        {"op": "resize", "terminal_size": [20, 80]},
        {"op": "kill"},
    ):
        peer.send({**frame, "id": 1 if frame["op"] != "kill" else 99})
    assert peer.ask({"op": "eof", "id": 1})[0]["op"] == "ok"
    (tmp_path / "large").write_bytes(bytes(framing.CREDIT_WINDOW + 1))
    peer.send({"op": "get", "id": 2, "path": str(tmp_path / "large")})
    peer.send({"op": "data", "id": 2}, b"x")
    peer.send({"op": "eof", "id": 2})
    got = b""
    while (answer := peer.receive())[0]["op"] == "out":
        got += answer[1]
        peer.send({"op": "credit", "id": 2, "count": len(answer[1])})
    assert answer[0]["op"] == "ok" and len(got) == framing.CREDIT_WINDOW + 1
    assert Path(path).read_bytes() == b"content"


def test_a_failure_without_a_waiting_request_fails_the_next_one_of_its_chain(peer: Peer) -> None:
    there = {"op": "fs", "action": "exists", "path": "/", "chain": 1}
    peer.send(
        {
            "op": "fs",
            "id": 1,
            "action": "chmod",
            "paths": ["/nonexistent"],
            "add": 64,
            "chain": 1,
            "no_reply": True,
            "label": "permissions",
        }
    )
    answer, _ = peer.ask({**there, "id": 2})
    while answer["op"] == "deferred-error":
        answer, _ = peer.receive()
    assert (answer["op"], answer["id"], answer["msg"]) == ("error", 2, "permissions: No such file or directory")
    assert peer.ask({**there, "id": 3})[0]["exists"] is True, "a failure is reported once"
    assert (
        peer.ask({"op": "fs", "id": 4, "action": "chmod", "paths": ["/nonexistent"], "add": 64, "chain": 2})[0]["op"] == "error"
    )
    assert peer.ask({**there, "id": 5, "chain": 2})[0]["op"] == "ok", "a failure that was reported at once fails no other request"


def test_large_output_streams_under_credit(peer: Peer) -> None:
    size = framing.CREDIT_WINDOW + (1 << 20)
    peer.send({"op": "exec", "id": 1, "argv": ["/bin/sh", "-c", f"head -c {size} /dev/zero"]})
    got = 0
    while got < framing.CREDIT_WINDOW:
        header, body = peer.receive()
        assert header["op"] == "out"
        got += len(body)
    peer.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        while True:
            got += len(peer.receive()[1])
    assert got < framing.CREDIT_WINDOW + 4 * framing.CHUNK, "output must wait for credit"
    peer.sock.settimeout(20)
    peer.send({"op": "credit", "id": 1, "count": size})
    while True:
        header, body = peer.receive()
        got += len(body)
        if header["op"] == "exit":
            break
    assert got == size and header["rc"] == 0


def test_kill_ends_the_whole_process_group(peer: Peer) -> None:
    """Also a process that ignores signals, and one that outlives its parent."""
    script = "(trap '' TERM; echo $$ $(sh -c 'echo $PPID'); exec >/dev/null 2>&1; sleep 61) & wait"
    peer.send({"op": "exec", "id": 1, "stream_output": True, "argv": ["/bin/sh", "-c", script]})
    header, body = peer.receive()
    pids = [int(word) for word in body.split()]
    began = time.monotonic()
    peer.send({"op": "kill", "id": 1})
    while header["op"] != "exit":
        header, _ = peer.receive()
    assert not processes.wait_gone(*pids, timeout=5)
    assert time.monotonic() - began < 5
    assert not [p for p in processes.descendants(peer.process.pid) if "sleep 61" in p.command]


def test_the_pid_of_a_job_is_not_released_while_it_can_be_killed(peer: Peer) -> None:
    """Its process has ended, but a child in another session is still running: no other process may get the pid yet."""
    peer.send({"op": "exec", "id": 1, "stream_output": True, "argv": ["/bin/sh", "-c", "setsid sleep 1 & echo $$"]})
    header, body = peer.receive()
    while (leader := processes.read(int(body))) and not leader.zombie:
        time.sleep(0.01)
    assert leader and leader.parent == peer.process.pid
    peer.send({"op": "kill", "id": 1})
    while header["op"] != "exit":
        header, _ = peer.receive()
    assert header["rc"] == 0
    assert processes.read(int(body)) is None, "now the pid is free"


def test_a_reaped_process_is_not_signalled(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    reaper = jobs.ProcessReaper()
    reaper.add(child.pid)
    while reaper.collect(child.pid) is None:
        time.sleep(0.01)
    child.returncode = 0  # already reaped
    sent = []
    monkeypatch.setattr(os, "kill", lambda *signal: sent.append(signal))
    assert (reaper.next_check_at() or 0) <= jobs.now() + jobs.POLL_INTERVAL
    reaper.escalate_kills()
    assert not sent and reaper.next_check_at() is None


def test_an_exit_status_is_collected_once(peer: Peer) -> None:
    """One child has ended while its output is still open; the end of others must not change its status."""
    lingering = {"op": "exec", "id": 1, "argv": ["/bin/sh", "-c", "sleep 0.5 & exit 3"]}
    others = [{"op": "exec", "id": request_id, "argv": ["/bin/sh", "-c", "sleep 0.1"]} for request_id in range(2, 8)]
    for request in (lingering, *others):
        peer.send(request)
    answers = {header["id"]: header["rc"] for header, _ in (peer.receive() for _ in range(7))}
    assert answers == {1: 3, **dict.fromkeys(range(2, 8), 0)}


def _send_module(peer: Peer, source: bytes, more: dict[str, bytes] | None = None) -> str:
    blobs = BlobStore()
    manifest = blobs.add_files({**FILES, **(more or {}), "ansible/modules/other.py": source})
    peer.send({"op": "blobs", "blobs": [[n, len(d)] for n, d in blobs.contents.items()]}, b"".join(blobs.contents.values()))
    return manifest


@pytest.mark.parametrize("peer", OLDEST_AND_NEWEST, indirect=True)
def test_a_failing_excepthook_shows_the_traceback_of_the_module(peer: Peer) -> None:
    source = (
        b"import sys\ndef hook(kind, value, trace):\n    1 // 0\nsys.excepthook = hook\n"
        b"def fails():\n    raise ValueError('the original')\nfails()\n"
    )
    request = {"op": "run", "id": 1, "module": "ansible.modules.other", "generation": "runpy"}
    answer, body = peer.ask({**request, "manifest": _send_module(peer, source)}, b"{}")
    failed, _, original = body.decode().partition("Original exception was:")
    assert answer["rc"] == 1
    assert "Error in sys.excepthook" in failed and "in hook" in failed and "in fails" not in failed
    assert "in fails" in original and "ValueError: the original" in original and "in hook" not in original
    assert "pmitogen" not in body.decode()


@pytest.mark.parametrize("peer", OLDEST_AND_NEWEST, indirect=True)
def test_opening_a_named_pipe_does_not_block_the_runner(peer: Peer, tmp_path: Path) -> None:
    """open(2) would wait forever for the other end, and block all requests and the end of the runner."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    answer, _ = peer.ask({"op": "get", "id": 1, "path": str(pipe), "label": "fetching"})
    assert answer["op"] == "error" and "named pipe" in answer["msg"]
    put = {"op": "put", "path": str(pipe), "mode": 0o600, "label": "sending"}
    answer, _ = peer.ask({**put, "id": 2}, b"content")
    assert answer["op"] == "error" and os.strerror(errno.ENXIO) in answer["msg"]
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert peer.ask({**put, "id": 3}, b"content")[0]["op"] == "ok"
    assert os.read(reader, 100) == b"content" and pipe.is_fifo()
    answer, _ = peer.ask({**put, "id": 4}, b"x" * 300_000)  # more than its buffer
    assert answer["op"] == "error" and "no process reads from it" in answer["msg"]
    os.close(reader)
    assert peer.ask({"op": "get", "id": 5, "path": "/dev/null"})[0]["op"] == "ok"
    assert peer.ask({"op": "get", "id": 6, "path": str(tmp_path)})[0]["msg"].endswith("Is a directory")


def test_a_module_with_a_syntax_error_fails_alone(peer: Peer) -> None:
    manifest = _send_module(peer, b"this is no Python\n")
    for request_id in (1, 2):
        run = {"op": "run", "id": request_id, "manifest": manifest, "module": "ansible.modules.other", "generation": "runpy"}
        answer, body = peer.ask(run, b"{}")
        assert answer["rc"] == 1 and b"SyntaxError" in body[answer["stdout_size"] :]
    assert peer.module(3, {})[1]["name"] == "__main__"  # the runner has not ended


def test_warnings_of_the_compiler_are_shown_each_time(peer: Peer) -> None:
    manifest = _send_module(peer, b"print('ok' if 1 is 1 else '')\n")
    for request_id in (1, 2, 3):
        answer, body = peer.ask(
            {"op": "run", "id": request_id, "manifest": manifest, "module": "ansible.modules.other", "generation": "runpy"}, b"{}"
        )
        assert body.startswith(b"ok\n")
        warned = b"SyntaxWarning" in body[answer["stdout_size"] :]
        assert warned == (peer.version >= (3, 8))


def test_the_exit_of_a_child_of_the_module_is_not_its_result(peer: Peer) -> None:
    """The child runs the same code to its end, earlier than the module."""
    source = (
        b"import os, sys, time\nif os.fork() == 0:\n    sys.exit(3)\nos.wait()\ntime.sleep(0.1)\nprint('late')\nsys.exit(4)\n"
    )
    manifest = _send_module(peer, source)
    for request_id in (1, 2):
        answer, body = peer.ask(
            {"op": "run", "id": request_id, "manifest": manifest, "module": "ansible.modules.other", "generation": "runpy"}, b"{}"
        )
        assert (answer["rc"], body) == (4, b"late\n")


def test_a_module_may_reuse_the_descriptors_of_the_runner(peer: Peer, tmp_path: Path) -> None:
    source = (
        b"import os\nos.closerange(3, 100)\nfor n in range(5):\n    os.open(%r, os.O_WRONLY | os.O_CREAT, 0o600)\nprint('done')\n"
    )
    manifest = _send_module(peer, source % str(tmp_path / "file"))
    for request_id in (1, 2):
        answer, body = peer.ask(
            {"op": "run", "id": request_id, "manifest": manifest, "module": "ansible.modules.other", "generation": "runpy"}, b"{}"
        )
        assert body.startswith(b"done\n") and answer["op"] == "exit"
    assert (tmp_path / "file").read_bytes() == b""


def test_a_module_that_writes_to_every_descriptor_affects_only_itself(peer: Peer) -> None:
    source = b"""
import os
for fd in range(3, 60):
    try:
        os.write(fd, b'{}\\n')
    except OSError:
        pass
print('x')
"""
    manifest = _send_module(peer, source)
    for request_id in (1, 2):
        request = {"op": "run", "id": request_id, "manifest": manifest, "module": "ansible.modules.other", "generation": "runpy"}
        answer, body = peer.ask(request, b"{}")
        assert answer["op"] == "exit" and body.startswith(b"x\n")


def test_all_processes_end_with_the_agent(peer: Peer) -> None:
    peer.send({"op": "exec", "id": 1, "stream_output": True, "argv": ["/bin/sh", "-c", "trap '' TERM; echo $$; sleep 61"]})
    pid = int(peer.receive()[1])
    peer.sock.shutdown(socket.SHUT_RDWR)
    assert not processes.wait_gone(pid, peer.process.pid, timeout=5)


def test_archives_share_their_contents() -> None:
    """On the hub: payloads are stored by content, and compressed once for the same set of files."""
    blobs, data = BlobStore(), io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    manifest = blobs.add_archive("name", base64.b64decode(base64.b64encode(data.getvalue())))
    assert blobs.manifest_of("name") == manifest == FILES_SENT[0] and blobs.manifest_of("other") is None
    assert {name: blobs.contents[name] for name in blobs.members(manifest)} == FILES_SENT[1]
    first, second = blobs.compress(blobs.members(manifest)), blobs.compress(list(blobs.members(manifest)))
    assert first is second
    listed, _, contents = zlib.decompress(first).partition(b"\n")
    assert [name for name, _ in json.loads(listed)][0] == manifest
    assert contents == b"".join(FILES_SENT[1][name] for name, size in json.loads(listed))
    assert sorted(FILES_SENT[1]) == sorted(name for name, _ in json.loads(listed))


@pytest.mark.parametrize("broken", [b"", b"no zip", b"PK\x03\x04" + bytes(100)])
def test_an_invalid_archive_is_refused(broken: bytes) -> None:
    from pmitogen.errors import UsageError

    with pytest.raises(UsageError, match="module archive"):
        BlobStore().add_archive("x", broken)
