"""Types of the library: a good program passes ``mypy --strict``, and each mistake of a list is found."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import session

GOOD = """
import pathlib, signal, sys
import pmitogen
from pmitogen import aio

def ask(prompt: str, echo: bool) -> str | None:
    return None

def size(path: str, times: int = 1) -> int:
    return len(path) * times

def main() -> None:
    with pmitogen.connect("a@b", ssh_args=["-p", "22"], password="x", timeout=3, ask=ask) as host:
        done = host.run(["ls", pathlib.Path("/tmp")], env={"A": "b"}, cwd=pathlib.Path("/"), timeout=3.5)
        data: bytes = done.stdout
        words: str = host.run("ls", text=True, check=True).stdout
        more: str = host.run("ls", encoding="utf-8", input="x").stderr
        with host.start("ls", text=True, tty=pmitogen.Terminal("xterm", 80, 24)) as process:
            for line in process.stdout:
                print(line.upper())
            process.send_signal(signal.SIGINT)
            status: int = process.wait(3)
        raw: pmitogen.Process[bytes] = host.start("ls")
        raw.stdin.write(b"x")
        found: int = host.call(size, "x", times=2)
        limited: int = host.call(size, "x", timeout=3)
        root = host.become("root", method="su", password=None)
        root.put(b"x", "/x", mode=0o600)
        host.get("/x", pathlib.Path("y"))
    try:
        pmitogen.connect("x")
    except pmitogen.ConnectError as error:
        if error.stage == "auth":
            print(error)
    except pmitogen.RemoteError as failed:
        print(failed.result and failed.result.rc)
"""

WRONG = """
pmitogen.conect("x")
pmitogen.connect("x", pasword="x")
pmitogen.connect("x", password=3)
pmitogen.connect(3)
pmitogen.connect("x", ssh_args=3)
pmitogen.connect("x", timeout="3")
pmitogen.connect("x", ask=lambda: None)
pmitogen.connect("x", host_key_checking="no")
pmitogen.connect("x", jump_credentials={"x": {"pasword": "y"}})
pmitogen.Hub().conect("x")
pmitogen.Hub().connect("x", pyton="y")
pmitogen.Hub("x")
pmitogen.ConectError
pmitogen.Process("x")
host.run()
host.run(3)
host.run(["a", 3])
host.run("x", stdin=3)
host.run("x", stdn=b"")
host.run("x", env={"A": 1})
host.run("x", cwd=3)
host.run("x", tty="yes")
host.run("x", timeout="x")
host.run("x", check="x")
host.run("x", text="x")
host.run("x", encoding=3)
host.run("x").stdot
host.run("x").stdout + "text"
host.run("x", text=True).stdout + b"bytes"
host.run("x", on_output=lambda data: None)
host.rum("x")
host.start("x").stdin.write("text")
host.start("x", text=True).stdin.write(b"bytes")
host.start("x", timeout=3)
host.start("x").wait("3")
host.start("x").send_signal("TERM")
host.start("x").stdot
host.start("x").communicate("text")
host.start("x").resize("80", 24)
host.call(size)
host.call(size, 3)
host.call(size, "x", time=3)
host.call("size")
host.call(size, "x") + "text"
host.put(3, "/x")
host.put(b"", 3)
host.put(b"", "/x", mode="644")
host.get(3)
host.get("/x", 3)
host.become(method="suda")
host.become(pasword="x")
host.become("x", timeout="3")
pmitogen.ConnectError("x", "tcp").stag
pmitogen.ConnectError("x", "tcp").stage == "tpc"
pmitogen.BecomeError("x", "tty").kind == "tyy"
pmitogen.Terminal(80)
pmitogen.Completed(0, b"").rc
"""

HEAD = """
import pmitogen
def size(path: str, times: int = 1) -> int:
    return len(path) * times
def program(host: pmitogen.Host) -> None:
"""


def _mypy(folder: Path, *files: str) -> str:
    pytest.importorskip("mypy")
    env = {**os.environ, "MYPYPATH": str(session.repository)}
    command = [sys.executable, "-m", "mypy", "--strict", "--strict-equality", "--config-file", "/dev/null", "--no-error-summary"]
    cache = ["--cache-dir", str(session.repository / ".mypy_cache" / "programs"), "--follow-imports", "silent"]
    ignored = ["--ignore-missing-imports", *files]
    return subprocess.run([*command, *cache, *ignored], cwd=folder, env=env, capture_output=True, text=True, timeout=110).stdout


def test_a_good_program_passes(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(GOOD)
    assert _mypy(tmp_path, "good.py") == ""


def test_every_mistake_is_found(tmp_path: Path) -> None:
    lines = WRONG.strip().splitlines()
    assert len(lines) >= 50
    (tmp_path / "wrong.py").write_text(HEAD + "".join(f"    {line}\n" for line in lines))
    found = _mypy(tmp_path, "wrong.py")
    first = HEAD.count("\n") + 1
    missed = [line for number, line in enumerate(lines, first) if f"wrong.py:{number}: error" not in found]
    assert not missed, found
