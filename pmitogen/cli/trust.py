"""``pmitogen trust``: show the host keys of a server, and record them in known_hosts after confirmation.

The server is reached as ssh reaches it with the same arguments: configuration, port, alias, jump hosts, files. The user
confirms on the terminal, as with ssh; without a terminal, ``--fingerprint`` is required.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pmitogen.cli.errors import CommandLineError
from pmitogen.cli.identity_warnings import warn_of_inaccessible
from pmitogen.cli.json_output import errors_as_json, print_json
from pmitogen.cli.prompt import TerminalPrompt
from pmitogen.cli.ssh_args import host_of, identity_files, split_destination, take_flag
from pmitogen.errors import ConnectError

if TYPE_CHECKING:
    from pmitogen.flags.ssh.settings import Settings
    from pmitogen.transport.connect import HostKeyProbe
    from pmitogen.transport.hostkeys.trust import KeyStatus, Trust

TIMEOUT = 10  # seconds for each connection, without ConnectTimeout
PROMPT_TIMEOUT = 120  # additional seconds if a jump host may prompt the user
OPTION = "--fingerprint"

USAGE = f"""usage: pmitogen trust [--json] [{OPTION} SHA256:...] [SSH OPTIONS] HOST

Show the host keys of HOST, reached as "ssh [SSH OPTIONS] HOST" reaches it, and record them in known_hosts after you have
compared the fingerprints. There is no login.

  {OPTION} SHA256:...  do not prompt: record only the key with this fingerprint
  --json                    print JSON

Exit code: 0 if the key is known, 1 if not, 2 for a wrong command line.
"""


def run(argv: list[str]) -> int:
    """Run the command. Returns 0 if the keys are known now, or 2 without arguments. Raises Error."""
    if not argv or argv[0] in ("-h", "--help"):
        (sys.stdout if argv else sys.stderr).write(USAGE)
        return 0 if argv else 2
    as_json, argv = take_flag(argv, "--json")
    expected, argv = _parse_fingerprint(argv)
    ssh_args, host = split_destination(argv, "trust", ("--json", OPTION, "--help"))

    from pmitogen.flags.ssh import resolve

    result: dict[str, Any] = {"host": host_of(host), "hostname": None, "port": None}
    result.update({"name": None, "server": None, "keys": [], "error": None})
    with errors_as_json(as_json, result):
        warn_of_inaccessible(identity_files(ssh_args))
        settings = resolve.resolve([*ssh_args, "--", host], default_session=resolve.PMITOGEN_SESSION)  # as plays log in
        result.update({"host": settings.originalhost, "hostname": settings.hostname, "port": settings.port})
        _trust(settings, expected, as_json, result)
    if as_json:
        print_json(result)
    return 0


def _trust(settings: Settings, expected: str, as_json: bool, result: dict[str, Any]) -> None:
    """Show the keys and record them. *result*: gets what ``--json`` prints, as it becomes known. Raises Error."""
    from pmitogen.transport.hostkeys.trust import Trust

    prompt = TerminalPrompt() if sys.stdin.isatty() and not settings.batchmode and not expected else None
    keys = _scan_host_keys(settings, prompt)
    trust = Trust(settings, keys)
    say = _say_nothing if as_json else print
    say(f"host keys of {trust.name} ({keys[0].server}):")
    judged = trust.check()
    for status in judged:
        kind, fingerprint = status.description.split(" ", 1)
        say(f"{kind} key fingerprint is {fingerprint}" + (f", known: {status.location}" if status.location else "."), flush=True)
    if as_json and prompt and any(status.location is None for status in judged):
        print("\n".join(status.description for status in judged), file=sys.stderr)  # the prompt asks about these
    objects = {status.blob: _as_object(status, None) for status in judged}
    result.update({"name": trust.name, "server": keys[0].server, "keys": list(objects.values())})
    for status in _keys_to_record(judged, trust, expected, prompt, say):
        location = objects[status.blob]["recorded"] = trust.record(status.blob)
        say(f"recorded {status.description}: {location}")


def _say_nothing(*text: str, flush: bool = False) -> None:
    """Print nothing: replaces ``print`` with --json."""


def _as_object(status: KeyStatus, recorded: str | None) -> dict[str, str | None]:
    kind, fingerprint = status.description.split(" ", 1)
    return {"type": kind, "fingerprint": fingerprint, "known": status.location, "recorded": recorded}


def _parse_fingerprint(argv: Sequence[str]) -> tuple[str, list[str]]:
    """Separate ``--fingerprint``, anywhere before ``--``, from ssh's options. Returns its value and the other arguments."""
    rest: list[str] = []
    expected = ""
    waiting = iter(argv)
    for argument in waiting:
        name, equals, value = argument.partition("=")
        if argument == "--":
            return expected, [*rest, argument, *waiting]
        if name != OPTION:
            rest.append(argument)
            continue
        value = value if equals else next(waiting, "")
        expected = value.rstrip("=")
        if not expected.startswith(("SHA256:", "MD5:")):
            raise CommandLineError(f"{OPTION} {value}: invalid fingerprint; use SHA256:..., as ssh prints it")
    return expected, rest


def _scan_host_keys(settings: Settings, prompt: TerminalPrompt | None) -> list[HostKeyProbe]:
    """Return all host keys of the server, first the one that ssh would negotiate."""
    from pmitogen.hub.login import confirm_once
    from pmitogen.transport import connect
    from pmitogen.transport.auth.credentials import Credentials
    from pmitogen.transport.hostkeys import scan
    from pmitogen.transport.hostkeys.algorithm_order import host_key_algorithms
    from pmitogen.transport.jump_host_pool import JumpHostPool
    from pmitogen.transport.keys import public_key

    hops = JumpHostPool()
    wanted = [public_key.key_type(public_key.plain_name(name)) for name in host_key_algorithms(settings, "")]
    timeout = (settings.connecttimeout or TIMEOUT) + (PROMPT_TIMEOUT if prompt and settings.proxyjump else 0)
    ask = confirm_once(prompt) if prompt else None

    def look(names: Sequence[str]) -> HostKeyProbe:
        deadline = time.monotonic() + timeout
        return connect.probe_host_key(
            settings, names, jump_hosts=hops, deadline=deadline, credentials=Credentials(prompt=prompt), confirm=ask
        )

    try:
        return list(scan.scan_host_keys(look, settings.endpoint, tuple(dict.fromkeys(wanted))))
    finally:
        hops.close()


def _keys_to_record(
    judged: Sequence[KeyStatus], trust: Trust, expected: str, prompt: TerminalPrompt | None, say: Callable[..., None]
) -> list[KeyStatus]:
    """Return the new keys to record. Raises ConnectError if none was confirmed."""
    new = [status for status in judged if status.location is None]
    if expected:
        return [status for status in _with_fingerprint(judged, trust, expected) if status.location is None]
    if not new:
        say("nothing to record: the keys are known" if len(judged) > 1 else "nothing to record: the key is known")
        return []
    if prompt is None:
        raise ConnectError(f"{trust.name}: no terminal to confirm the host key on; use {OPTION} SHA256:...", "hostkey")
    answer = (prompt(f"Record in {trust.file} (yes/no/[fingerprint])? ", True) or "").strip()
    if answer.lower() == "yes":
        return new
    if answer.startswith(("SHA256:", "MD5:")):
        return [status for status in _with_fingerprint(judged, trust, answer.rstrip("=")) if status.location is None]
    raise ConnectError(f"{trust.name}: not confirmed; nothing was recorded", "hostkey")


def _with_fingerprint(judged: Sequence[KeyStatus], trust: Trust, expected: str) -> list[KeyStatus]:
    from pmitogen.transport.keys import public_key

    algorithm = expected.partition(":")[0]
    matching = [status for status in judged if public_key.fingerprint(status.blob, algorithm) == expected]
    if not matching:
        actual = ", ".join(status.description for status in judged)
        raise ConnectError(
            f"{trust.name}: no host key has the fingerprint {expected}; the server has {actual} (a man-in-the-middle attack?)",
            "hostkey",
        )
    return matching
