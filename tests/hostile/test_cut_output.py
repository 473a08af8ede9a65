"""Servers that report an exit status before the end of the output, as they may, and whose connection then breaks."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

import pmitogen
from tests.hostile.ssh_server import Session, string, u32
from tests.hostile.test_ssh_servers import serving


class CutAfterTheStatus(Session):
    """Sends a part of the output, and the status 0."""

    def started(self) -> None:
        mark = re.search(rb"PMITOGEN-[0-9a-f]+ run", self.commands[-1])
        assert mark is not None
        self.send("data", u32(self.theirs), string(b"\n" + mark[0] + b"\nhalf"))
        self.send("channel_request", u32(self.theirs), string(b"exit-status"), b"\0", u32(0))
        self.transport.sock.close()


@pytest.mark.parametrize("call", [lambda host: host.get("file"), lambda host: host.run("cat file")], ids=["get", "run"])
def test_half_of_an_output_is_no_result(call: Callable[[pmitogen.Host], object]) -> None:
    options = pmitogen.ConnectOptions(host_keys="no", known_hosts=["/dev/null"], config=None, agent=False)
    with serving(CutAfterTheStatus) as settings:
        target = f"ssh://guest@127.0.0.1:{settings.port}"
        with pmitogen.connect(target, options=options, password="secret", timeout=20) as host:
            with pytest.raises(pmitogen.ConnectionLost):
                call(host)
