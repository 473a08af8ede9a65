"""``pmitogen trust``: show the host keys of a server, and record them in known_hosts if somebody says so.

The server is found as ssh would find it with the same words: configuration, port, alias, jump hosts, files. Somebody at the
terminal is asked as by ssh; without one, the fingerprint that is expected must be given.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pmitogen.cli.errors import WrongWords
from pmitogen.cli.ping import Person, split
from pmitogen.errors import ConnectError

if TYPE_CHECKING:
    from pmitogen.flags.ssh.settings import Settings
    from pmitogen.transport.connect import HostKeyProbe
    from pmitogen.transport.hostkeys.trust import KeyStatus, Trust

TIMEOUT = 10  # seconds for each connection, where ConnectTimeout says nothing
PATIENCE = 120  # seconds more where somebody may be asked on the way, by a jump host
OPTION = "--fingerprint"

USAGE = f"""usage: pmitogen trust [{OPTION} SHA256:...] [SSH OPTIONS] HOST

Show the host keys of HOST, as "ssh [SSH OPTIONS] HOST" would reach it, and record them in known_hosts after you have
compared the fingerprints. Nobody logs in there.

  {OPTION} SHA256:...  ask nobody: record the key that has this fingerprint, and no other

Exit code 0 if the key is known, 1 if not, 2 for wrong words.
"""


def run(words: list[str]) -> int:
    """The command. Returns 0 if the keys are known now."""
    if not words or words[0] in ("-h", "--help"):
        (sys.stdout if words else sys.stderr).write(USAGE)
        return 0 if words else 2
    expected, words = _expected(words)
    ssh_args, host = split(words, "trust")

    from pmitogen.flags.ssh import resolve
    from pmitogen.transport.hostkeys.trust import Trust

    settings = resolve.resolve([*ssh_args, "--", host])
    person = Person() if sys.stdin.isatty() and not settings.batchmode and not expected else None
    keys = _look(settings, person)
    trust = Trust(settings, keys)
    print(f"host keys of {trust.name} ({keys[0].server}):")
    judged = trust.check()
    for one in judged:
        kind, fingerprint = one.description.split(" ", 1)
        print(f"{kind} key fingerprint is {fingerprint}" + (f", known already: {one.where}" if one.where else "."), flush=True)
    for one in _chosen(judged, trust, expected, person):
        print(f"recorded {one.description}: {trust.record(one.blob)}")
    return 0


def _expected(words: Sequence[str]) -> tuple[str, list[str]]:
    """Take our own option out of ssh's, wherever it stands before ``--``."""
    rest: list[str] = []
    expected = ""
    waiting = iter(words)
    for word in waiting:
        name, equals, value = word.partition("=")
        if word == "--":
            return expected, [*rest, word, *waiting]
        if name != OPTION:
            rest.append(word)
            continue
        expected = (value if equals else next(waiting, "")).rstrip("=")
        if not expected.startswith(("SHA256:", "MD5:")):
            raise WrongWords(f"{OPTION} {expected}: write it as ssh prints it, SHA256:...")
    return expected, rest


def _look(settings: Settings, person: Person | None) -> list[HostKeyProbe]:
    """All the keys of the server, the one that ssh would be shown first."""
    from pmitogen.hub.session import yes_or_no
    from pmitogen.transport import connect
    from pmitogen.transport.auth.credentials import Credentials
    from pmitogen.transport.hostkeys import scan
    from pmitogen.transport.hostkeys.algorithm_order import host_key_algorithms
    from pmitogen.transport.keys import public_key

    hops = connect.JumpHostPool()
    wanted = [public_key.key_type(public_key.plain_name(name)) for name in host_key_algorithms(settings, "")]
    timeout = (settings.connecttimeout or TIMEOUT) + (PATIENCE if person and settings.proxyjump else 0)
    ask = yes_or_no(person) if person else None

    def look(names: Sequence[str]) -> HostKeyProbe:
        deadline = time.monotonic() + timeout
        return connect.probe_host_key(
            settings, names, jump_hosts=hops, deadline=deadline, credentials=Credentials(prompt=person), confirm=ask
        )

    try:
        return list(scan.scan_host_keys(look, settings.endpoint, tuple(dict.fromkeys(wanted))))
    finally:
        hops.close()


def _chosen(judged: Sequence[KeyStatus], trust: Trust, expected: str, person: Person | None) -> list[KeyStatus]:
    """The new keys to record. Raises ConnectError where nobody vouches for any."""
    new = [one for one in judged if one.where is None]
    if expected:
        return [one for one in _with_fingerprint(judged, trust, expected) if one.where is None]
    if not new:
        print("nothing to do: they are known" if len(judged) > 1 else "nothing to do: it is known")
        return []
    if person is None:
        raise ConnectError(f"{trust.name}: nobody can be asked: write {OPTION} SHA256:..., the one that you expect", "hostkey")
    answer = (person(f"Record in {trust.file} (yes/no/[fingerprint])? ", True) or "").strip()
    if answer.lower() == "yes":
        return new
    if answer.startswith(("SHA256:", "MD5:")):
        return [one for one in _with_fingerprint(judged, trust, answer.rstrip("=")) if one.where is None]
    raise ConnectError(f"{trust.name}: nothing was recorded", "hostkey")


def _with_fingerprint(judged: Sequence[KeyStatus], trust: Trust, expected: str) -> list[KeyStatus]:
    from pmitogen.transport.keys import public_key

    algorithm = expected.partition(":")[0]
    found = [one for one in judged if public_key.fingerprint(one.blob, algorithm) == expected]
    if not found:
        shown = ", ".join(one.description for one in judged)
        raise ConnectError(
            f"{trust.name}: no host key has the fingerprint {expected}: it shows {shown}: somebody may be listening in", "hostkey"
        )
    return found
