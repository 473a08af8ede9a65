"""Files through a hub: any size with little memory, any name, atomically, and other requests go on meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pmitogen import toggles
from pmitogen.hub import client as hub_client
from pmitogen.hub.daemon import start_or_adopt
from pmitogen.protocol.framing import CHUNK, CREDIT_WINDOW, to_wire
from pmitogen.util.caller import CallerEnvironment
from tests.support import processes
from tests.support.accounts import Account
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]

MIB = 1 << 20
SIZES = {"empty": 0, "byte": 1, "chunk": CHUNK, "mib": MIB + 1, "window": CREDIT_WINDOW + 3}
NAMES = {
    "blanks": b"a name with  blanks ",
    "quotes": b'it\'s "quoted" `really` $HOME',
    "newline": b"two\nlines\n",
    "bytes": b"\xff\xfe\x80 latin \xe9",
    "dash": b"-rf",
    "tilde": b"~root",
    "long": b"n" * 255,
    "unicode": "gr\u00fcn\u2713".encode(),
    "star": b"*",
    "backslash": b"a\\nb",
}


class WorkerConnection:
    """A worker's connection to a hub of this process, with the options of one account."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.client = start_or_adopt.connect(os.getpid())
        self.client.open(options, CallerEnvironment.current())

    def request(self, header: dict[str, Any], body: bytes = b"") -> int:
        request_id = self.client.next_id()
        self.client.send({**header, "id": request_id}, body)
        return request_id

    def final(self, request_id: int, sink: Callable[[bytes], Any] | None = None) -> tuple[dict[str, Any], bytes]:
        while True:
            header, body = self.client.receive(60)
            assert header["id"] == request_id
            if header["op"] == "out":
                if sink is not None:
                    sink(body)
                self.client.send({"op": "credit", "id": request_id, "count": len(body)})
            elif header["op"] != "credit":
                return header, body

    def run(self, *argv: str) -> tuple[int, bytes]:
        header, body = self.final(self.request({"op": "exec", "argv": [to_wire(word) for word in argv]}))
        return header.get("rc", -1), body

    def put(self, path: bytes, pieces: Iterator[bytes], mode: int = 0o640, **more: Any) -> dict[str, Any]:
        """Send a file as a worker does: as much as the credit allows."""
        request_id = self.request({"op": "put", "path": to_wire(path), "mode": mode, "more": True, **more})
        credit, ended = CREDIT_WINDOW, False
        while True:
            while credit > 0 and not ended:
                piece = next(pieces, b"")
                ended = not piece
                self.client.send({"op": "data", "id": request_id} if piece else {"op": "eof", "id": request_id}, piece)
                credit -= len(piece)
            header, _ = self.client.receive(60)
            if header["op"] != "credit":
                return header
            credit += header["count"]

    def get(self, path: bytes, sink: Callable[[bytes], Any]) -> dict[str, Any]:
        return self.final(self.request({"op": "get", "path": to_wire(path)}), sink)[0]

    def hub_pid(self) -> int:
        self.client.send({"op": "status", "id": 0})
        return int(self.client.receive(10)[0]["pid"])


@pytest.fixture
def options(sshd: Sshd, make_account: Callable[..., Account]) -> dict[str, Any]:
    """Return the options of a new account, which is removed with its files."""
    account = make_account()
    return {
        "host": sshd.host,
        "port": sshd.port,
        "remote_user": account.name,
        "private_key_file": str(sshd.key.path),
        "timeout": 15,
        "ssh_common_args": f"-F none -o UserKnownHostsFile={sshd.known_hosts} -o GlobalKnownHostsFile=/dev/null",
    }


@pytest.fixture
def account_processes(options: dict[str, Any]) -> Callable[[], set[processes.Process]]:
    """Return a function that lists the account's processes."""
    uid = pwd.getpwnam(options["remote_user"]).pw_uid
    return lambda: processes.of_user(uid)


@pytest.fixture
def worker(options: dict[str, Any]) -> Iterator[WorkerConnection]:
    made = WorkerConnection(options)
    yield made
    made.client.close()
    hub_client.stop_hubs(everything=True)


def home(options: dict[str, Any]) -> bytes:
    return os.fsencode(os.path.expanduser(f"~{options['remote_user']}"))


def pieces(data: bytes) -> Iterator[bytes]:
    return (data[at : at + CHUNK] for at in range(0, len(data), CHUNK))


def test_without_pipelining_each_write_is_waited_for(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    put = {"op": "put", "path": "/nonexistent/x", "mode": 0o600, "ack_early": True}
    output: dict[str, list[str]] = {}
    for setting in ("1", "0"):
        monkeypatch.setenv("PMITOGEN_PIPELINE", setting)
        worker = WorkerConnection(options)
        try:
            answers = [
                worker.final(worker.request(put, b"x"))[0],
                worker.final(worker.request({"op": "exec", "argv": ["true"]}))[0],
            ]
            output[setting] = [answer["op"] for answer in answers]
        finally:
            worker.client.close()
            hub_client.stop_hubs(everything=True)
    assert output == {"1": ["ok", "error"], "0": ["error", "exit"]}


@pytest.fixture
def small_disk(options: dict[str, Any]) -> Iterator[Path]:
    """A directory of the account with room for 64 KiB."""
    directory = Path(os.fsdecode(home(options))) / "small"
    directory.mkdir()
    owner = directory.parent.stat().st_uid
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=64k,uid={owner},mode=755", "none", str(directory)], check=True)
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)


@pytest.mark.parametrize("size", [200_000, 3 * CREDIT_WINDOW], ids=["small", "streamed"])
def test_a_full_disk_is_reported_with_the_file_name(worker: WorkerConnection, small_disk: Path, size: int) -> None:
    header = {"op": "put", "path": str(small_disk / "x"), "mode": 0o600, "label": "failed to transfer file to x"}
    if size < CREDIT_WINDOW:
        answer = worker.final(worker.request({**header, "ack_early": True}, bytes(size)))[0]
        if toggles.request_pipelining_enabled():
            assert answer["op"] == "ok"
            answer = worker.final(worker.request({"op": "exec", "argv": ["true"]}))[0]
    else:
        answer = worker.put(os.fsencode(small_disk / "x"), pieces(bytes(size)), label=header["label"])
    assert answer["msg"] == "failed to transfer file to x: No space left on device"
    assert not list(small_disk.iterdir())
    assert worker.run("echo", "in") == (0, b"in\n")


def test_files_of_each_size_pass_unchanged(worker: WorkerConnection, options: dict[str, Any]) -> None:
    for name, size in SIZES.items():
        data, path = os.urandom(size), os.path.join(home(options), name.encode())
        assert worker.put(path, pieces(data))["op"] == "ok"
        assert Path(os.fsdecode(path)).read_bytes() == data
        assert Path(os.fsdecode(path)).stat().st_mode & 0o777 == 0o640
        taken: list[bytes] = []
        assert worker.get(path, taken.append)["op"] == "ok"
        assert b"".join(taken) == data


def test_files_of_any_name_pass_unchanged(worker: WorkerConnection, options: dict[str, Any]) -> None:
    directory = home(options)
    for name, raw in NAMES.items():
        data = name.encode()
        path = os.path.join(directory, raw)
        assert worker.put(path, pieces(data))["op"] == "ok", name
        taken: list[bytes] = []
        assert worker.get(path, taken.append)["op"] == "ok", name
        assert b"".join(taken) == data, name
    assert {name for name in os.listdir(directory) if not name.startswith(b".")} == set(NAMES.values())


def test_failures_are_reported_and_the_connection_goes_on(worker: WorkerConnection, options: dict[str, Any]) -> None:
    assert worker.put(home(options) + b"/no/such/folder", pieces(b"x"))["msg"].endswith("No such file or directory")
    assert worker.put(b"/etc/passwd", pieces(b"x"))["msg"].endswith("Permission denied")
    assert worker.get(b"/nonexistent", bytes)["msg"].endswith("No such file or directory")
    assert worker.get(home(options), bytes)["msg"].endswith("Is a directory")
    assert worker.run("/bin/echo", "still here") == (0, b"still here\n")


def peak(pid: int) -> int:
    """Return the largest resident size of a process so far, in bytes."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0]) << 10


def test_a_large_file_takes_little_memory_and_others_go_on(worker: WorkerConnection, options: dict[str, Any]) -> None:
    """300 MiB in each direction. The size of the hub stays constant, and a second worker's commands are answered meanwhile."""
    size, block = 300 * MIB, os.urandom(MIB)
    path = home(options) + b"/large"
    assert worker.run("/bin/true")[0] == 0
    pid = worker.hub_pid()
    before = peak(pid)
    other, slowest, stop = WorkerConnection(options), [0.0], threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            began = time.monotonic()
            assert other.run("/bin/echo", "x") == (0, b"x\n")
            slowest[0] = max(slowest[0], time.monotonic() - began)
            time.sleep(0.05)

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        assert worker.put(path, (block for _ in range(size // MIB)))["op"] == "ok"
        assert os.path.getsize(path) == size
        sums = hashlib.sha256()
        assert worker.get(path, sums.update)["op"] == "ok"
        assert sums.digest() == hashlib.sha256(block * (size // MIB)).digest()
    finally:
        stop.set()
        asking.join()
        other.client.close()
        os.unlink(path)
    assert peak(pid) - before < 60 * MIB
    assert slowest[0] < 5, "commands of another worker must not wait"


def test_an_interrupted_transfer_leaves_the_old_file(worker: WorkerConnection, options: dict[str, Any]) -> None:
    """Either the worker or the connection ends in the middle."""
    path = Path(os.fsdecode(home(options)), "kept")
    assert worker.put(os.fsencode(path), pieces(b"old"))["op"] == "ok"
    for cut in ("worker", "connection"):
        other = WorkerConnection(options)
        request_id = other.request({"op": "put", "path": to_wire(str(path)), "mode": 0o644, "more": True})
        other.client.send({"op": "data", "id": request_id}, bytes(2 * MIB))
        time.sleep(0.3)
        assert path.read_bytes() == b"old"
        if cut == "connection":
            other.client.send({"op": "reset", "id": 99})
        other.client.close()
        until = time.monotonic() + 5
        while [name for name in os.listdir(path.parent) if name.startswith(".pmitogen")]:
            assert time.monotonic() < until, f"{cut}: a partial file is left"
            time.sleep(0.05)
        assert path.read_bytes() == b"old"


def test_twenty_threads_start_one_hub(options: dict[str, Any]) -> None:
    """All at once: all of them reach one hub process, which makes one connection."""
    found: queue.SimpleQueue[int] = queue.SimpleQueue()
    barrier = threading.Barrier(20)

    def work() -> None:
        barrier.wait()
        worker = WorkerConnection(options)
        try:
            found.put(worker.hub_pid() if worker.run("/bin/true")[0] == 0 else -1)
        finally:
            worker.client.close()

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pids = {found.get() for _ in range(20)}
    assert len(pids) == 1 and -1 not in pids
    assert hub_client.stop_hubs(everything=True) == 1


@pytest.mark.parametrize("early", ["put", "remove"])
def test_a_request_acknowledged_early_may_be_lost_with_the_connection(
    worker: WorkerConnection, options: dict[str, Any], account_processes: Callable[[], set[processes.Process]], early: str
) -> None:
    """Requests that depend on it fail, and do not run over a new connection; a lost removal of a file affects no request."""
    place = home(options).decode()
    assert worker.run("echo", "in") == (0, b"in\n")
    for process in account_processes():
        os.kill(process.pid, signal.SIGSTOP)  # so that it does not read the request
    header = {
        "put": {"op": "put", "path": f"{place}/lost", "mode": 0o600, "label": "putting"},
        "remove": {"op": "fs", "action": "remove", "path": f"{place}/none", "label": "removing"},
    }[early]
    assert worker.final(worker.request({**header, "ack_early": True}, b"x" if early == "put" else b""))[0]["op"] == "ok"
    for process in account_processes():
        with contextlib.suppress(ProcessLookupError):  # it has ended with its parent
            os.kill(process.pid, signal.SIGKILL)
    time.sleep(1)
    answer = worker.final(worker.request({"op": "exec", "argv": ["echo", "in"]}))[0]
    if early == "put":
        assert (answer["op"], answer["kind"]) == ("error", "lost") and "127.0.0.1" in answer["msg"]
    else:
        assert answer["op"] == "exit"
    assert worker.run("echo", "in") == (0, b"in\n")


def test_a_request_acknowledged_early_and_confirmed_is_not_lost(
    worker: WorkerConnection, options: dict[str, Any], account_processes: Callable[[], set[processes.Process]]
) -> None:
    """If the connection ends later, for example between two tasks of a loop, the next request reconnects."""
    put = {"op": "put", "path": f"{home(options).decode()}/done", "mode": 0o600, "label": "putting", "ack_early": True}
    assert worker.final(worker.request(put, b"x"))[0]["op"] == "ok"
    assert worker.run("echo", "in") == (0, b"in\n")
    for process in account_processes():
        with contextlib.suppress(ProcessLookupError):  # it has ended with its parent
            os.kill(process.pid, signal.SIGKILL)
    time.sleep(1)
    assert worker.run("cat", put["path"]) == (0, b"x")


def test_a_request_acknowledged_early_may_be_lost_with_the_account(
    sshd: Sshd, options: dict[str, Any], make_account: Callable[..., Account]
) -> None:
    """An interpreter behind sudo has ended, while the connection is open."""
    account, other = make_account(sudo="nopasswd"), make_account()
    worker = WorkerConnection({**options, "remote_user": account.name})
    try:
        become = {"become": {"method": "sudo", "user": other.name, "timeout": 10}}
        say = {"op": "exec", "argv": ["echo", "in"], **become}
        put = {"op": "put", "path": f"{other.home}/lost", "mode": 0o600, "label": "putting", "ack_early": True, **become}
        assert worker.final(worker.request(say))[0]["op"] == "exit"
        for process in other.processes():
            os.kill(process.pid, signal.SIGSTOP)
        assert worker.final(worker.request(put, b"x"))[0]["op"] == "ok"
        for process in other.processes():
            with contextlib.suppress(ProcessLookupError):  # it has ended with its parent
                os.kill(process.pid, signal.SIGKILL)
        for process in processes.descendants(sshd.pid):
            if process.command.startswith("sudo"):
                os.kill(process.pid, signal.SIGCONT)  # sudo stops with its program
        time.sleep(1)
        answer = worker.final(worker.request(say))[0]
        assert (answer["op"], answer["kind"]) == ("error", "interpreter-ended")
        assert worker.final(worker.request(say))[0]["op"] == "exit"
    finally:
        worker.client.close()
        hub_client.stop_hubs(everything=True)


@pytest.fixture
def other_python(tmp_path: Path) -> str:
    """Return the same interpreter under another name, which has its own runner."""
    path = tmp_path / "python"
    path.symlink_to("/usr/bin/python3")
    for directory in (tmp_path, *tmp_path.parents[:3]):
        directory.chmod(directory.stat().st_mode | 0o111)
    return str(path)


def test_a_request_acknowledged_early_is_done_before_one_in_another_interpreter(
    worker: WorkerConnection, options: dict[str, Any], other_python: str
) -> None:
    """For example the file of a module: one runner writes it, another runs the module."""
    (pid,) = map(int, worker.run("/bin/sh", "-c", "echo $PPID")[1].split())
    put = {"op": "put", "path": f"{home(options).decode()}/first", "mode": 0o600, "label": "putting", "ack_early": True}
    read = {"op": "exec", "argv": ["cat", put["path"]], "python": [other_python]}
    assert worker.final(worker.request({**read, "argv": ["true"]}))[0]["rc"] == 0
    os.kill(pid, signal.SIGSTOP)
    try:
        assert worker.final(worker.request(put, b"x"))[0]["op"] == "ok"
        request_id = worker.request(read)
        with pytest.raises(TimeoutError):
            worker.client.receive(1)
    finally:
        os.kill(pid, signal.SIGCONT)
    header, body = worker.final(request_id)
    assert (header["rc"], body) == (0, b"x")


def test_a_failure_after_an_early_acknowledgement_fails_a_request_in_another_interpreter(
    worker: WorkerConnection, other_python: str
) -> None:
    put = {"op": "put", "path": "/nonexistent/x", "mode": 0o600, "label": "putting", "ack_early": True}
    run = {"op": "exec", "argv": ["true"], "python": [other_python]}
    assert worker.run("echo", "in") == (0, b"in\n")
    assert worker.final(worker.request(put, b"x"))[0]["op"] == "ok"
    answer = worker.final(worker.request(run))[0]
    assert answer["op"] == "error" and answer["msg"].startswith("putting: No such file")
    assert worker.final(worker.request(run))[0]["rc"] == 0
