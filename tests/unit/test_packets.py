"""Binary packets over a loopback socket: sealed and opened, broken ones refused, and nobody left asleep."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from paramiko import SSHException
from paramiko.compress import ZlibCompressor, ZlibDecompressor
from paramiko.message import Message

from pmitogen.transport.paramiko_ext.packetizer import LONGEST_PACKET, Packets

KEY, IV = os.urandom(16), os.urandom(12)
IGNORE = 2


@pytest.fixture
def pair() -> Iterator[tuple[Packets, Packets, socket.socket]]:
    """Ours, the peer's, and the peer's bare socket; they speak AES-GCM."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as near:
        far, _ = server.accept()
        with far:
            ours, theirs = Packets(near), Packets(far)
            theirs.set_outbound_cipher(AESGCM(KEY), 16, None, 16, None, aead=True, iv_out=IV)
            ours.set_inbound_cipher(AESGCM(KEY), 16, None, 16, None, aead=True, iv_in=IV)
            yield ours, theirs, far


def message(payload: bytes) -> Message:
    return Message(bytes((IGNORE,)) + payload)


@pytest.mark.parametrize("size", [0, 1, 11, 12, 13, 14, 15, 16, 17, 1000, 32768, 200_000])
def test_every_length(pair: tuple[Packets, Packets, socket.socket], size: int) -> None:
    ours, theirs, _ = pair
    payload = os.urandom(size)
    sender = threading.Thread(target=lambda: [theirs.send_message(message(payload)) for _ in range(3)])
    sender.start()
    for number in range(3):
        kind, got = ours.read_message()
        assert (kind, got.asbytes(), got.seqno) == (IGNORE, payload, number)
    sender.join()
    assert ours.bytes_received == theirs.bytes_sent


def test_compressed(pair: tuple[Packets, Packets, socket.socket]) -> None:
    ours, theirs, _ = pair
    theirs.set_outbound_compressor(ZlibCompressor())
    ours.set_inbound_compressor(ZlibDecompressor())
    theirs.send_message(message(bytes(50_000)))
    assert ours.read_message()[1].asbytes() == bytes(50_000)
    assert theirs.bytes_sent < 1000


def test_a_changed_byte_is_seen(pair: tuple[Packets, Packets, socket.socket]) -> None:
    ours, theirs, far = pair
    sealed: list[bytes] = []
    theirs.write_all = sealed.append  # type: ignore[method-assign]
    theirs.send_message(message(b"payload"))
    raw = bytearray(sealed[0])
    raw[10] ^= 1
    far.sendall(raw)
    with pytest.raises(SSHException, match="Mismatched MAC"):
        ours.read_message()


def test_garbage_length_is_not_waited_for(pair: tuple[Packets, Packets, socket.socket]) -> None:
    ours, _, far = pair
    far.sendall((LONGEST_PACKET + 1).to_bytes(4, "big"))
    with pytest.raises(SSHException, match="a packet of"):
        ours.read_message()


def test_volume_asks_for_new_keys_on_both_sides(pair: tuple[Packets, Packets, socket.socket]) -> None:
    ours, theirs, _ = pair
    for each in pair[:2]:
        each.set_rekey_limit(10_000, 0)
    for _ in range(10):
        theirs.send_message(message(bytes(1000)))
        ours.read_message()
    assert ours.need_rekey() and theirs.need_rekey()


def test_close_wakes_a_reader_at_once(pair: tuple[Packets, Packets, socket.socket]) -> None:
    ours, _, _ = pair
    ended: list[float] = []

    def read() -> None:
        with contextlib.suppress(EOFError):
            ours.read_message()
        ended.append(time.monotonic())

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.2)
    began = time.monotonic()
    ours.close()
    reader.join(5)
    assert ended[0] - began < 0.1


def test_close_wakes_a_writer_at_once(pair: tuple[Packets, Packets, socket.socket]) -> None:
    _, theirs, _ = pair
    theirs._sock.settimeout(60)

    def write() -> None:
        with contextlib.suppress(EOFError):
            while True:
                theirs.send_message(message(bytes(100_000)))

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(0.3)
    theirs.close()
    writer.join(1)
    assert not writer.is_alive()


def test_handshake_limit(pair: tuple[Packets, Packets, socket.socket]) -> None:
    ours, _, _ = pair
    ours.start_handshake(0.2)
    began = time.monotonic()
    with pytest.raises(EOFError):
        ours.read_message()
    assert 0.15 < time.monotonic() - began < 0.5
    ours.complete_handshake()
    assert not ours.handshake_timed_out()


def test_lines_of_a_greeting_are_kept(pair: tuple[Packets, Packets, socket.socket]) -> None:
    ours, _, far = pair
    far.sendall(b"Exceeded MaxStartups\r\nSSH-2.0-x\nrest")
    assert ours.readline(1) == "Exceeded MaxStartups"
    assert ours.readline(1) == "SSH-2.0-x"
    assert ours.greeting == ["Exceeded MaxStartups", "SSH-2.0-x"]
    with pytest.raises(TimeoutError):
        ours.readline(0.1)
    far.sendall(b"\n")
    assert ours.readline(1) == "rest"


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="Linux only")
def test_a_login_acknowledges_at_once(pair: tuple[Packets, Packets, socket.socket]) -> None:
    ours, _, far = pair
    far.sendall(b"hello\n")
    ours._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    ours.readline(1)
    assert ours._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK)
