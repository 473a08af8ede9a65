"""Lines before a server's version, by the rules of OpenSSH (kex_exchange_identification)."""

from __future__ import annotations

import pytest

from pmitogen.transport.paramiko_ext.version_exchange import MAX_LINE, NotSSH, NoVersion, VersionExchange


class Source:
    """Yields the lines of *data*; then the time limit is reached, or the connection ends."""

    def __init__(self, data: bytes, ends: bool = False) -> None:
        self.data, self.ends = data, ends

    def read_line(self, limit: int, until: float | None) -> bytes | None:
        line, found, rest = self.data.partition(b"\n")
        if len(line) > limit:
            return None
        if not found:
            raise EOFError if self.ends else TimeoutError
        self.data = rest
        return line

    def unread(self) -> bytes:
        return self.data


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-x\r\n",
        b"SSH-2.0-x\n",
        b"SSH-1.99-old and new\r\n",
        b"SSH-2.0-tinyssh_noversion abc\r\n",
        b"hello\r\n\r\n" * 500 + b"SSH-2.0-x\r\n",
        b"\xff\xfe not text\r\nSSH-2.0-x\r\n",
        b"SSH\r\nSSH-\r\nssh-2.0-x\r\nSSH-2.0-x\r\n",
        b"x" * MAX_LINE + b"\nSSH-2.0-x\r\n",
        b"x" * MAX_LINE + b"\r\nSSH-2.0-x\r\n",
        "SSH-2.0-größe\r\n".encode(),
    ],
)
def test_valid_versions_are_accepted(data: bytes) -> None:
    version = VersionExchange().read(Source(data), None)
    assert version.encode() == data.splitlines()[-1]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"hello\n" * 1024 + b"SSH-2.0-x\n", "no SSH version in the first 1024 lines"),
        (b"x" * (MAX_LINE + 1) + b"\n", "a line of more than 8192 bytes"),
        (b"x" * 100_000, "a line of more than 8192 bytes"),
        (b"a\0b\n", r"received 'a\\\\000b'"),
        (b"a\rb\n", "received 'a b'"),
        (b"SSH-2.0-x\0\n", "received 'SSH"),
        (b"SSH-2.0-\n", "invalid version line 'SSH-2.0-'"),
        (b"SSH-two-x\n", "invalid version line"),
        (b"SSH-" + b"9" * 5000 + b".0-x\n", "invalid version line"),
        (b"SSH-1.5-x\n", r"unsupported protocol version 1\.5"),
        (b"SSH-3.0-x\n", r"unsupported protocol version 3\.0"),
        (b"SSH-2.0-\xff\n", "received 'SSH-2.0-"),
        (b"SSH-1.5-\x1b[2J\n", r"\(SSH-1\.5-\\033\[2J\)"),
    ],
)
def test_other_data_is_refused_with_a_reason(data: bytes, why: str) -> None:
    with pytest.raises(NotSSH, match=why) as caught:
        VersionExchange().read(Source(data), None)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


def test_the_received_data_is_part_of_the_error() -> None:
    exchange = VersionExchange()
    with pytest.raises(NoVersion):
        exchange.read(Source(b"one\r\n\r\n\x1b[31mtwo\r\nthr"), 1.0)
    assert exchange.received == r"one | \033[31mtwo | thr"
    assert exchange.version == ""
    exchange = VersionExchange()
    with pytest.raises(EOFError):
        exchange.read(Source(b"Not allowed at this time\r\n", ends=True), None)
    assert exchange.received == "Not allowed at this time"
    exchange = VersionExchange()
    assert exchange.read(Source(b"".join(b"%d\n" % n for n in range(100)) + b"SSH-2.0-x\n"), None) == "SSH-2.0-x"
    assert exchange.received == "0 | 1 | ... 96 more lines ... | 98 | 99"
