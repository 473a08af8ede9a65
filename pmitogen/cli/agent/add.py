"""Run ``pmitogen add``, with the command line of ssh-add(1)."""

from __future__ import annotations

import functools
import getopt
import os
import sys
from collections.abc import Sequence

from pmitogen.cli.agent import durations, existing_keys, identity
from pmitogen.cli.agent.protocol import (
    ADD_CONSTRAINED,
    ADD_IDENTITY,
    CONSTRAIN_CONFIRM,
    CONSTRAIN_LIFETIME,
    LOCK,
    REMOVE_ALL,
    UNLOCK,
)
from pmitogen.cli.keygen import openssh_format, show
from pmitogen.cli.keygen.passphrases import new_passphrase
from pmitogen.cli.prompt import find_asker
from pmitogen.errors import Error, UsageError
from pmitogen.transport.auth.credentials import Secret
from pmitogen.transport.keys import certificate, key_file, public_key
from pmitogen.transport.keys.private_key import PrivateKey, UnusableKey
from pmitogen.transport.keys.ssh_agent_client import SUCCESS, AgentError, SSHAgentClient
from pmitogen.transport.keys.wire import DecodeError, encode_string
from pmitogen.util.peer_text import escape, one_line

USAGE = """\
usage: ssh-add [-CcDdkLlqvXx] [-E fingerprint_hash] [-t life] [file ...]
       ssh-add -T pubkey ...
"""
DEFAULT_FILES = ("id_rsa", "id_ecdsa", "id_ed25519")
FAILED, NO_AGENT, FATAL = 1, 2, 255
TIMEOUT = 60.0  # seconds for one answer


def run(argv: Sequence[str]) -> int:
    """Run the command. Returns the exit status: 0, 1 if something failed, 2 if there is no agent."""
    if list(argv) in [["--help"], ["-h"]]:
        sys.stdout.write(USAGE)
        return 0
    path = os.environ.get("SSH_AUTH_SOCK")
    if not path:
        return _fail("Could not open a connection to your authentication agent.", NO_AGENT)
    try:
        with SSHAgentClient(path) as agent:  # first, as ssh-add: without an agent all else is 2 as well
            return _parse_and_run(agent, argv)
    except AgentError as error:
        return _fail(f"Error connecting to agent: {error}", NO_AGENT)
    except show.UnknownName as error:
        return _fail(error.message, FATAL)
    except Error as error:
        return _fail(error.message, FAILED)


def _parse_and_run(agent: SSHAgentClient, argv: Sequence[str]) -> int:
    try:
        pairs, files = getopt.getopt(list(argv), "vkKlLCcdDTxXE:e:h:H:M:m:qs:S:t:")
    except getopt.GetoptError as error:
        form = "option requires an argument" if "requires" in error.msg else "unknown option"
        sys.stderr.write(f"{form} -- {error.opt.lstrip('-')[:1] or '-'}\n{USAGE}")
        return FAILED
    listing = [flag for flag, _ in pairs if flag in ("-l", "-L", "-x", "-X")]
    if len(listing) > 1:
        return _fail(f"{listing[0]} flag already specified", FATAL)
    return _run(agent, {flag[1:]: value for flag, value in pairs}, files)


def _run(agent: SSHAgentClient, flags: dict[str, str], files: list[str]) -> int:
    for letter in flags:
        if letter not in "lLcCdDxXEqtTvk":
            raise UsageError(f"-{letter}: not supported; use OpenSSH's ssh-add")
    if "t" in flags:
        try:
            durations.parse(flags["t"], "-t")
        except UsageError:
            return _fail("Invalid lifetime", FAILED)
    if "l" in flags or "L" in flags:
        return _list(agent, flags)
    if "x" in flags or "X" in flags:
        return _lock(agent, "x" in flags)
    if "D" in flags:
        done = _agent_accepts(agent, bytes([REMOVE_ALL]))
        return _say("All identities removed.") if done else _fail("Failed to remove all identities.", FAILED)
    if "T" in flags:
        return existing_keys.test(agent, files)
    act = existing_keys.remove if "d" in flags else functools.partial(_add, passphrases=[])
    if files:
        return max([act(agent, file, flags) for file in files])
    paths = [os.path.expanduser(f"~/.ssh/{name}") for name in DEFAULT_FILES]
    results = [act(agent, path, flags) for path in paths if os.path.exists(path)]
    return 0 if 0 in results else FAILED


def _list(agent: SSHAgentClient, flags: dict[str, str]) -> int:
    hash_name = show.hash_name(flags.get("E"))
    keys = agent.keys()
    for key in keys:
        comment = escape(key.comment)
        if "L" in flags:
            print(f"{public_key.public_line(key.blob)} {comment}".rstrip())
            continue
        try:
            print(f"{show.bits(key.blob)} {show.digest_text(key.blob, hash_name)} {comment} ({show.kind(key.blob)})")
        except DecodeError as error:
            _say(f"the agent has a damaged key: {error}")
    if keys:
        sys.stdout.flush()
        return 0
    print("The agent has no identities.", flush=True)
    return FAILED


def _lock(agent: SSHAgentClient, locking: bool) -> int:
    if locking:
        passphrase: str | None = new_passphrase("Enter lock password: ")
    else:
        ask = find_asker(allow_stdin=True)
        passphrase = ask("Enter lock password: ", False) if ask else None
    if passphrase is None:
        raise UsageError("no password given")
    request = bytes([LOCK if locking else UNLOCK]) + encode_string(passphrase)
    if _agent_accepts(agent, request):
        return _say(f"Agent {'' if locking else 'un'}locked.")
    return _fail(f"Failed to {'' if locking else 'un'}lock agent", FAILED)


def _add(agent: SSHAgentClient, path: str, flags: dict[str, str], passphrases: list[Secret]) -> int:
    try:
        key = _open(path, passphrases, "c" in flags)
    except OSError as error:
        return _fail(f"{path}: {error.strerror}", FAILED)
    except UnusableKey as error:
        return _fail(f'Error loading key "{path}": {error}', FAILED)
    comment = key.comment or ("(stdin)" if path == "-" else path)
    constraints = _constraints(flags)
    fields = openssh_format.private_fields(key.cryptography_key)
    if "C" in flags:
        return _add_certificate(agent, path, key, fields, comment, constraints, flags, FAILED)
    if not _agent_accepts(agent, _request(key, fields, None, comment, constraints)):
        return _fail(f'Could not add identity "{path}": agent refused operation', FAILED)
    _say_unless_quiet(f"Identity added: {path} ({escape(comment)})", flags)
    if seconds := _lifetime(flags):
        _say_unless_quiet(f"Lifetime set to {seconds} seconds", flags)
    if "c" in flags:
        _say_unless_quiet("The user must confirm each use of the key", flags)
    return _add_certificate(agent, path, key, fields, comment, constraints, flags)


def _add_certificate(
    agent: SSHAgentClient,
    path: str,
    key: PrivateKey,
    fields: bytes,
    comment: str,
    constraints: bytes,
    flags: dict[str, str],
    without: int = 0,
) -> int:
    """Add ``PATH-cert.pub`` too, if there is one. *without*: the exit status if there is none."""
    name = f"{path}-cert.pub"
    if "k" in flags or path == "-" or not os.path.exists(name):
        return without
    try:
        parsed = certificate.parse(key_file.read_public(name))
    except (OSError, ValueError) as error:
        return _fail(f'Failed to load certificate "{name}": {error}', FAILED)
    if parsed.plain_blob != key.blob:
        return _fail(f"Certificate {name} does not match private key {path}", FAILED)
    if not _agent_accepts(agent, _request(key, fields, parsed.blob, comment, constraints)):
        return _fail(f"Certificate {name} ({escape(parsed.key_id)}) add failed", FAILED)
    _say_unless_quiet(f"Certificate added: {name} ({escape(parsed.key_id)})", flags)
    return 0


def _open(path: str, passphrases: list[Secret], confirm: bool) -> PrivateKey:
    """Read a key. *passphrases*: those given so far, to try first; gets the one that opens it. *confirm*: -c was given."""
    suffix = " (will confirm each use)" if confirm else ""
    file = key_file.KeyFile("(stdin)", sys.stdin.read(key_file.MAX_SIZE)) if path == "-" else key_file.read(path)
    try:
        return file.open(passphrases[-1] if passphrases else None)
    except UnusableKey as error:
        ask = find_asker(allow_stdin=path != "-")
        if error.passphrase is None or ask is None:
            raise
    # AWX and ansible-runner recognise these two prompts of ssh-add: they answer the first, and give up at the second.
    prompt = f"Enter passphrase for {path}{suffix}: "
    while answer := ask(prompt, False):
        try:
            key = file.open(Secret(answer))
        except UnusableKey as error:
            if error.passphrase is None:
                raise
            prompt = f"Bad passphrase, try again for {path}{suffix}: "
        else:
            passphrases.append(Secret(answer))
            return key
    raise UnusableKey("no passphrase given")


def _lifetime(flags: dict[str, str]) -> int:
    """Return the seconds of -t; 0: without an end."""
    return durations.parse(flags["t"], "-t") if "t" in flags else 0


def _constraints(flags: dict[str, str]) -> bytes:
    text = b""
    if seconds := _lifetime(flags):
        text += bytes([CONSTRAIN_LIFETIME]) + seconds.to_bytes(4, "big")
    if "c" in flags:
        text += bytes([CONSTRAIN_CONFIRM])
    return text


def _request(key: PrivateKey, fields: bytes, cert: bytes | None, comment: str, constraints: bytes) -> bytes:
    kind = ADD_CONSTRAINED if constraints else ADD_IDENTITY
    return bytes([kind]) + identity.encode(key, fields, cert) + encode_string(comment) + constraints


def _agent_accepts(agent: SSHAgentClient, request: bytes) -> bool:
    return agent.exchange(request, TIMEOUT)[0] == SUCCESS


def _say_unless_quiet(line: str, flags: dict[str, str]) -> None:
    if "q" not in flags:
        _say(line)


def _say(line: str) -> int:
    sys.stdout.flush()
    sys.stderr.write(one_line(line) + "\n")
    return 0


def _fail(line: str, code: int) -> int:
    _say(line)
    return code
