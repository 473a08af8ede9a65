"""The paths of hubs' sockets: their owners, and the removal of old ones."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from pmitogen.errors import UsageError
from pmitogen.hub.daemon import socket_paths
from pmitogen.hub.daemon.lifecycle import HubLifecycle
from pmitogen.hub.daemon.run_settings import RunSettings
from pmitogen.util import processes


def test_hosts_are_distributed_evenly_and_permanently() -> None:
    hosts = [f"10.1.{index // 250}.{index % 250}" for index in range(1000)]
    numbers = [socket_paths.hub_index_for(host, 4) for host in hosts]
    assert all(200 < numbers.count(index) < 300 for index in range(4))
    assert numbers == [socket_paths.hub_index_for(host, 4) for host in hosts]
    assert {socket_paths.hub_index_for(host, 1) for host in hosts} == {0}
    assert socket_paths.hub_index_for("h\udcff\u00f6st", 2) in (0, 1)


@pytest.mark.parametrize("hub_index", [0, 1, 12])
def test_the_path_of_a_socket_has_the_index_of_its_hub(hub_index: int, short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_path))
    short_path.chmod(0o700)
    run = socket_paths.run_socket(os.getpid(), hub_index)
    for path in (run, socket_paths.standby_socket(run, "0123456789abcdef")):
        assert socket_paths.hub_index_in(path) == hub_index
        assert path.startswith(f"{short_path}/pmitogen-{os.getuid()}/") and path.endswith(".sock")
    assert socket_paths.run_socket(os.getpid(), hub_index) != socket_paths.run_socket(os.getpid(), hub_index + 1)


def test_a_hub_that_is_ending_adopts_no_run() -> None:
    """The hub's last connection ended a moment before the next run found the hub."""
    life = HubLifecycle(os.getpid(), RunSettings())
    registry, listener = Mock(), Mock(path="/d/standby.sock")
    life.is_standby = True
    life.all_closed()
    with pytest.raises(UsageError, match="this hub serves a run"):
        life.adopt_run(registry, listener, 1, "/d/1-2.sock", RunSettings())
    assert not registry.mock_calls and not listener.mock_calls
    for fd in (life._read_fd, life._write_fd):
        os.close(fd)


def test_stale_sockets_are_removed_and_active_ones_are_not(short_path: Path) -> None:
    """A run's hubs end one after another: the first must not remove the sockets of the others."""
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    mine = processes.start_time(os.getpid())
    names = {
        "ended": f"{gone.pid}-123.sock",
        "lock": f"{gone.pid}-123.sock.lock",
        "standby": f"standby-{gone.pid}-123-0123456789abcdef.3.sock",
        "serves": f"{gone.pid}-123.1.sock",
        "locked": f"{gone.pid}-123.1.sock.lock",
        "alive": f"{os.getpid()}-{mine}.sock",
        "foreign": "notes.sock",
    }
    for name in names.values():
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(short_path / name))
    (short_path / names["serves"]).unlink()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(short_path / names["serves"]))
        sock.listen()
        socket_paths.remove_stale(str(short_path), gone.pid)
        assert sorted(os.listdir(short_path)) == sorted(names[name] for name in ("serves", "locked", "alive", "foreign"))
    (short_path / names["alive"]).unlink()
    (short_path / names["foreign"]).unlink()
    socket_paths.remove_stale(str(short_path), gone.pid)
    assert not short_path.exists()
    short_path.mkdir()  # so that the fixture can remove it
