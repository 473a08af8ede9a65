"""Behaviour that users of subprocess, pathlib and asyncio expect from names that the library shares with them."""

from __future__ import annotations

import asyncio
import gc
import pickle
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import pmitogen
from pmitogen import aio
from pmitogen.api import Host
from tests.support.accounts import Account
from tests.support.library import connect
from tests.support.sshd import Sshd

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_sshd]


@pytest.fixture
def host(sshd: Sshd, account: Account) -> Iterator[Host]:
    with connect(sshd, account) as made:
        yield made


@pytest.mark.parametrize("text", [False, True])
def test_a_timeout_has_the_output_so_far(text: bool, host: Host) -> None:
    with pytest.raises(TimeoutError) as caught:
        host.run("echo early; echo odd >&2; sleep 60", timeout=0.5, encoding="utf-8" if text else None)
    error = caught.value
    assert isinstance(error, pmitogen.TimeoutExpired) and isinstance(error, pmitogen.Error)
    expected = ("early\n", "odd\n") if text else (b"early\n", b"odd\n")
    assert (error.stdout, error.stderr) == expected and str(error) == f"{host}: timed out after 0.5 seconds"
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and (again.stdout, str(again)) == (error.stdout, str(error))


def test_a_timeout_does_not_wait_for_a_command_that_ignores_signals(host: Host) -> None:
    with pytest.raises(pmitogen.TimeoutExpired) as caught:
        host.run("trap '' TERM; head -c 200000 /dev/zero; for n in 1 2 3 4 5 6; do sleep 1; done", timeout=0.5)
    assert isinstance(caught.value.stdout, bytes) and len(caught.value.stdout) == 200000


def test_communicate_can_be_called_again_after_a_timeout(host: Host) -> None:
    with host.start("cat; sleep 4; echo end", text=True) as process:
        with pytest.raises(pmitogen.TimeoutExpired) as caught:
            process.communicate("x" * 300_000 + "\n", timeout=2)
        assert str(caught.value.stdout).startswith("xxx")
        assert process.communicate() == ("x" * 300_000 + "\nend\n", "")


def test_constants_of_subprocess_are_accepted(host: Host) -> None:
    assert host.run("cat", stdin=subprocess.DEVNULL) == pmitogen.Completed(0, b"", b"")
    assert host.run("stty size; echo $TERM", tty=True, text=True).stdout == "24 80\nxterm\n"
    with pytest.raises(TypeError, match="stdin"):
        host.run("cat", stdin=subprocess.PIPE)  # type: ignore[call-overload]


def test_str_and_repr_of_a_host_name_its_target(host: Host, account: Account) -> None:
    name = f"{account.name}@127.0.0.1"
    root = host.become("root")
    assert (host.target, str(host), repr(host)) == (name, name, f"<pmitogen.Host {name}>")
    assert (root.target, str(root), repr(root)) == (name, f"{name} as root", f"<pmitogen.Host {name} as root>")


def test_open_has_the_modes_of_the_builtin(host: Host, account: Account) -> None:
    path = account.home / "opened"
    stream = host.open(path, "wt")
    stream.write("one\ntwo\n")
    assert not path.exists()
    stream.close()
    reader = host.open(path)
    assert reader.readline() == "one\n" and list(reader) == ["two\n"]
    reader.close()
    with host.open(path, "rb") as raw:
        assert raw.read() == b"one\ntwo\n"
    with pytest.raises(ValueError, match="x"), host.open(path, "w") as stream:
        stream.write("lost")
        raise ValueError("x")
    forgotten = host.open(path, "wb")
    forgotten.write(b"lost as well")
    with pytest.warns(ResourceWarning, match="unclosed file of a host"):
        del forgotten
        gc.collect()
    assert path.read_text() == "one\ntwo\n"
    with pytest.raises(pmitogen.UsageError, match="'a': use one of r, rt, w"):
        host.open(path, "a")  # type: ignore[call-overload]
    assert [(entry.name, entry.stat().st_size) for entry in host.scandir(account.home) if entry.name == "opened"] == [
        ("opened", 8)
    ]
    host.remove(path)


def test_a_missing_tree_raises_filenotfounderror(host: Host, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for missing in (lambda: host.put_tree(tmp_path / "no", "/tmp/x"), lambda: host.get_tree("/no/such", tmp_path / "x")):
        with pytest.raises(FileNotFoundError):
            missing()
    for wrong in (lambda: host.put_tree(tmp_path / "file", "/tmp/x"), lambda: host.get_tree("/etc/passwd", tmp_path / "x")):
        with pytest.raises(NotADirectoryError):
            wrong()


@pytest.mark.parametrize("end", ["22", "db1:5432"])
def test_an_invalid_end_of_a_forwarding_is_a_usage_error(end: str, host: Host) -> None:
    with pytest.raises(pmitogen.UsageError, match=f"forward_local: target: '{end}': use a number for a port"):
        host.forward_local(end)
    with host.forward_local(22) as forwarding:
        assert repr(forwarding) == f"<pmitogen.Forwarding on 127.0.0.1 port {forwarding.port}>"


def test_the_asyncio_library_behaves_the_same(sshd: Sshd, account: Account) -> None:
    target = f"{account.name}@{sshd.host}"

    async def work() -> None:
        async with aio.connect(target, ssh_args=sshd.ssh_args(), timeout=30) as host:
            assert (host.target, repr(host)) == (target, f"<pmitogen.aio.Host {target}>")
            with pytest.raises(pmitogen.TimeoutExpired) as caught:
                await host.run("echo early; sleep 60", timeout=0.5, text=True)
            assert caught.value.stdout == "early\n"
            async with await host.start("cat; sleep 1.5; echo end") as process:
                with pytest.raises(pmitogen.TimeoutExpired):
                    await process.communicate(b"x", timeout=0.5)
                assert await process.communicate() == (b"xend\n", b"")
            async with host.open("/etc/passwd", "rt") as lines:
                assert "root" in await lines.read()

    asyncio.run(work())
