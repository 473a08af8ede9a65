"""pmitogen.testing: the fixture with pmitogen, with Paramiko and in a separate pytest project."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import paramiko
import pytest

import pmitogen
from pmitogen.testing.server import ScriptedServer
from tests.support import processes
from tests.support.session import repository

pytest_plugins = ["pmitogen.testing"]


def _connect(server: ScriptedServer) -> pmitogen.Host:
    return pmitogen.connect(server.target, options=server.options, timeout=20)


def test_commands_get_their_scripted_answers_and_are_not_run(ssh_server: ScriptedServer, tmp_path: Path) -> None:
    made = tmp_path / "made"
    ssh_server.answer("uname -s; pwd", "Plan 9\n")
    ssh_server.answer(re.compile(r"systemctl restart \S+"), stderr="no such unit\n", rc=5)
    with _connect(ssh_server) as host:
        assert host.run("uname -s; pwd", text=True, cwd="/tmp", env={"A": "b c"}).stdout == "Plan 9\n"
        done = host.run(["systemctl", "restart", "nginx"])
        assert (done.rc, done.stdout, done.stderr) == (5, b"", b"no such unit\n")
        unknown = host.run(f"touch {made}")
    assert unknown.rc == 127 and b"no answer for" in unknown.stderr and not made.exists()
    assert ssh_server.commands == ["uname -s; pwd", "systemctl restart nginx", f"touch {made}"]


def test_output_may_have_any_byte_and_any_size(ssh_server: ScriptedServer) -> None:
    data = bytes(range(256)) * 4096
    ssh_server.answer("dump", data)
    with _connect(ssh_server) as host:
        assert host.run("dump").stdout == data


def test_the_newest_answer_counts_for_its_number_of_times(ssh_server: ScriptedServer) -> None:
    ssh_server.answer("state", "up")
    ssh_server.answer("state", "starting", rc=1, times=2)
    with _connect(ssh_server) as host:
        assert [host.run("state", text=True).stdout for _ in range(4)] == ["starting", "starting", "up", "up"]


def test_a_delayed_answer_exceeds_the_timeout(ssh_server: ScriptedServer) -> None:
    ssh_server.answer("slow", "x", delay=30)
    ssh_server.answer("fast", "y", delay=0.2)
    with _connect(ssh_server) as host:
        begin = time.monotonic()
        assert host.run("fast").stdout == b"y" and time.monotonic() - begin >= 0.2
        with pytest.raises(TimeoutError):
            host.run("slow", timeout=0.3)


def test_an_answer_can_close_the_connection(ssh_server: ScriptedServer) -> None:
    ssh_server.answer("half", "half of it", close=True)
    ssh_server.answer("fine", "fine")
    with _connect(ssh_server) as host:
        for count in range(1, 6):
            with pytest.raises(pmitogen.ConnectionLost):
                host.run("half")
            assert host.run("fine").stdout == b"fine"  # at once, over another connection
            assert ssh_server.connections == count + 1


def test_logins_can_be_refused(ssh_server: ScriptedServer) -> None:
    ssh_server.refuse_logins(times=1)
    with pytest.raises(pmitogen.AuthenticationError):
        _connect(ssh_server)
    _connect(ssh_server).close()
    ssh_server.refuse_logins()
    for _ in range(2):
        with pytest.raises(pmitogen.AuthenticationError):
            _connect(ssh_server)
    ssh_server.accept_logins()
    _connect(ssh_server).close()


def test_connections_can_be_dropped_and_delayed(ssh_server: ScriptedServer) -> None:
    ssh_server.drop_connections()
    with pytest.raises(pmitogen.ConnectError) as caught:
        _connect(ssh_server)
    assert not isinstance(caught.value, pmitogen.AuthenticationError)
    ssh_server.accept_logins()
    ssh_server.drop_connections(times=1)  # pmitogen tries once more
    _connect(ssh_server).close()
    ssh_server.login_delay = 30
    with pytest.raises(pmitogen.ConnectError):
        pmitogen.connect(ssh_server.target, options=ssh_server.options, timeout=1)


@pytest.mark.parametrize("options", [{}, {"env": {"A": "1"}}])
def test_a_delayed_answer_ends_by_signals_and_time_limits(ssh_server: ScriptedServer, options: dict[str, Any]) -> None:
    ssh_server.answer("serve", "done\n", delay=60)
    with _connect(ssh_server) as host:
        began = time.monotonic()
        with host.start("serve", **options) as process:
            processes.wait_until(lambda: bool(ssh_server.commands), 10)
            process.terminate()
            assert process.wait(timeout=20) == 143
        with pytest.raises(pmitogen.TimeoutExpired):
            host.run("serve", timeout=0.3, **options)
        assert time.monotonic() - began < 8
        ssh_server.answer("exec /bin/sh -c 'kill -TERM -1 2>/dev/null'", "no group of this server\n")
        assert host.run("exec /bin/sh -c 'kill -TERM -1 2>/dev/null'").stdout == b"no group of this server\n"
    assert ssh_server.commands[:2] == ["serve", "serve"] and len(ssh_server.commands) == 3


def test_files_are_in_the_root_directory(ssh_server: ScriptedServer) -> None:
    (ssh_server.root / "etc").mkdir()
    (ssh_server.root / "etc" / "motd").write_text("hello")
    with _connect(ssh_server) as host:
        assert host.get("/etc/motd") == b"hello"
        with pytest.raises(FileNotFoundError):
            host.get("/etc/nothing")
        host.put(b"new", "/etc/pmitogen-test", mode=0o600)
        host.put(b"text", "/tmp/../../../etc/other")
    assert (ssh_server.root / "etc" / "pmitogen-test").read_bytes() == b"new" and not Path("/etc/pmitogen-test").exists()
    assert (ssh_server.root / "etc" / "other").read_text() == "text"


def test_other_clients_and_any_host_name_work(ssh_server: ScriptedServer) -> None:
    ssh_server.answer("hostname", "web1\n")
    with pmitogen.connect("web1.example.com", ssh_args=ssh_server.ssh_args) as host:
        assert host.run("hostname").stdout == b"web1\n"
    client = paramiko.SSHClient()
    client.load_host_keys(str(ssh_server.known_hosts))
    client.connect(ssh_server.address, ssh_server.port, "x", key_filename=str(ssh_server.key_path), allow_agent=False)
    with client:
        assert client.exec_command("hostname")[1].read() == b"web1\n"


def test_unscripted_commands_run_on_request(tmp_path: Path) -> None:
    with ScriptedServer(tmp_path, real=True) as server, _connect(server) as host:
        assert host.info()["python"] and host.run("echo $((6 * 7))", text=True).stdout == "42\n"


@pytest.mark.parametrize("wrong", [{"rc": 256}, {"rc": -1}, {"delay": -1}, {"delay": float("nan")}, {"times": 0}])
def test_wrong_numbers_are_refused_at_the_call(ssh_server: ScriptedServer, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"answer: {next(iter(wrong))}: "):
        ssh_server.answer("x", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"stdout": 5}, {"stderr": None}, {"rc": "1"}, {"rc": True}, {"delay": "1"}, {"close": "no"}])
def test_wrong_types_are_refused_at_the_call(ssh_server: ScriptedServer, wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=f"answer: {next(iter(wrong))}: expected "):
        ssh_server.answer("x", **wrong)


def test_a_separate_project_gets_the_fixture_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["pmitogen.testing"]\nimport pmitogen.testing.server\n')
    (tmp_path / "test_it.py").write_text(
        "import pmitogen\n"
        "def test_it(ssh_server):\n"
        "    ssh_server.answer('hostname', 'web1')\n"
        "    with pmitogen.connect(ssh_server.target, options=ssh_server.options) as host:\n"
        "        assert host.run('hostname').stdout == b'web1'\n"
    )
    args = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'base'}"]
    env = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(args, cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("end", ["close", "wait"])
def test_a_process_that_waits_for_its_connection_can_be_ended(end: str, ssh_server: ScriptedServer) -> None:
    with _connect(ssh_server) as host:
        ssh_server.login_delay = 20
        ssh_server.disconnect()
        time.sleep(0.3)
        begin = time.monotonic()
        process = host.start("never")
        time.sleep(0.2)
        if end == "close":
            process.close()
        else:
            process.kill()
            with pytest.raises(pmitogen.ConnectionLost, match="cancelled before it began"):
                process.wait(10)
        assert time.monotonic() - begin < 5 and process.returncode is None and ssh_server.commands == []


def test_the_documented_use_of_mock_ssh_server_works(tmp_path: Path) -> None:
    pytest.importorskip("mockssh")
    page = (repository / "docs/library.md").read_text()
    (example,) = [text for text in re.findall(r"^```py\n(.*?)^```", page, re.M | re.S) if "mockssh" in text]
    (tmp_path / "test_example.py").write_text(example)
    args = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'base'}"]
    env = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(args, cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr
