"""become() of the library: chains of programs, each with its own password, functions called in other accounts, and prompts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pmitogen
from pmitogen.hub.blob_store import BlobStore
from tests.integration.test_api import connect, no_key
from tests.support import processes
from tests.support.accounts import Account
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]


def who(host: pmitogen.Host) -> str:
    return host.run("id -un", check=True).stdout.decode().strip()


# -- one account ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["sudo", "su", "doas"])
def test_each_method_enters_the_account(method: str, sshd: Sshd, account: Account, make_account: Any) -> None:
    other = make_account(password="others own")
    with connect(sshd, account) as host:
        entered = host.become(other.name, method=method, password="others own" if method == "su" else None)
        assert who(entered) == other.name
        entered.put(b"x", f"{other.home}/f")
        assert entered.get(f"{other.home}/f") == b"x" and (other.home / "f").stat().st_uid == other.uid
        assert who(host) == account.name


def test_become_errors_have_their_kind(sshd: Sshd, make_account: Any) -> None:
    account = make_account(password="right", sudo="password")
    with connect(sshd, account) as host:
        for options, kind in (
            ({"password": "wrong"}, "password-wrong"),
            ({}, "password-missing"),
            ({"password": "right", "user": "nobody-of-that-name"}, "unknown-user"),
            ({"exe": "/nowhere/sudo"}, "not-installed"),
        ):
            with pytest.raises(pmitogen.BecomeError) as caught:
                host.become(**options).run("true")  # type: ignore[arg-type]
            assert caught.value.kind == kind, caught.value
            assert "wrong'" not in str(caught.value)
        with pytest.raises(pmitogen.UsageError, match="become_flags"):
            host.become(flags="--no-such-flag").run("true")
        assert who(host.become(password="right")) == "root"


# Code compiled by the runner of the login account is not compiled again by the next account's. The interpreter reports it by its
# audit events (PEP 578), which a file of its environment records.
LISTENING = "import sys; sys.compiled = []; sys.addaudithook(lambda what, a: what == 'compile' and sys.compiled.append(a[1]))"


@pytest.fixture
def recording_python(make_account: Any) -> str:
    """The system's interpreter, in an environment that records the names of compiled files in ``sys.compiled``."""
    ask = ["/usr/bin/python3", "-c", "import sys; print(*sys.version_info[:2], sep='.')"]
    version = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    root: Path = make_account().home / "env"
    packages = root / "lib" / f"python{version}" / "site-packages"
    packages.mkdir(parents=True)
    (root / "bin").mkdir()
    (root / "bin" / "python").symlink_to("/usr/bin/python3")
    (root / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (packages / "listening.pth").write_text(LISTENING)
    for directory in (root, *root.rglob("*")):
        if directory.is_dir():
            directory.chmod(0o755)
    root.parent.chmod(0o755)
    return str(root / "bin" / "python")


@pytest.mark.optimised  # shared bytecode
@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="needs the system's python3")
def test_code_is_compiled_once_for_all_accounts(program: Path, recording_python: str, sshd: Sshd, account: Account) -> None:
    from farside.facts import compiled  # type: ignore[import-not-found]

    with connect(sshd, account, python=recording_python) as host:
        first, as_root = (
            {re.sub(r"^/proc/\d+/fd/\d+/", "", name) for name in each.call(compiled)} for each in (host, host.become("root"))
        )
        assert host.become("root").call(os.getuid) == 0
    bundle = "/pmitogen/bundle/pmitogen/target/"
    ours = {bundle + "runner.py", bundle + "fork.py", "farside/facts.py"}
    assert ours <= first
    assert not ours & as_root, as_root


# -- one after another ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("still_accounts")
def test_a_chain_without_passwords_enters_the_last_account(sshd: Sshd, account: Account, make_account: Any) -> None:
    alice = make_account(sudo="nopasswd", doas="nopass")
    with connect(sshd, account) as host:
        assert who(host.become(alice.name).become("root")) == "root"
        assert alice.sudo_uses() == 1  # sudo was started by alice
        assert who(host.become(alice.name, method="doas").become("root", method="doas")) == "root"
        assert host.become(alice.name).become("root").call(os.getuid) == 0


@pytest.mark.parametrize("first", ["sudo", "su", "doas"])
@pytest.mark.parametrize("second", ["sudo", "su", "doas"])
def test_a_chain_gives_each_program_its_own_password(first: str, second: str, sshd: Sshd, make_account: Any) -> None:
    me = make_account(password="my word", sudo="password", doas="password")
    alice = make_account(password="alice's $word", sudo="password", doas="password")
    carol = make_account(password="carols")
    one = "alice's $word" if first == "su" else "my word"
    two = "carols" if second == "su" else "alice's $word"
    with connect(sshd, me) as host:
        if (first, second) == ("su", "doas"):
            with pytest.raises(pmitogen.UsageError, match="use sudo after su"):
                host.become(alice.name, method=first, password=one).become(carol.name, method=second, password=two).ping()
            return
        entered = host.become(alice.name, method=first, password=one).become(carol.name, method=second, password=two)
        assert who(entered) == carol.name
        assert entered.run(["printf", "%s", "a 'b' $c"]).stdout == b"a 'b' $c"


def test_a_password_without_a_prompt_is_not_sent(sshd: Sshd, account: Account, make_account: Any) -> None:
    alice = make_account(password="alices", sudo="password")
    with connect(sshd, account) as host:
        assert who(host.become(alice.name, password="unneeded").become("root", password="alices")) == "root"


def test_the_error_of_a_chain_names_the_failed_program(sshd: Sshd, account: Account, make_account: Any) -> None:
    alice = make_account(password="right", sudo="password")
    with connect(sshd, account) as host:
        for password, kind in (("wrong", "password-wrong"), (None, "password-missing")):
            with pytest.raises(pmitogen.BecomeError, match=f"sudo to {alice.name}, sudo to root: ") as caught:
                host.become(alice.name).become("root", password=password).run("true")
            assert caught.value.kind == kind
        with pytest.raises(pmitogen.BecomeError) as caught:
            host.become("nobody-of-that-name").become("root").run("true")
        assert caught.value.kind == "unknown-user"
        assert who(host.become(alice.name).become("root", password="right")) == "root"


def test_the_interpreters_of_a_chain_of_three_end_together(sshd: Sshd, account: Account, make_account: Any) -> None:
    names = [make_account(sudo="nopasswd") for _ in range(2)]
    with connect(sshd, account) as host:
        entered = host
        for each in names:
            entered = entered.become(each.name)
        entered = entered.become("root").become(account.name)
        assert who(entered) == account.name
    processes.wait_until(lambda: not any(each.processes() for each in [*names, account]))


# -- functions --------------------------------------------------------------------------------------------------------------

HELPER = """
from . import values
from .values import ADD
def plus(a, b):
    from .late import times
    return times(a + b, values.ONE) + ADD
"""
PACKAGE = {
    "farside/__init__.py": "",
    "farside/work.py": HELPER,
    "farside/values.py": "ONE, ADD = 1, 0\n",
    "farside/facts.py": "import sys\ndef compiled():\n    return sys.compiled\n",
    "farside/late.py": "def times(a, b):\n    return a * b\n",
    "farside/program.py": """
from __future__ import print_function
import os, sys
import pmitogen
from pmitogen import Host, ConnectError
from .work import plus
def far(a, b=2):
    print("lost")
    return [plus(a, b), sys.version_info[0], __name__]
def fail():
    raise ValueError("as it should")
def misuse():
    pmitogen.connect("x")
if __name__ == "__main__":
    with pmitogen.connect(sys.argv[1], ssh_args=sys.argv[2:]) as host:
        print(host.call(far, 1, b=4))
""",
    "script.py": """
import sys
import pmitogen
from farside.work import plus
def far(a):
    return {"sum": plus(a, 1), "name": __name__}
if __name__ == "__main__":
    with pmitogen.connect(sys.argv[1], ssh_args=sys.argv[2:]) as host:
        print(host.call(far, 1))
""",
}


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in PACKAGE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path  # type: ignore[misc]
    for name in [name for name in sys.modules if name.partition(".")[0] == "farside"]:
        del sys.modules[name]


def run(directory: Path, *args: str) -> str:
    env = {**os.environ, "PYTHONPATH": f"{os.environ['PYTHONPATH']}:{directory}"}
    done = subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=60, cwd=directory, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


@pytest.mark.optimised  # request pipelining compresses
def test_sources_are_compressed_with_xz_on_a_slow_network(
    program: Path, sshd: Sshd, pythons: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python without lzma (before 3.3) gets them again with zlib."""
    from farside.program import far  # type: ignore[import-not-found]

    monkeypatch.setattr("pmitogen.hub.login.HIGH_LATENCY", 0.0)
    codecs: list[str] = []
    compress = BlobStore.compress
    monkeypatch.setattr(
        BlobStore, "compress", lambda self, names, codec="zlib": codecs.append(codec) or compress(self, names, codec)
    )
    for version, path in pythons.items():
        codecs.clear()
        with connect(sshd, "root", python=path) as host:  # root, because an interpreter may be in root's home
            assert host.call(far, 1, b=4)[1] == int(version.partition(".")[0])
            assert codecs == (["xz", "zlib"] if version == "2.7" else ["xz"]), version
            assert host.call(far, 2)[0] == 4


def test_functions_of_the_main_script_can_be_called(program: Path, sshd: Sshd, account: Account) -> None:
    target = [f"{account.name}@{sshd.host}", *sshd.ssh_args()]
    assert eval(run(program, "script.py", *target)) == {"sum": 2, "name": "pmitogen_caller_main"}
    assert eval(run(program, "-m", "farside.program", *target)) == [5, 3, "farside.program"]


def test_functions_run_on_every_python(program: Path, sshd: Sshd, account: Account, pythons: dict[str, str]) -> None:
    from farside import program as module  # type: ignore[import-not-found]

    usable = {v: path for v, path in pythons.items() if account.run(path, "-c", "0").returncode == 0}
    logins = {version: (account.name, path) for version, path in usable.items()}
    logins.update({version: ("root", path) for version, path in pythons.items() if version not in usable})
    assert logins
    for version, (name, path) in logins.items():
        with connect(sshd, name, python=path) as host:
            assert host.call(module.far, 1, b=3) == [4, int(version.split(".")[0]), "farside.program"], version
            with pytest.raises(pmitogen.RemoteError, match="ValueError: as it should") as caught:
                host.call(module.fail)
            assert "program.py" in caught.value.text  # the remote traceback
            with pytest.raises(pmitogen.RemoteError, match="makes no connections from a host"):
                host.call(module.misuse)


def test_functions_of_the_standard_library_can_be_called(sshd: Sshd, account: Account) -> None:
    with connect(sshd, account) as host:
        assert host.call(os.getuid) == account.uid
        assert host.call(os.path.join, "a", "b") == "a/b"
        with pytest.raises(pmitogen.RemoteError, match="No such file"):
            host.call(os.listdir, "/nowhere")
        with pytest.raises(TimeoutError):
            host.call(__import__("time").sleep, 30, timeout=0.5)


def make_local() -> Callable[[], int]:
    def local() -> int:
        return 1

    return local


@pytest.mark.parametrize(
    ("function", "arguments", "text"),
    [
        (lambda: 1, (), "a lambda or nested function cannot be called"),
        (make_local(), (), "a lambda or nested function cannot be called"),
        (Path("/").exists, (), "a method cannot be called on a host"),
        (os.path.join, (object(),), "its arguments are not JSON"),
    ],
)
def test_functions_that_cannot_be_sent_are_refused(
    function: Any, arguments: Any, text: str, sshd: Sshd, account: Account
) -> None:
    with connect(sshd, account) as host, pytest.raises(pmitogen.UsageError, match=text):
        host.call(function, *arguments)


# -- prompts ----------------------------------------------------------------------------------------------------------------


class PromptFunction:
    """A prompt function that selects its answer by a part of the prompt, and records its calls."""

    def __init__(self, **answers: str) -> None:
        self.answers = answers
        self.calls: list[tuple[str, bool]] = []

    def __call__(self, prompt: str, echo: bool) -> str | None:
        self.calls.append((prompt, echo))
        return next((answer for word, answer in self.answers.items() if word in prompt), None)


def test_ask_is_called_for_a_password(sshd: Sshd, account: Account) -> None:
    prompts = PromptFunction(assword=str(account.password))
    with connect(sshd, account, ssh_args=no_key(sshd), ask=prompts) as host:
        assert host.run("true").ok and prompts.calls
        host.become().run("true")
    assert not any(echo for _, echo in prompts.calls)


def test_ask_may_return_none(sshd: Sshd, account: Account) -> None:
    with pytest.raises(pmitogen.AuthenticationError):
        connect(sshd, account, ssh_args=no_key(sshd), ask=PromptFunction())
    quiet = PromptFunction(assword=str(account.password))
    with pytest.raises(pmitogen.AuthenticationError):
        connect(sshd, account, ssh_args=[*no_key(sshd), "-o", "BatchMode=yes"], ask=quiet)
    assert not quiet.calls


def test_only_yes_accepts_a_host_key(sshd: Sshd, account: Account, tmp_path: Path) -> None:
    known = tmp_path / "known"
    args = ["-F", "/dev/null", "-p", str(sshd.port), "-i", str(sshd.key.path), "-o", "IdentitiesOnly=yes"]
    args += ["-o", f"UserKnownHostsFile={known}", "-o", "GlobalKnownHostsFile=/dev/null"]
    for answer in ("y", "no", ""):
        prompts = PromptFunction(Continue=answer)
        with pytest.raises(pmitogen.ConnectError) as caught:
            connect(sshd, account, ssh_args=args, ask=prompts)
        assert caught.value.stage == "hostkey" and len(prompts.calls) == 1 and not known.exists()
    prompts = PromptFunction(Continue="yes")
    for _ in range(2):
        with connect(sshd, account, ssh_args=args, ask=prompts) as host:
            assert host.run("true").ok
    assert len(prompts.calls) == 1 and "SHA256:" in prompts.calls[0][0] and prompts.calls[0][1]


def test_ask_is_called_for_a_passphrase(sshd: Sshd, account: Account, make_key: Any) -> None:
    key = make_key("ed25519", passphrase="open sesame")
    sshd.authorize(key.public)
    prompts = PromptFunction(passphrase="open sesame")
    with connect(sshd, account, ssh_args=[*no_key(sshd)[:-2], "-i", str(key.path)], ask=prompts) as host:
        assert host.run("true").ok
    assert [echo for _, echo in prompts.calls] == [False]


def test_an_exception_in_ask_fails_the_login(sshd: Sshd, account: Account) -> None:
    def ask(prompt: str, echo: bool) -> str | None:
        raise RuntimeError("no terminal")

    with pytest.raises(pmitogen.Error, match="RuntimeError"):
        connect(sshd, account, ssh_args=no_key(sshd), ask=ask)
