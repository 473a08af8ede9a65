"""A pytest plugin for tests of programs that use SSH: ``pytest_plugins = ["pmitogen.testing"]`` in the root conftest.py.

Its one fixture, ``ssh_server``, is a :class:`pmitogen.testing.server.ScriptedServer` on loopback. It needs neither root nor sshd.
pytest does not load this by itself: there is no entry point, so that test runs which do not use it do not pay for it.

PYTEST_DONT_REWRITE: there are no assertions here, and tests may import the class before pytest loads the plugin.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from pmitogen.testing.server import ScriptedServer


@pytest.fixture
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedServer]:
    """An SSH server that answers commands with the test's answers. It ends with the test."""
    from pmitogen.testing.server import ScriptedServer  # Paramiko is loaded when a test uses it

    directory: Path = tmp_path_factory.mktemp("ssh_server")
    with ScriptedServer(directory) as server:
        yield server
