"""A hostile SSH server: a program with a list of misbehaviours, each on its own port.

``python -m tests.hostile.ssh_server`` prints a JSON object, name -> port, and serves until its standard input ends. The names are
those of the functions below with the decorator :func:`misbehaviour` or :func:`raw`. Version, key exchange and encryption are
Paramiko's; later packets are sent one by one, as the misbehaviour requires, by a server that is honest in every other respect.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import sys
import threading
import time
import zlib
from collections.abc import Callable

import paramiko
from paramiko.message import Message
from paramiko.packet import Packetizer

MIB = 1 << 20
BIG = bytes(200_000)
EVIL = b"\x1b[2J\x1b]0;owned\x07\r\n" + b"A" * 100_000
NUMBERS = {
    "disconnect": 1, "ignore": 2, "unimplemented": 3, "debug": 4, "service_request": 5, "service_accept": 6, "ext_info": 7,
    "kexinit": 20, "newkeys": 21, "userauth_request": 50, "failure": 51, "success": 52, "banner": 53, "pk_ok": 60,
    "info_request": 60, "info_response": 61, "global_request": 80, "request_success": 81, "request_failure": 82,
    "channel_open": 90, "open_confirmation": 91, "open_failure": 92, "window_adjust": 93, "data": 94, "extended_data": 95,
    "eof": 96, "close": 97, "channel_request": 98, "channel_success": 99, "channel_failure": 100,
}  # fmt: skip

Raw = Callable[[socket.socket], None]
RAW: dict[str, Raw] = {}
SCRIPTED: dict[str, type[Session]] = {}


def raw(function: Raw) -> Raw:
    """Decorator for a misbehaviour that gets the socket itself, before any version line."""
    RAW[function.__name__] = function
    return function


def misbehaviour(kind: type[Session]) -> type[Session]:
    """Decorator for a misbehaviour after the key exchange."""
    SCRIPTED[re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()] = kind
    return kind


# Packets


def u32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def string(value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return u32(len(data)) + data


def unencrypted(payload: bytes) -> bytes:
    """Return a packet before any key exchange."""
    padding = 8 - (len(payload) + 5) % 8 + 8
    return u32(len(payload) + padding + 1) + bytes([padding]) + payload + bytes(padding)


def kexinit(names: list[bytes]) -> bytes:
    lists = b"".join(string(b",".join(names)) for _ in range(8))
    return bytes([NUMBERS["kexinit"]]) + bytes(16) + lists + string(b"") * 2 + bytes(5)


VERSION = b"SSH-2.0-OpenSSH_9.2\r\n"


# Before the version line, and before the keys


@raw
def long_lines(sock: socket.socket) -> None:
    for _ in range(99):
        sock.sendall(b"x" * MIB + b"\n")


@raw
def endless_lines(sock: socket.socket) -> None:
    while True:
        sock.sendall(b"hello\r\n" * 1000)


@raw
def endless_line(sock: socket.socket) -> None:
    while True:
        sock.sendall(b"x" * MIB)


@raw
def nul_in_a_line(sock: socket.socket) -> None:
    sock.sendall(b"hel\0lo\r\n" + VERSION)


@raw
def version_of_thousands_of_digits(sock: socket.socket) -> None:
    sock.sendall(b"SSH-" + b"9" * 5000 + b".0-x\r\n")


@raw
def giant_packet(sock: socket.socket) -> None:
    sock.sendall(VERSION + u32(0xFFFFFFF4))
    while True:
        sock.sendall(bytes(MIB))


@raw
def large_packet(sock: socket.socket) -> None:
    sock.sendall(VERSION + u32(700_004) + bytes(700_004))
    time.sleep(5)


@raw
def empty_packets(sock: socket.socket) -> None:
    sock.sendall(VERSION + u32(0) * 100)
    time.sleep(5)


@raw
def ignore_flood_before_keys(sock: socket.socket) -> None:
    sock.sendall(VERSION)
    while True:
        sock.sendall(unencrypted(bytes([NUMBERS["ignore"]]) + string(b"")) * 1000)


@raw
def debug_flood_before_keys(sock: socket.socket) -> None:
    sock.sendall(VERSION)
    while True:
        sock.sendall(unencrypted(bytes([NUMBERS["debug"], 1]) + string(EVIL[:500]) + string(b"")) * 100)


@raw
def unknown_messages_before_keys(sock: socket.socket) -> None:
    sock.sendall(VERSION)
    while True:
        sock.sendall(unencrypted(bytes([199])) * 1000)


@raw
def ext_info_before_keys(sock: socket.socket) -> None:
    sock.sendall(VERSION + unencrypted(bytes([NUMBERS["ext_info"]]) + u32(0xFFFFFFFF)))
    time.sleep(5)


@raw
def a_hundred_thousand_algorithms(sock: socket.socket) -> None:
    sock.sendall(VERSION + unencrypted(kexinit([b"a"] * 15_000)))
    time.sleep(5)


@raw
def algorithms_that_are_not_text(sock: socket.socket) -> None:
    sock.sendall(VERSION + unencrypted(kexinit([b"\xff\xfe"])))
    time.sleep(5)


@raw
def giant_group(sock: socket.socket) -> None:
    names = b"diffie-hellman-group-exchange-sha256", b"ssh-ed25519", b"aes128-ctr", b"aes128-ctr", b"hmac-sha2-256"
    lists = b"".join(map(string, (*names, names[4], b"none", b"none")))
    init = bytes([NUMBERS["kexinit"]]) + bytes(16) + lists + string(b"") * 2 + bytes(5)
    group = bytes([31]) + string(b"\x7f" + os.urandom(199_998) + b"\x01") + string(b"\x02")
    sock.sendall(VERSION + unencrypted(init) + unencrypted(group))
    time.sleep(5)


# After the key exchange


class ScriptedPackets(Packetizer):
    """Passes all messages except those of the key exchange to the session."""

    session: Session | None = None

    def read_message(self) -> tuple[int, Message]:
        while True:
            number, message = super().read_message()
            if self.session is None or number in (1, 2, 3, 20, 21) or 30 <= number < 50:
                return number, message
            try:
                self.session.handle(number, message)
            except Exception:
                self.close()
                raise


class Session:
    """An honest server: lets every client in, opens sessions, starts nothing. Subclasses misbehave."""

    key_exchange: tuple[str, ...] | None = None  # methods to offer

    def __init__(self, sock: socket.socket, key: paramiko.PKey) -> None:
        self.transport = paramiko.Transport(sock, packetizer_class=ScriptedPackets)
        self.transport.add_server_key(key)
        options = self.transport.get_security_options()
        options.compression = ("none", "zlib@openssh.com")
        self.commands: list[bytes] = []
        self.theirs = 0
        self.inbox = b""
        self.closed = threading.Event()

    def serve(self) -> None:
        done = threading.Event()
        self.transport.packetizer.session = self  # type: ignore[attr-defined]
        self.transport.start_server(event=done)
        done.wait(20)
        with contextlib.suppress(Exception):
            self.after_kex()
        self.transport.join(60)

    def send(self, name: str, *fields: bytes) -> None:
        self.transport.packetizer.send_message(Message(bytes([NUMBERS[name]]) + b"".join(fields)))

    def spawn(self, work: Callable[[], None]) -> None:
        def run() -> None:
            with contextlib.suppress(Exception):
                work()

        threading.Thread(target=run, daemon=True).start()

    def forever(self, name: str, *fields: bytes) -> None:
        """Send this packet until the connection ends."""
        self.spawn(lambda: self._forever(name, fields))

    def _forever(self, name: str, fields: tuple[bytes, ...]) -> None:
        while True:
            self.send(name, *fields)

    # The honest server

    def handle(self, number: int, message: Message) -> None:
        if number == NUMBERS["service_request"]:
            self.send("service_accept", string("ssh-userauth"))
        elif number == NUMBERS["userauth_request"]:
            message.get_string()
            message.get_string()
            self.on_auth(message.get_text())
        elif number == NUMBERS["info_response"]:
            self.on_auth("info_response")
        elif number == NUMBERS["channel_open"]:
            message.get_string()
            self.theirs = message.get_int()
            self.on_open()
        elif number == NUMBERS["channel_request"]:
            message.get_int()
            kind, want_reply = message.get_text(), message.get_boolean()
            if kind == "exec":
                self.commands.append(message.get_string())
            self.on_request(kind, want_reply, message)
        elif number == NUMBERS["data"]:
            message.get_int()
            self.on_data(message.get_string())

    def after_kex(self) -> None:
        """Called after the key exchange."""

    def on_auth(self, method: str) -> None:
        self.send("success")
        self.transport._auth_trigger()
        self.authenticated()

    def authenticated(self) -> None:
        """Called after the login."""

    def confirm(self, ours: int = 0) -> None:
        self.send("open_confirmation", u32(self.theirs), u32(ours), u32(2 * MIB), u32(32768))

    def on_open(self) -> None:
        self.confirm()
        self.opened()

    def opened(self) -> None:
        """Called when a session is open."""

    def on_request(self, kind: str, want_reply: bool, message: Message) -> None:
        if want_reply:
            self.send("channel_success", u32(self.theirs))
        if kind == "exec":
            self.started()

    def started(self) -> None:
        """Called after the request for a command."""

    def on_data(self, data: bytes) -> None:
        """Called with input for the command."""


# Before the login


@misbehaviour
class BannerFlood(Session):
    def on_auth(self, method: str) -> None:
        self.forever("banner", string(BIG), string(b""))


@misbehaviour
class ExtInfoWithFourBillionEntries(Session):
    def on_auth(self, method: str) -> None:
        self.send("ext_info", u32(0xFFFFFFFF))


@misbehaviour
class ExtInfoFlood(Session):
    def on_auth(self, method: str) -> None:
        self.forever("ext_info", u32(1), string(b"name"), string(BIG))


@misbehaviour
class ServiceAcceptFlood(Session):
    def on_auth(self, method: str) -> None:
        self.forever("service_accept", string(BIG))


@misbehaviour
class RefusalFlood(Session):
    def on_auth(self, method: str) -> None:
        self.forever("failure", string(b"publickey," + BIG), b"\0")


@misbehaviour
class MethodsThatAlternate(Session):
    """Requires another method first, whichever the client tries."""

    def on_auth(self, method: str) -> None:
        self.send("failure", string("password" if method == "publickey" else "publickey"), b"\0")


@misbehaviour
class EndlessPartialSuccess(Session):
    def on_auth(self, method: str) -> None:
        self.send("failure", string("password,keyboard-interactive,publickey"), b"\1")


@misbehaviour
class EndlessRounds(Session):
    def on_auth(self, method: str) -> None:
        if method in ("keyboard-interactive", "info_response"):
            self.send("info_request", string(b""), string(b""), string(b""), u32(0))
        else:
            self.send("failure", string("keyboard-interactive"), b"\0")


@misbehaviour
class FourBillionQuestions(EndlessRounds):
    def on_auth(self, method: str) -> None:
        if method != "keyboard-interactive":
            super().on_auth(method)
            return
        self.send("info_request", string(b""), string(b""), string(b""), u32(0xFFFFFFFF), (string(b"?") + b"\1") * 30_000)


@misbehaviour
class OneEndlessQuestion(EndlessRounds):
    def on_auth(self, method: str) -> None:
        if method != "keyboard-interactive":
            super().on_auth(method)
            return
        self.send("info_request", string(b""), string(EVIL), string(b""), u32(1), string(EVIL * 2) + b"\1")


@misbehaviour
class DisconnectWithLongText(Session):
    def on_auth(self, method: str) -> None:
        self.send("disconnect", u32(2), string(EVIL), string(b""))


@misbehaviour
class GlobalRequestFlood(Session):
    def on_auth(self, method: str) -> None:
        self.forever("global_request", string(b"hostkeys-00@openssh.com"), b"\1", string(BIG))


@misbehaviour
class SuccessTwice(Session):
    def on_auth(self, method: str) -> None:
        self.send("success")
        self.forever("success")


# After the login


@misbehaviour
class RefusalsAfterTheLogin(Session):
    def authenticated(self) -> None:
        self.forever("failure", string(BIG), b"\0")


@misbehaviour
class BannersAfterTheLogin(Session):
    def authenticated(self) -> None:
        self.forever("banner", string(BIG), string(b""))


@misbehaviour
class HostKeyUpdates(Session):
    def authenticated(self) -> None:
        self.forever("global_request", string(b"hostkeys-00@openssh.com"), b"\0", *[string(bytes(500))] * 400)


@misbehaviour
class IgnoreFlood(Session):
    def authenticated(self) -> None:
        self.forever("ignore", string(b""))


@misbehaviour
class DebugFlood(Session):
    def authenticated(self) -> None:
        self.forever("debug", b"\1", string(EVIL[:200]), string(b""))


@misbehaviour
class UnrequestedChannels(Session):
    def authenticated(self) -> None:
        self.forever("channel_open", string(b"auth-agent@openssh.com"), u32(1), u32(MIB), u32(32768))


@misbehaviour
class Bomb(Session):
    """A packet of 150 KB that decompresses to 32 MB."""

    def authenticated(self) -> None:
        bombs = zlib.compressobj(1)
        payload = bytes([NUMBERS["ignore"]]) + bytes(32 * MIB)
        packed = bombs.compress(payload) + bombs.flush(zlib.Z_SYNC_FLUSH)
        self.transport.packetizer.set_outbound_compressor(lambda _data: packed)
        self.send("ignore", b"")


@misbehaviour
class Rekeying(Session):
    """Repeats the key exchange without end."""

    def started(self) -> None:
        def rekey() -> None:
            while self.transport.is_active():
                self.transport.renegotiate_keys()

        self.spawn(rekey)


@misbehaviour
class WindowIgnored(Session):
    def started(self) -> None:
        self.forever("data", u32(self.theirs), string(bytes(32_000)))


@misbehaviour
class WindowIgnoredOnStderr(Session):
    def started(self) -> None:
        self.forever("extended_data", u32(self.theirs), u32(1), string(bytes(32_000)))


@misbehaviour
class UnknownStream(Session):
    def started(self) -> None:
        self.forever("extended_data", u32(self.theirs), u32(7), string(bytes(32_000)))


@misbehaviour
class DataOfOneByte(Session):
    def started(self) -> None:
        self.forever("data", u32(self.theirs), string(b"x"))


@misbehaviour
class EmptyData(Session):
    def started(self) -> None:
        self.forever("data", u32(self.theirs), string(b""))


@misbehaviour
class DataBeyondThePacketSize(Session):
    def started(self) -> None:
        self.send("data", u32(self.theirs), string(BIG))


@misbehaviour
class DataShorterThanItsLength(Session):
    def started(self) -> None:
        self.forever("data", u32(self.theirs), u32(MIB - 1), b"x")


@misbehaviour
class WindowOverflow(Session):
    def started(self) -> None:
        self.send("window_adjust", u32(self.theirs), u32(0xFFFFFFFF))


@misbehaviour
class WindowAdjustFlood(Session):
    def started(self) -> None:
        self.forever("window_adjust", u32(self.theirs), u32(0))


@misbehaviour
class OpenedTwice(Session):
    def opened(self) -> None:
        self.confirm(7)


@misbehaviour
class OpenedAndRefused(Session):
    def opened(self) -> None:
        self.send("open_failure", u32(self.theirs), u32(1), string(b"no"), string(b""))


@misbehaviour
class ExitSignals(Session):
    def started(self) -> None:
        fields = string(EVIL), b"\1", string(EVIL), string(b"")
        self.forever("channel_request", u32(self.theirs), string(b"exit-signal"), b"\0", *fields)


@misbehaviour
class RequestFlood(Session):
    def started(self) -> None:
        self.forever("channel_request", u32(self.theirs), string(b"keepalive@openssh.com"), b"\1")


@misbehaviour
class DataForAClosedChannel(Session):
    def started(self) -> None:
        self.send("close", u32(self.theirs))
        self.forever("data", u32(self.theirs), string(bytes(32_000)))


@misbehaviour
class DataForAnUnknownChannel(Session):
    def started(self) -> None:
        self.forever("data", u32(4000), string(b"x"))


@misbehaviour
class MessagesWithoutFields(Session):
    """Sends every message without its fields."""

    def started(self) -> None:
        for name in ("window_adjust", "data", "channel_request", "extended_data"):
            self.send(name, u32(self.theirs))


# Without Python: commands, and files by SFTP


class NoPython(Session):
    """Rejects the bootstrap as a host without Python does, and runs any other command with an exit status of 0."""

    has_sftp = False

    def on_request(self, kind: str, want_reply: bool, message: Message) -> None:
        if kind == "subsystem" and not self.has_sftp:
            self.send("channel_failure", u32(self.theirs))
        else:
            super().on_request(kind, want_reply, message)

    def started(self) -> None:
        token = re.search(rb"PMITOGEN-[0-9a-f]+ nopython", self.commands[-1])
        if token:
            self.finish(token[0] + b"\n", 127)
        else:
            self.on_command(self.commands[-1])

    def finish(self, output: bytes, status: int) -> None:
        self.send("data", u32(self.theirs), string(output))
        self.send("channel_request", u32(self.theirs), string(b"exit-status"), b"\0", u32(status))
        self.send("close", u32(self.theirs))

    def on_command(self, command: bytes) -> None:
        self.finish(b"", 0)


@misbehaviour
class EndlessOutput(NoPython):
    """Endless output of a small command, within the window."""

    def on_command(self, command: bytes) -> None:
        self.granted = threading.Semaphore(100)

        def talk() -> None:
            while self.granted.acquire(timeout=10):
                self.send("data", u32(self.theirs), string(bytes(32_000)))

        self.spawn(talk)

    def handle(self, number: int, message: Message) -> None:
        if number == NUMBERS["window_adjust"]:
            message.get_int()
            for _ in range(message.get_int() // 32_000):
                self.granted.release()
        else:
            super().handle(number, message)


class Sftp(NoPython):
    """An SFTP server that reads and writes nothing."""

    has_sftp = True
    speaks_sftp = False

    def on_request(self, kind: str, want_reply: bool, message: Message) -> None:
        self.speaks_sftp = kind == "subsystem"
        super().on_request(kind, want_reply, message)

    def on_data(self, data: bytes) -> None:
        if not self.speaks_sftp:
            return
        self.inbox += data
        while len(self.inbox) >= 4:
            size = int.from_bytes(self.inbox[:4], "big")
            if len(self.inbox) < 4 + size:
                return
            packet, self.inbox = self.inbox[4 : 4 + size], self.inbox[4 + size :]
            if packet[0] == 1:
                self.answer(2, u32(3))
            else:
                self.on_sftp(packet[0], packet[1:5], packet[5:])

    def answer(self, kind: int, *fields: bytes) -> None:
        payload = bytes([kind]) + b"".join(fields)
        data = u32(len(payload)) + payload
        for start in range(0, len(data), 32_000):
            self.send("data", u32(self.theirs), string(data[start : start + 32_000]))

    def on_sftp(self, kind: int, number: bytes, rest: bytes) -> None:
        if kind == 3:
            self.on_file(number)
        elif kind == 5:
            self.on_read(number)
        elif kind in (7, 8, 17):
            self.on_stat(number)
        else:
            self.answer(101, number, u32(0), string(b""), string(b""))

    def on_file(self, number: bytes) -> None:
        self.answer(102, number, string(b"handle"))

    def on_stat(self, number: bytes) -> None:
        self.answer(105, number, u32(1), (1 << 62).to_bytes(8, "big"))

    def on_read(self, number: bytes) -> None:
        self.answer(101, number, u32(4), string(b"no"), string(b""))


@misbehaviour
class FileOfFourExabytes(Sftp):
    pass


@misbehaviour
class AttributesOfFourBillion(Sftp):
    def on_stat(self, number: bytes) -> None:
        self.answer(105, number, u32(0x80000000), u32(0xFFFFFFFF))


@misbehaviour
class LongHandle(Sftp):
    def on_file(self, number: bytes) -> None:
        self.answer(102, number, string(BIG))


@misbehaviour
class LargeSftpPacket(Sftp):
    def on_file(self, number: bytes) -> None:
        self.answer(102, number, string(bytes(15 * MIB)))


@misbehaviour
class AnswersToNothing(Sftp):
    def on_read(self, number: bytes) -> None:
        self.spawn(self._answer)

    def _answer(self) -> None:
        while True:
            self.answer(103, u32(99_999), string(bytes(30_000)))


@misbehaviour
class MoreDataThanRequested(Sftp):
    def on_read(self, number: bytes) -> None:
        self.answer(103, number, string(BIG))


@misbehaviour
class NoAnswer(Sftp):
    def on_read(self, number: bytes) -> None:
        self.answer(103, number, string(b""))


@misbehaviour
class RefusalWithLongText(Sftp):
    def on_read(self, number: bytes) -> None:
        self.answer(101, number, u32(4), string(EVIL), string(b""))


# The program


def serve(listener: socket.socket, name: str, key: paramiko.PKey) -> None:
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=handle, args=(sock, name, key), daemon=True).start()


def handle(sock: socket.socket, name: str, key: paramiko.PKey) -> None:
    with contextlib.suppress(Exception), sock:
        if name in RAW:
            RAW[name](sock)
        else:
            SCRIPTED[name](sock, key).serve()


def main() -> None:
    key = paramiko.ECDSAKey.generate()
    ports = {}
    for name in (*RAW, *SCRIPTED):
        listener = socket.create_server(("127.0.0.1", 0))
        ports[name] = listener.getsockname()[1]
        threading.Thread(target=serve, args=(listener, name, key), daemon=True).start()
    print(json.dumps({"ports": ports, "key": f"{key.get_name()} {key.get_base64()}"}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
