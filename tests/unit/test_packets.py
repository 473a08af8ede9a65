"""Binary packets over a loopback socket: encrypted and decrypted by each cipher, invalid ones refused, no reader left waiting."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from paramiko import SSHException
from paramiko.common import MSG_CHANNEL_DATA
from paramiko.compress import ZlibCompressor
from paramiko.message import Message

from pmitogen.transport.keys.chacha20_poly1305 import ChaCha20Poly1305
from pmitogen.transport.paramiko_ext.inbound_budget import MAX_USELESS
from pmitogen.transport.paramiko_ext.keepalive import KeepaliveAction, KeepaliveTimer
from pmitogen.transport.paramiko_ext.packets.inflate import MAX_UNPACKED, Decompressor
from pmitogen.transport.paramiko_ext.packets.outbound import MAX_TRIED
from pmitogen.transport.paramiko_ext.packets.packetizer import (
    IDLE_READ_SIZE,
    MAX_PACKET,
    READ_SIZE,
    FastPacketizer,
    QuietException,
)

KEY, IV = os.urandom(64), os.urandom(16)
IGNORE = 2


def set_cipher(packets: FastPacketizer, cipher: str, outbound: bool) -> None:
    """Set the keys of *cipher* in *packets*: its name as in ssh, for CTR and CBC with the MAC in use."""
    args: tuple[Any, ...] = ()
    named: dict[str, Any] = {}
    if cipher == "chacha20-poly1305":
        args, named = (ChaCha20Poly1305(KEY), 8, None, 16, None), {"aead": True, "iv": b""}
    elif cipher == "aes128-gcm":
        args, named = (AESGCM(KEY[:16]), 16, None, 16, None), {"aead": True, "iv": IV[:12]}
    elif cipher != "none":
        mode = modes.CTR(IV) if "ctr" in cipher else modes.CBC(IV)
        context = Cipher(algorithms.AES(KEY[:16]), mode)
        engine = context.encryptor() if outbound else context.decryptor()
        size, kind = (12, hashlib.sha1) if "sha1-96" in cipher else (32, hashlib.sha256)
        args, named = (engine, 16, kind, size, KEY[:32]), {"etm": "etm" in cipher}
    if args and outbound:
        packets.set_outbound_cipher(*args, **{"iv_out" if name == "iv" else name: value for name, value in named.items()})
    elif args:
        packets.set_inbound_cipher(*args, **{"iv_in" if name == "iv" else name: value for name, value in named.items()})


CIPHERS = ["none", "aes128-gcm", "chacha20-poly1305", "aes128-ctr etm", "aes128-ctr", "aes128-cbc sha1-96", "aes128-cbc etm"]


@pytest.fixture
def cipher(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", "aes128-gcm"))


@pytest.fixture
def pair(cipher: str) -> Iterator[tuple[FastPacketizer, FastPacketizer, socket.socket]]:
    """Yield pmitogen's packetizer, the peer's, and the peer's socket."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as near:
        far, _ = server.accept()
        with far:
            ours, theirs = FastPacketizer(near), FastPacketizer(far)
            set_cipher(theirs, cipher, True)
            set_cipher(ours, cipher, False)
            yield ours, theirs, far


each_cipher = pytest.mark.parametrize("cipher", CIPHERS, indirect=True)


def message(payload: bytes) -> Message:
    return Message(bytes((IGNORE,)) + payload)


@each_cipher
@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 11, 12, 13, 14, 15, 16, 17, 1000, 32768, 200_000])
def test_packets_of_each_length_pass(pair: tuple[FastPacketizer, FastPacketizer, socket.socket], size: int) -> None:
    ours, theirs, _ = pair
    payload = os.urandom(size)
    sender = threading.Thread(target=lambda: [theirs.send_message(message(payload)) for _ in range(3)])
    sender.start()
    for index in range(3):
        kind, got = ours.read_message()
        assert (kind, got.asbytes(), got.seqno) == (IGNORE, payload, index)
    sender.join()
    assert ours.bytes_received == theirs.bytes_sent


def test_a_packet_that_never_ends_is_silence(pair: tuple[FastPacketizer, FastPacketizer, socket.socket]) -> None:
    """As where its length was changed on the way: what arrives in answer to each keepalive request belongs to it."""
    ours, _, far = pair
    ours.keepalive = KeepaliveTimer(0.1, 3, time.monotonic())
    actions: list[KeepaliveAction] = []

    def act(action: KeepaliveAction) -> None:
        actions.append(action)
        if action is KeepaliveAction.GIVE_UP:
            raise EOFError
        far.send(b"answer")

    ours.on_keepalive = act
    far.send((200_000).to_bytes(4, "big"))
    with pytest.raises(EOFError):
        ours.read_message()
    assert actions == [KeepaliveAction.SEND_REQUEST] * 3 + [KeepaliveAction.GIVE_UP]


def test_only_a_busy_connection_has_a_large_buffer(pair: tuple[FastPacketizer, FastPacketizer, socket.socket]) -> None:
    ours, theirs, _ = pair
    ours.keepalive = KeepaliveTimer(0.05, 1000, time.monotonic())

    def size() -> int:
        return len(ours._scratch or b"")

    sender = threading.Thread(target=lambda: theirs.send_message(message(bytes(200_000))))
    sender.start()
    assert size() == 0
    ours.read_message()
    assert size() == READ_SIZE
    with pytest.raises(QuietException):
        ours.read_message()
    sender.join()
    theirs.send_message(message(b"x"))
    ours.read_message()
    assert size() == IDLE_READ_SIZE


@each_cipher
def test_the_reader_works_while_a_profiler_holds_its_frames(pair: tuple[FastPacketizer, FastPacketizer, socket.socket]) -> None:
    """As with a sampling profiler or a debugger: all local variables of the frames stay alive."""
    ours, theirs, _ = pair
    payloads = [os.urandom(size) for size in (10, 50_000, 0, 100_000, 3)]
    sender = threading.Thread(target=lambda: [theirs.send_message(message(payload)) for payload in payloads])
    sender.start()
    held: list[Any] = []
    sys.setprofile(lambda frame, event, arg: held.append((frame, dict(frame.f_locals))))
    try:
        got = [ours.read_message()[1].asbytes() for _ in payloads]
    finally:
        sys.setprofile(None)
    sender.join()
    assert got == payloads


def test_compressed_packets_pass(pair: tuple[FastPacketizer, FastPacketizer, socket.socket]) -> None:
    ours, theirs, _ = pair
    theirs.set_outbound_compressor(ZlibCompressor())
    ours.set_inbound_compressor(Decompressor())
    theirs.send_message(message(bytes(50_000)))
    assert ours.read_message()[1].asbytes() == bytes(50_000)
    assert theirs.bytes_sent < 1000


def test_a_payload_that_decompresses_to_too_much_is_refused(pair: tuple[FastPacketizer, FastPacketizer, socket.socket]) -> None:
    ours, theirs, _ = pair
    theirs.set_outbound_compressor(ZlibCompressor())
    ours.set_inbound_compressor(Decompressor())
    theirs.send_message(message(bytes(MAX_UNPACKED - 100)))
    assert len(ours.read_message()[1].asbytes()) == MAX_UNPACKED - 100
    theirs.send_message(message(bytes(100 << 20)))
    tracemalloc.start()
    with pytest.raises(SSHException, match="more than 262144 decompressed bytes"):
        ours.read_message()
    assert tracemalloc.get_traced_memory()[1] < 2 << 20
    tracemalloc.stop()


def test_an_invalid_compressed_payload_is_refused(pair: tuple[FastPacketizer, FastPacketizer, socket.socket]) -> None:
    ours, theirs, _ = pair
    ours.set_inbound_compressor(Decompressor())
    theirs.send_message(message(b"plain"))
    with pytest.raises(SSHException, match="cannot be decompressed"):
        ours.read_message()


def encrypted_by(packets: FastPacketizer, payload: bytes) -> bytearray:
    """Return the packet as it is sent."""
    sealed: list[bytes] = []
    packets.write_all = sealed.append  # type: ignore[method-assign]
    packets.send_message(message(payload))
    return bytearray(sealed[0])


@each_cipher
@pytest.mark.parametrize("at", [4, 5, 10, -1, -13])
def test_a_changed_byte_is_detected(pair: tuple[FastPacketizer, FastPacketizer, socket.socket], cipher: str, at: int) -> None:
    if cipher == "none":
        pytest.skip("this byte is not authenticated")
    ours, theirs, far = pair
    raw = encrypted_by(theirs, b"payload, and more of it")
    raw[at] ^= 1
    far.sendall(raw)
    with pytest.raises(SSHException, match="changed on the way|invalid length"):  # some ciphers authenticate the length in part
        ours.read_message()


@each_cipher
def test_a_truncated_packet_is_waited_for_and_refused(pair: tuple[FastPacketizer, FastPacketizer, socket.socket]) -> None:
    ours, theirs, far = pair
    far.sendall(encrypted_by(theirs, bytes(500))[:-3])
    far.shutdown(socket.SHUT_WR)
    with pytest.raises(EOFError):
        ours.read_message()


def test_a_repeated_packet_is_refused(pair: tuple[FastPacketizer, FastPacketizer, socket.socket]) -> None:
    ours, theirs, far = pair
    raw = encrypted_by(theirs, b"once")
    far.sendall(raw + raw)
    ours.read_message()
    with pytest.raises(SSHException, match="changed on the way"):
        ours.read_message()


@pytest.mark.parametrize("cipher", ["none", "aes128-gcm", "aes128-ctr etm"], indirect=True)
@pytest.mark.parametrize("length", [0, 1, 4, 17, MAX_PACKET + 16, 0xFFFFFFFF])
def test_an_invalid_length_is_not_waited_for(pair: tuple[FastPacketizer, FastPacketizer, socket.socket], length: int) -> None:
    ours, _, far = pair
    far.sendall(length.to_bytes(4, "big"))
    with pytest.raises(SSHException, match="invalid length"):
        ours.read_message()


@pytest.mark.parametrize("cipher", ["none"], indirect=True)
@pytest.mark.parametrize("padding", [0, 3, 11, 255])
def test_invalid_padding_is_refused(pair: tuple[FastPacketizer, FastPacketizer, socket.socket], padding: int) -> None:
    ours, _, far = pair
    far.sendall(bytes((0, 0, 0, 12, padding)) + bytes(11))
    with pytest.raises(SSHException, match="invalid padding"):
        ours.read_message()


def test_a_flood_of_useless_messages_ends_the_connection(pair: tuple[FastPacketizer, FastPacketizer, socket.socket]) -> None:
    ours, theirs, _ = pair
    sender = threading.Thread(target=lambda: [theirs.send_message(message(b"")) for _ in range(MAX_USELESS + 500)])
    sender.start()
    with pytest.raises(SSHException, match="sends too many useless messages"):
        for _ in range(MAX_USELESS + 500):
            ours.read_message()
    sender.join()


def test_an_unknown_message_is_answered(pair: tuple[FastPacketizer, FastPacketizer, socket.socket]) -> None:
    ours, theirs, _ = pair
    answered: list[int] = []
    ours.on_unknown = answered.append
    theirs.send_message(message(b"known"))
    theirs.send_message(Message(bytes((192,)) + b"ping"))
    theirs.send_message(message(b"known too"))
    assert [ours.read_message()[1].asbytes() for _ in range(2)] == [b"known", b"known too"]
    assert answered == [1]


def test_the_volume_limit_requests_new_keys_on_both_sides(pair: tuple[FastPacketizer, FastPacketizer, socket.socket]) -> None:
    ours, theirs, _ = pair
    for each in pair[:2]:
        each.set_rekey_limit(10_000, 0)
    for _ in range(10):
        theirs.send_message(message(bytes(1000)))
        ours.read_message()
    assert ours.need_rekey() and theirs.need_rekey()


def test_close_wakes_a_reader_at_once(pair: tuple[FastPacketizer, FastPacketizer, socket.socket]) -> None:
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


def test_close_wakes_a_writer_at_once(pair: tuple[FastPacketizer, FastPacketizer, socket.socket]) -> None:
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


def test_the_key_exchange_has_a_time_limit(pair: tuple[FastPacketizer, FastPacketizer, socket.socket]) -> None:
    ours, _, _ = pair
    ours.start_handshake(0.2)
    began = time.monotonic()
    with pytest.raises(EOFError):
        ours.read_message()
    assert 0.15 < time.monotonic() - began < 0.5
    ours.complete_handshake()
    assert ours.handshake_timed_out()  # a message does not end the key exchange
    ours._initial_kex_done = True
    ours.complete_handshake()
    assert not ours.handshake_timed_out()


def test_lines_are_read_before_the_version(pair: tuple[FastPacketizer, FastPacketizer, socket.socket]) -> None:
    ours, _, far = pair
    far.sendall(b"Exceeded MaxStartups\r\nSSH-2.0-x\nrest")
    assert ours.read_line(100, None) == b"Exceeded MaxStartups\r"
    assert ours.read_line(100, None) == b"SSH-2.0-x"
    with pytest.raises(TimeoutError):
        ours.read_line(100, time.monotonic() + 0.1)
    assert ours.unread() == b"rest"
    assert ours.read_line(3, None) is None
    far.sendall(b"\n")
    assert ours.read_line(4, None) == b"rest"


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="Linux only")
def test_packets_of_a_login_are_acknowledged_at_once(pair: tuple[FastPacketizer, FastPacketizer, socket.socket]) -> None:
    ours, _, far = pair
    far.sendall(b"hello\n")
    ours._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    ours.read_line(100, None)
    assert ours._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK)


def test_try_send_sends_a_short_message_only_without_waiting(
    pair: tuple[FastPacketizer, FastPacketizer, socket.socket],
) -> None:
    ours, theirs, _ = pair
    short = bytes((MSG_CHANNEL_DATA,)) + b"short"  # of a type without a limit on the number
    assert theirs.try_send(short) and ours.read_message()[1].asbytes() == b"short"
    assert not theirs.try_send(message(bytes(MAX_TRIED)).asbytes())
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with theirs._sending:
            held.set()
            done.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    assert not theirs.try_send(short)
    done.set()
    holder.join()
    assert theirs.try_send(short) and ours.read_message()[1].asbytes() == b"short"
    sent, longest = 0, bytes((MSG_CHANNEL_DATA,)) + bytes(MAX_TRIED - 1)
    while theirs.try_send(longest):  # until the buffers of both sockets are full
        sent += 1
        assert sent < 100_000
    for _ in range(sent):
        assert ours.read_message()[1].asbytes() == bytes(MAX_TRIED - 1)
    theirs.close()
    assert not theirs.try_send(short)
