"""The agent's answer to each message of a client. Source: RFC 9987; PROTOCOL.agent of OpenSSH for the extensions.

The server has checked that the client runs as this account or as root. No I/O: a message is an argument, its answer a result.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from pmitogen.cli.agent import identity
from pmitogen.cli.agent.keyring import HeldKey, Keyring
from pmitogen.transport.keys import certificate, public_key
from pmitogen.transport.keys.ssh_agent_client import (
    EXTENSION,
    EXTENSION_FAILURE,
    FAILURE,
    IDENTITIES_ANSWER,
    REQUEST_IDENTITIES,
    SESSION_BIND,
    SIGN_REQUEST,
    SIGN_RESPONSE,
    SUCCESS,
)
from pmitogen.transport.keys.wire import DecodeError, PacketReader, encode_string

ADD_IDENTITY, REMOVE_IDENTITY, REMOVE_ALL, LOCK, UNLOCK, ADD_CONSTRAINED, EXTENSION_RESPONSE = 17, 18, 19, 22, 23, 25, 29
CONSTRAIN_LIFETIME, CONSTRAIN_CONFIRM = 1, 2
MAX_BINDINGS = 16  # of one connection; OpenSSH's own limit
_RSA_FLAGS = {2: "rsa-sha2-256", 4: "rsa-sha2-512", 6: "rsa-sha2-512"}
_log = logging.getLogger(__name__)

Confirm = Callable[[str], bool]


class ClientConnection:
    """Answers the messages of one connection. One thread."""

    def __init__(self, keyring: Keyring, confirm: Confirm, lifetime: int | None) -> None:
        self._keyring = keyring
        self._confirm = confirm
        self._lifetime = lifetime
        self._bindings = 0
        self._handlers: dict[int, Callable[[PacketReader], bytes]] = {
            REQUEST_IDENTITIES: self._list,
            SIGN_REQUEST: self._sign,
            ADD_IDENTITY: self._add,
            ADD_CONSTRAINED: self._add_constrained,
            REMOVE_IDENTITY: self._remove,
            REMOVE_ALL: self._remove_all,
            LOCK: lambda reader: _verdict(self._keyring.lock(reader.string())),
            EXTENSION: self._extension,
        }

    def answer(self, message: bytes) -> bytes:
        """Return the answer to one message, both without their length."""
        reader = PacketReader(message)
        try:
            kind = reader.byte()
            if kind == UNLOCK:
                return _verdict(self._keyring.unlock(reader.string()))
            if self._keyring.locked:
                return _empty_list() if kind == REQUEST_IDENTITIES else bytes([FAILURE])
            handler = self._handlers.get(kind)
            return handler(reader) if handler else bytes([FAILURE])
        except DecodeError as error:
            _log.debug("refused a message: %s", error)
            return bytes([FAILURE])

    def _list(self, reader: PacketReader) -> bytes:
        reader.end()
        keys = self._keyring.all()
        rows = b"".join(encode_string(held.blob) + encode_string(held.comment) for held in keys)
        return bytes([IDENTITIES_ANSWER]) + len(keys).to_bytes(4, "big") + rows

    def _sign(self, reader: PacketReader) -> bytes:
        blob, data, flags = reader.string(), reader.string(), reader.u32()
        reader.end()
        held = self._keyring.find(blob)
        if held is None:
            return bytes([FAILURE])
        algorithm = held.key.name
        if algorithm == "ssh-rsa":
            if flags not in _RSA_FLAGS:  # the client asks for SHA-1, which is no longer safe
                return bytes([FAILURE])
            algorithm = _RSA_FLAGS[flags]
        elif flags:
            return bytes([FAILURE])
        if held.confirm and not self._confirm(_question(held)):
            return bytes([FAILURE])
        return bytes([SIGN_RESPONSE]) + encode_string(held.key.sign(data, algorithm))

    def _add(self, reader: PacketReader) -> bytes:
        return self._add_constrained(reader, constrained=False)

    def _add_constrained(self, reader: PacketReader, constrained: bool = True) -> bytes:
        blob, key = identity.decode(reader)
        comment = reader.string()
        lifetime, confirm = self._lifetime, False
        while constrained and reader.left:
            constraint = reader.byte()
            if constraint == CONSTRAIN_LIFETIME:
                lifetime = reader.u32() or lifetime
            elif constraint == CONSTRAIN_CONFIRM:
                confirm = True
            else:  # a key whose restriction is not understood must not be used without it
                raise DecodeError(f"unknown constraint {constraint}")
        reader.end()
        expires = None if lifetime is None else time.monotonic() + lifetime
        return _verdict(self._keyring.add(HeldKey(blob, key, comment, confirm, expires)))

    def _remove(self, reader: PacketReader) -> bytes:
        blob = reader.string()
        reader.end()
        return _verdict(self._keyring.remove(blob))

    def _remove_all(self, reader: PacketReader) -> bytes:
        reader.end()
        self._keyring.clear()
        return bytes([SUCCESS])

    def _extension(self, reader: PacketReader) -> bytes:
        name = reader.text()
        if name == "query":
            return bytes([EXTENSION_RESPONSE]) + encode_string("query") + encode_string(SESSION_BIND)
        if name != SESSION_BIND:
            return bytes([FAILURE])
        host_key, session_id, signature = reader.string(), reader.string(), reader.string()
        reader.byte()  # whether the connection forwards the agent: no key here is restricted to destinations
        reader.end()
        try:
            public_key.verify_signature(certificate.plain_blob(host_key), signature, session_id)
        except DecodeError:
            return bytes([EXTENSION_FAILURE])
        self._bindings += 1
        return bytes([SUCCESS if self._bindings <= MAX_BINDINGS else EXTENSION_FAILURE])


def _question(held: HeldKey) -> str:
    comment = held.comment.decode("utf-8", "backslashreplace")
    return f"Allow use of key {comment}?\nKey fingerprint {public_key.fingerprint(held.key.blob)}."


def _verdict(done: bool) -> bytes:
    return bytes([SUCCESS if done else FAILURE])


def _empty_list() -> bytes:
    return bytes([IDENTITIES_ANSWER]) + bytes(4)
