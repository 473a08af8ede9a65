"""Remove keys from an agent (``-d`` of ``pmitogen add``), and test them (``-T``)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from pmitogen.cli.agent.protocol import REMOVE_IDENTITY
from pmitogen.cli.keygen import show
from pmitogen.transport.keys import certificate, key_file, public_key
from pmitogen.transport.keys.private_key import UnusableKey
from pmitogen.transport.keys.ssh_agent_client import SUCCESS, AgentError, SSHAgentClient
from pmitogen.transport.keys.wire import DecodeError, encode_string
from pmitogen.util.peer_text import escape, one_line

DONE, FAILED, FATAL = 0, 1, 255
TIMEOUT = 60.0  # seconds for one answer


def remove(agent: SSHAgentClient, path: str, flags: dict[str, str]) -> int:
    """Remove the key at *path* and its certificate (``-k``: the key alone; ``-C``: the certificate alone). "-": standard input.

    Returns the exit status.
    """
    if path == "-":
        results = [
            _remove(agent, blob, comment, "(stdin)", flags) for blob, comment in _keys_on_stdin() if _is_wanted(blob, flags)
        ]
        return min(results, default=FAILED)
    try:
        blob, comment = _load(path)
    except (OSError, UnusableKey) as error:
        print(one_line(f"Bad key file {path}: {_reason(error)}"), flush=True)
        return FAILED
    status = _remove(agent, blob, comment, path, flags) if _is_wanted(blob, flags) else FAILED
    name = f"{path}-cert.pub"
    if "k" in flags or not os.path.exists(name):
        return status
    try:
        cert, comment = _load(name)
    except (OSError, UnusableKey) as error:
        return _fail(f'Failed to load certificate "{name}": {_reason(error)}', status)
    if certificate.plain_blob(cert) != certificate.plain_blob(blob):
        return _fail(f"Certificate {name} does not match private key {path}", FATAL)
    return min(status, _remove(agent, cert, comment, name, flags))


def test(agent: SSHAgentClient, paths: list[str]) -> int:
    """Ask the agent to sign with each key; return the exit status."""
    if not paths:
        return _fail("no keys to test", FATAL)
    return max([_test(agent, path) for path in paths])


def _test(agent: SSHAgentClient, path: str) -> int:
    try:
        blob, _ = _load(path)
    except (OSError, UnusableKey) as error:
        return _fail(f"Couldn't read public key {path}: {_reason(error)}", FAILED)
    data = os.urandom(1024)
    plain = certificate.plain_blob(blob)
    try:
        signature = agent.sign(blob, data, public_key.algorithms_of(public_key.blob_type(plain))[0], TIMEOUT)
    except AgentError as error:
        return _fail(f"Agent signature failed for {path}: {error}", FAILED)
    try:
        public_key.verify_signature(plain, signature, data)
    except DecodeError as error:
        return _fail(f"Signature verification failed for {path}: {error}", FAILED)
    return DONE


def _is_wanted(blob: bytes, flags: dict[str, str]) -> bool:
    is_certificate = public_key.is_certificate(public_key.blob_type(blob))
    return not ("k" in flags and is_certificate or "C" in flags and not is_certificate)


def _load(path: str) -> tuple[bytes, str]:
    """Return the public key and the comment in *path* or *path*.pub. Raises OSError, UnusableKey."""
    blob = key_file.load_public(path)
    for name in (path, f"{path}.pub"):
        try:
            with open(name, errors="surrogateescape") as file:
                text = file.read(key_file.MAX_SIZE)
        except OSError:
            continue
        if key_file.public_blob_of(text) == blob:
            return blob, _comment(text)
    return blob, ""


def _comment(line: str) -> str:
    fields = line.split(None, 2)
    return fields[2].splitlines()[0] if len(fields) > 2 else ""


def _keys_on_stdin() -> Iterator[tuple[bytes, str]]:
    for number, line in enumerate(sys.stdin, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        blob = key_file.public_blob_of(line)
        if blob is None:
            _fail(f"(stdin):{number}: invalid key", FAILED)
        else:
            yield blob, _comment(line)


def _remove(agent: SSHAgentClient, blob: bytes, comment: str, path: str, flags: dict[str, str]) -> int:
    if agent.exchange(bytes([REMOVE_IDENTITY]) + encode_string(blob), TIMEOUT)[0] != SUCCESS:
        return _fail(f'Could not remove identity "{path}": agent refused operation', FAILED)
    if "q" not in flags:
        _fail(f"Identity removed: {path} {show.kind(blob)} ({escape(comment)})", DONE)
    return DONE


def _reason(error: OSError | UnusableKey) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _fail(line: str, status: int) -> int:
    sys.stdout.flush()
    sys.stderr.write(one_line(line) + "\n")
    return status
