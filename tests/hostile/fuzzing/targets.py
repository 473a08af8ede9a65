"""The targets of the fuzzer: each has a function of bytes, the exceptions that it may raise, and initial inputs.

A target fails if it raises any other exception, or if one input takes more than ``SLOW`` seconds of processor time.
"""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from unittest.mock import Mock, patch

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from paramiko import SSHException

from pmitogen.become import diagnosis
from pmitogen.errors import UsageError
from pmitogen.flags.ssh import match_criteria
from pmitogen.flags.ssh.resolve import resolve
from pmitogen.hub.agent_channel import AgentChannel
from pmitogen.protocol import framing
from pmitogen.protocol.error_kinds import ProtocolError
from pmitogen.protocol.gate import InterpreterError
from pmitogen.protocol.mitogen_messages import HEADER, KIND, ChannelReader
from pmitogen.transport.hostkeys import revocation
from pmitogen.transport.hostkeys.known_hosts import KnownHosts
from pmitogen.transport.keys import certificate, key_decryption, key_file, private_key, public_key
from pmitogen.transport.keys.wire import DecodeError
from pmitogen.transport.paramiko_ext.packets.packetizer import FastPacketizer
from pmitogen.util.caller import CallerEnvironment
from pmitogen.util.peer_text import escape

SLOW = 5.0  # seconds of processor time for one input
_KEY, _IV = bytes(16), bytes(12)


class Target(NamedTuple):
    """One parser to fuzz. *allowed*: the exceptions for input that it refuses."""

    name: str
    run: Callable[[bytes], None]
    allowed: tuple[type[BaseException], ...]
    seeds: Callable[[Path], list[bytes]]


def _none(directory: Path) -> list[bytes]:
    return []


# Frames ---------------------------------------------------------------------------------------------------------------------


def _frames(data: bytes) -> None:
    for header, body in framing.FrameReader().feed(data):
        assert isinstance(header, dict) and isinstance(body, bytes)


def _frame_seeds(directory: Path) -> list[bytes]:
    return [
        framing.encode_frame({"op": "exit", "id": 7, "rc": 0, "stdout_size": 3}, b"abc"),
        framing.encode_frame({"op": "ok", "id": 1, "path": "/tmp/x"})
        + framing.encode_frame({"op": "credit", "id": 1, "count": 1 << 20}),
    ]


# Keys and host keys ---------------------------------------------------------------------------------------------------------


def _known_hosts(data: bytes) -> None:
    known = KnownHosts.parse(data.decode("utf-8", "surrogateescape"), "known_hosts")
    for name in ("web", "[web]:2222", "10.0.0.1"):
        for line in known.lookup(name):
            assert line.blob is None or isinstance(line.blob, bytes)


def _known_hosts_seeds(directory: Path) -> list[bytes]:
    blob = base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0 " + bytes(32))
    return [
        b"web,10.0.0.1 ssh-ed25519 " + blob + b" comment\n@revoked * ssh-ed25519 " + blob + b"\n",
        b"|1|" + base64.b64encode(bytes(20)) + b"|" + base64.b64encode(bytes(20)) + b" ssh-ed25519 " + blob + b"\n",
        b"@cert-authority *.example.com,!db* ssh-ed25519 " + blob + b"\n[web]:2222 ssh-rsa AAAA\n",
    ]


def _certificate(data: bytes) -> None:
    found = certificate.parse(data)
    found.describe()
    certificate.host_problem(found, "web.example.com", ("ssh-ed25519", "rsa-sha2-512"))
    certificate.user_problem(found, "alice")
    certificate.authority_fingerprint(found)


def _public_key(data: bytes) -> None:
    name = public_key.blob_type(data)
    public_key.fingerprint(data)
    public_key.display_name(name)
    public_key.rsa_bits(data)
    public_key.verify_signature(data, data[::-1], b"signed")


def _private_key(data: bytes) -> None:
    with patch.object(key_decryption, "MAX_ROUNDS", 16):  # more rounds take seconds by design, as in ssh
        key = private_key.load(private_key.read_header(data.decode("utf-8", "surrogateescape")), "passphrase")
    repr(key)


def _public_file(data: bytes) -> None:
    key_file.public_blob_of(data.decode("utf-8", "surrogateescape"))


def _revocation_list(data: bytes) -> None:
    found = revocation.RevocationList(data)
    found.revocation_reason(b"\0\0\0\x0bssh-ed25519\0\0\0 " + bytes(32))


def _keygen(directory: Path, *arguments: str) -> bool:
    done = subprocess.run(["ssh-keygen", "-q", *arguments], cwd=directory, stdin=subprocess.DEVNULL, capture_output=True)
    return done.returncode == 0


def _key_seeds(directory: Path) -> list[bytes]:
    if not shutil.which("ssh-keygen"):
        return []
    made = []
    for kind, passphrase in (("ed25519", ""), ("ecdsa", ""), ("ed25519", "passphrase")):
        name = f"{kind}{len(made)}"
        if _keygen(directory, "-t", kind, "-N", passphrase, "-a", "1", "-f", name):
            made.append((directory / name).read_bytes())
    return made


def _public_seeds(directory: Path) -> list[bytes]:
    _key_seeds(directory)
    return [base64.b64decode(path.read_bytes().split()[1]) for path in sorted(directory.glob("*.pub"))]


def _public_file_seeds(directory: Path) -> list[bytes]:
    _key_seeds(directory)
    return [path.read_bytes() for path in sorted(directory.glob("*.pub"))]


def _certificate_seeds(directory: Path) -> list[bytes]:
    if not _key_seeds(directory):
        return []
    signed = [("-h", "-n", "web.example.com,*.lan"), ("-n", "alice", "-O", "force-command=id"), ("-h",)]
    made = []
    for options in signed:
        if _keygen(directory, "-s", "ed255190", "-I", "an id", "-V", "+1d", "-z", "7", *options, "ecdsa1.pub"):
            made.append(base64.b64decode((directory / "ecdsa1-cert.pub").read_bytes().split()[1]))
    return made


def _revocation_seeds(directory: Path) -> list[bytes]:
    if not _key_seeds(directory):
        return []
    (directory / "spec").write_text("serial: 1-70\nserial: 7000\nid: an id\n")
    made = []
    if _keygen(directory, "-k", "-f", "krl", "-s", "ed255190.pub", "spec", "ecdsa1.pub"):
        made.append((directory / "krl").read_bytes())
    return made


# ssh_config -----------------------------------------------------------------------------------------------------------------


def _ssh_config(data: bytes) -> None:
    with tempfile.NamedTemporaryFile(prefix="pmt-fuzz") as file:
        file.write(data.replace(b"Include", b"#nclude").replace(b"include", b"#nclude"))
        file.flush()
        succeeds, match_criteria._command_succeeds = match_criteria._command_succeeds, lambda command, context: False
        try:  # a mutated "Match exec" could run anything
            resolve(["-F", file.name, "web"], caller=CallerEnvironment({"HOME": "/nonexistent"}), strict=False)
        finally:
            match_criteria._command_succeeds = succeeds


def _ssh_config_seeds(directory: Path) -> list[bytes]:
    return [
        b"Host web *.lan !db\n  User alice\n  Port 2222\n  IdentityFile ~/.ssh/%h\n  ProxyJump a@b:22,c\n",
        b'Match host "w*" user alice,bob originalhost web\n  SetEnv A=1 "B=c d"\n  RekeyLimit 1G 1h\n  Ciphers +aes*,-3des*\n',
        b"CanonicalizeHostname yes\nCanonicalDomains example.com\nLocalForward 80 [::1]:90\nIPQoS af21 cs1\nEscapeChar ^a\n",
    ]


# Output of a become program --------------------------------------------------------------------------------------------------


def _become_output(data: bytes) -> None:
    text = diagnosis.visible_text(data)
    for method in ("sudo", "su", "doas"):
        diagnosis.refusal([method], text)
    diagnosis.retry_prompted(text)
    diagnosis.is_command_failure(text, ["/usr/bin/python3"])
    diagnosis.shell_failure(text, 1, ["/usr/bin/python3"], "/bin/sh")


def _become_seeds(directory: Path) -> list[bytes]:
    return [
        b"[sudo] password for alice: \r\nSorry, try again.\r\n",
        b"su: Authentication failure\r\nsh: 1: exec: /usr/bin/python3: not found\r\n",
        "Passwort: \r\nDieses Konto ist derzeit nicht verf\u00fcgbar.\r\n".encode(),
    ]


# Messages of a target's agent -----------------------------------------------------------------------------------------------


def _channel_messages(data: bytes) -> None:
    reader = ChannelReader(7)
    reader.feed(data)
    while reader.next() is not None:
        pass


def _channel_seeds(directory: Path) -> list[bytes]:
    return [HEADER.pack(KIND, 0, 7, 7, framing.TO_HUB_UNPACKED, 0, len(data)) + data for data in _frame_seeds(directory)]


def _agent_frames(data: bytes) -> None:
    """Pass one message through the gate, plain and compressed."""
    for packed in (False, True):
        AgentChannel(Mock(), Mock()).read(zlib.compress(data) if packed else data, packed)


# Packets --------------------------------------------------------------------------------------------------------------------


def _packets(data: bytes) -> None:
    """Read plain packets, and the same bytes as encrypted ones."""
    for sealed in (False, True):
        near, far = socket.socketpair()
        with near, far:
            far.setblocking(False)
            reader = FastPacketizer(near)
            if sealed:
                reader.set_inbound_cipher(AESGCM(_KEY), 16, None, 16, None, aead=True, iv_in=_IV)
            try:
                far.send(data[: 1 << 16])
            except BlockingIOError:
                continue
            far.shutdown(socket.SHUT_WR)
            try:
                while True:
                    reader.read_message()
            except EOFError:
                pass


def _packet_seeds(directory: Path) -> list[bytes]:
    plain = b"\2payload" + bytes(4)
    return [(len(plain) + 1).to_bytes(4, "big") + b"\4" + plain, os.urandom(64)]


# Texts ----------------------------------------------------------------------------------------------------------------------


def _peer_text(data: bytes) -> None:
    shown = escape(data.decode("utf-8", "surrogateescape"))
    assert "\n" not in shown and "\x1b" not in shown and shown.isprintable()


TARGETS = [
    Target("frames", _frames, (framing.FrameError,), _frame_seeds),
    Target("known_hosts", _known_hosts, (), _known_hosts_seeds),
    Target("certificate", _certificate, (DecodeError,), _certificate_seeds),
    Target("public_key", _public_key, (DecodeError, ValueError), _public_seeds),
    Target("public_key_file", _public_file, (), _public_file_seeds),
    Target("private_key", _private_key, (private_key.UnusableKey,), _key_seeds),
    Target("revocation_list", _revocation_list, (DecodeError,), _revocation_seeds),
    Target("ssh_config", _ssh_config, (UsageError,), _ssh_config_seeds),
    Target("become_output", _become_output, (), _become_seeds),
    Target("channel_messages", _channel_messages, (ProtocolError,), _channel_seeds),
    Target("agent_frames", _agent_frames, (ProtocolError, InterpreterError), _frame_seeds),
    Target("packets", _packets, (SSHException, EOFError), _packet_seeds),
    Target("peer_text", _peer_text, (), _none),
]


def by_name(names: list[str]) -> Iterator[Target]:
    """Return the targets with these names, or all if there are no names. Raises KeyError."""
    known = {target.name: target for target in TARGETS}
    yield from (known[name] for name in names) if names else TARGETS
