"""The protocol of ssh-agent: each wrong or missing answer is an error with a reason."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pmitogen.transport.keys.ssh_agent_client import AgentError, SSHAgentClient
from pmitogen.transport.keys.wire import encode_string

BLOB = encode_string("ssh-ed25519") + encode_string(bytes(32))
RSA = encode_string("ssh-rsa") + encode_string(b"\1\0\1") + encode_string(b"\1" * 257)


@contextlib.contextmanager
def answering(directory: Path, *answers: bytes) -> Iterator[tuple[SSHAgentClient, list[bytes]]]:
    """Run an agent that gives *answers*, one for each request, then closes; yield a client and the requests."""
    asked: list[bytes] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "agent"))
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as peer, contextlib.suppress(OSError):
            for answer in answers:
                asked.append(peer.recv(65536))
                for part in (answer[:3], answer[3:]):
                    peer.sendall(part)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with SSHAgentClient(str(directory / "agent"), timeout=2) as agent:
            yield agent, asked
    finally:
        thread.join()


def keys_answer(*blobs: bytes) -> bytes:
    return encode_string(
        b"\x0c" + struct.pack(">I", len(blobs)) + b"".join(encode_string(blob) + encode_string("a comment") for blob in blobs)
    )


def test_keys_are_listed(short_path: Path) -> None:
    with answering(short_path, keys_answer(BLOB, b"", b"\0\0\0\x20x", RSA)) as (agent, asked):
        assert [(key.name, key.comment) for key in agent.keys()] == [("ssh-ed25519", "a comment"), ("ssh-rsa", "a comment")]
    assert asked == [b"\0\0\0\1\x0b"]


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (encode_string(b"\x05"), "cannot list the keys"),
        (encode_string(b"\x0c"), "invalid list of keys"),
        (encode_string(b"\x0c" + struct.pack(">I", 9)), "invalid list of keys"),
        (b"\xff\xff\xff\xff", "not an SSH agent"),
        (encode_string(b""), "not an SSH agent"),
        (b"\0\0\0\x09abc", "closed the connection"),
        (b"", "closed the connection"),
        (b"HTTP/1.1 400 Bad Request", "not an SSH agent"),
    ],
)
def test_invalid_lists_of_keys_are_errors(short_path: Path, answer: bytes, text: str) -> None:
    with answering(short_path, answer) as (agent, _), pytest.raises(AgentError, match=text):
        agent.keys()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (encode_string(b"\x05"), "refused operation"),
        (encode_string(b"\x0e"), "invalid signature"),
        (
            encode_string(b"\x0e" + encode_string(encode_string("ssh-rsa") + encode_string(b"x"))),
            "signed with ssh-rsa instead of rsa-sha2-512",
        ),
    ],
)
def test_invalid_signatures_are_errors(short_path: Path, answer: bytes, text: str) -> None:
    with answering(short_path, answer) as (agent, _), pytest.raises(AgentError, match=text):
        agent.sign(RSA, b"data", "rsa-sha2-512", 2)


@pytest.mark.parametrize(("algorithm", "flags"), [("rsa-sha2-256", 2), ("rsa-sha2-512-cert-v01@openssh.com", 4)])
def test_flags_select_the_signature_algorithm(short_path: Path, algorithm: str, flags: int) -> None:
    signature = encode_string(algorithm.removesuffix("-cert-v01@openssh.com")) + encode_string(b"signed")
    with answering(short_path, encode_string(b"\x0e" + encode_string(signature))) as (agent, asked):
        assert agent.sign(RSA, b"data", algorithm, 2) == signature
    assert asked == [encode_string(b"\x0d" + encode_string(RSA) + encode_string("data") + struct.pack(">I", flags))]


def test_a_silent_agent_is_an_error(short_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_path / "agent"))
        listener.listen()
        with (
            SSHAgentClient(str(short_path / "agent"), timeout=0.2) as agent,
            pytest.raises(AgentError, match="no answer within the timeout"),
        ):
            agent.keys()


def test_a_missing_agent_is_an_error(short_path: Path) -> None:
    with pytest.raises(AgentError, match="cannot connect: No such file or directory"):
        SSHAgentClient(str(short_path / "none"))
    with pytest.raises(AgentError, match="cannot connect"):
        SSHAgentClient(str(short_path / ("x" * 200)))
