"""Types of the library: correct programs pass ``mypy --strict`` and pyright, and both find each mistake of a list."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import session

GOOD = """
import pathlib, signal
from typing import Any
from typing_extensions import assert_type
import pmitogen
from pmitogen import aio, executors
from pmitogen.errors import BecomeKind, ConnectStage

def ask(prompt: str, echo: bool) -> str | None:
    return None

def size(path: str, times: int = 1) -> int:
    return len(path) * times

def kernel(host: pmitogen.Host) -> str:
    return host.run("uname -r", text=True).stdout

def main() -> None:
    with pmitogen.connect("a@b", ssh_args=["-p", "22"], password="x", timeout=3, ask=ask) as host:
        done = host.run(["ls", pathlib.Path("/tmp")], env={"A": "b"}, cwd=pathlib.Path("/"), timeout=3.5)
        assert_type(done, pmitogen.Completed[bytes])
        assert_type(host.run("ls", text=True, check=True).stdout, str)
        assert_type(host.run("ls", encoding="utf-8", input="x").stderr, str)
        with host.start("ls", text=True, tty=pmitogen.Terminal("xterm", 80, 24)) as process:
            assert_type(process, pmitogen.Process[str])
            for line in process.stdout:
                print(line.upper())
            process.send_signal(signal.SIGINT)
            assert_type(process.wait(3), int)
            assert_type(process.communicate("x"), tuple[str, str])
        raw = host.start("ls")
        assert_type(raw, pmitogen.Process[bytes])
        raw.stdin.write(b"x")
        assert_type(host.call(size, "x", times=2), int)
        assert_type(host.call(size, "x", timeout=3), int)
        root = host.become("root", method="su", password=None)
        root.put(b"x", "/x", mode=0o600)
        assert_type(host.get("/x"), bytes)
        host.get("/x", pathlib.Path("y"))
        with host.open("/x") as lines, host.open("/x", "rb") as stream:
            assert_type(lines.read(), str)
            assert_type(stream.read(), bytes)
    with pmitogen.Hub() as hub:
        assert_type(hub.connect_all(["a"]), list[pmitogen.Host])
        assert_type(hub.connect_all(["a"], return_exceptions=True), list[pmitogen.Host | pmitogen.Error])
        assert_type(hub.map(kernel, [host]), list[str])
        assert_type(hub.map(kernel, [host], return_exceptions=True), list[str | BaseException])
        for outcome in hub.as_completed(kernel, [host]):
            assert_type(outcome, pmitogen.Outcome[pmitogen.Host, str])
    assert_type(executors.map([], kernel, ["x"]), list[str])
    try:
        pmitogen.connect("x")
    except pmitogen.ConnectError as error:
        assert_type(error.stage, ConnectStage)
    except pmitogen.BecomeError as error:
        assert_type(error.kind, BecomeKind)
    except pmitogen.RemoteError as error:
        assert_type(error.result, pmitogen.Completed[Any] | None)

async def tasks() -> None:
    async with aio.connect("x") as host:
        assert_type((await host.run("x", text=True)).stdout, str)
        async with await host.start("x", text=True) as process:
            async for line in process.stdout:
                assert_type(line, str)
        assert_type(await host.call(size, "x"), int)
        assert_type(await host.listdir("/"), list[str])
"""

PAGES = [session.repository / "docs" / name for name in ("library.md", "library-examples.md")]
EXAMPLES = re.findall(r"^```python\n(.*?)^```", "".join(map(Path.read_text, PAGES)), re.M | re.S)

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
host.open("x", "a")
with host.open("x", "rb") as raw: raw.read() + "text"
executors.map(3, kernel, ["x"])
executors.map([], size, ["x"])
executors.map([], kernel, ["x"], pasword="y")
executors.map([], kernel, 3)
executors.processes("4")
executors.maps
executors.map([], kernel, ["x"])[0] + 3
[outcome.valu for outcome in executors.as_completed([], kernel, ["x"])]
aio.conect("x")
aio.connect("x", pasword="y")
task.open("x", "a")
task.run("x").stdout
aio.Hub().as_completed(kernel, [host])
"""

HEAD = """
import pmitogen
from pmitogen import aio, executors
def size(path: str, times: int = 1) -> int:
    return len(path) * times
def kernel(host: pmitogen.Host) -> str:
    return host.run("uname -r", text=True).stdout
def program(host: pmitogen.Host, task: aio.Host) -> None:
"""


PYRIGHT = session.repository / ".venv-library" / "bin" / "pyright"


def _pyright(directory: Path, *files: str) -> str:
    """Return pyright's errors in *files*: of each its file, its line counted from 1, and its text."""
    if not PYRIGHT.exists():
        pytest.skip("needs pyright, which make test-all installs")
    settings = {"extraPaths": [str(session.repository)], "pythonVersion": "3.12", "typeCheckingMode": "strict"}
    (directory / "pyrightconfig.json").write_text(json.dumps({**settings, "reportUnusedExpression": False}))
    command = [PYRIGHT, "--outputjson", "--pythonpath", PYRIGHT.with_name("python"), *files]
    found = subprocess.run(command, cwd=directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280)
    lines = []
    for each in json.loads(found.stdout)["generalDiagnostics"]:
        if each["severity"] == "error":
            place = f"{Path(each['file']).name}:{each['range']['start']['line'] + 1}"
            lines.append(f"{place}: error: {each['message']}")
    return "\n".join(lines)


def _mypy(directory: Path, *files: str) -> str:
    pytest.importorskip("mypy")
    env = {**os.environ, "MYPYPATH": str(session.repository)}
    command = [sys.executable, "-m", "mypy", "--strict", "--strict-equality", "--config-file", "/dev/null", "--no-error-summary"]
    cache = ["--cache-dir", str(session.repository / ".mypy_cache" / "programs"), "--follow-imports", "silent"]
    ignored = ["--ignore-missing-imports", *files]
    return subprocess.run(
        [*command, *cache, *ignored], cwd=directory, env=env, capture_output=True, text=True, timeout=110
    ).stdout


CHECKERS = [_mypy, pytest.param(_pyright, marks=[pytest.mark.slow, pytest.mark.timeout(300)])]


@pytest.mark.parametrize("check", CHECKERS)
def test_a_correct_program_passes(check: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text(GOOD)
    assert check(tmp_path, "good.py") == ""


@pytest.mark.parametrize("check", CHECKERS)
def test_the_examples_of_the_pages_pass(check: Callable[..., str], tmp_path: Path) -> None:
    names = [f"example{index}.py" for index in range(len(EXAMPLES))]
    for name, text in zip(names, EXAMPLES, strict=True):
        (tmp_path / name).write_text(text)
    assert len(names) > 20 and check(tmp_path, *names) == ""


@pytest.mark.parametrize("check", CHECKERS)
def test_every_mistake_is_found(check: Callable[..., str], tmp_path: Path) -> None:
    lines = WRONG.strip().splitlines()
    assert len(lines) >= 50
    (tmp_path / "wrong.py").write_text(HEAD + "".join(f"    {line}\n" for line in lines))
    found = check(tmp_path, "wrong.py")
    first = HEAD.count("\n") + 1
    missed = [line for index, line in enumerate(lines, first) if f"wrong.py:{index}: error" not in found]
    assert not missed, found
