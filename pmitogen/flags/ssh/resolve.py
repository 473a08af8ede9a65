"""The entrance for ssh: an argument vector in, Settings out.

:func:`resolve` for a destination, :func:`resolve_hop` for a hop on the way to it, :func:`route` for all hops at once. All are
pure but for reading the configuration files (and running what ``Match exec`` says, and asking the resolver where
CanonicalizeHostname says so); all may be called from any thread; all raise :class:`pmitogen.errors.UsageError` and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

from pmitogen.errors import UsageError
from pmitogen.flags.ssh.build_settings import settings_from
from pmitogen.flags.ssh.openssh_version import OPENSSH_10, Program
from pmitogen.flags.ssh.resolver import DEFAULTED, resolve_words
from pmitogen.flags.ssh.settings import JumpHop, Settings
from pmitogen.util.caller import CallerEnvironment

__all__ = ["DEFAULTED", "MAX_HOPS", "resolve", "resolve_hop", "route"]

MAX_HOPS = 16  # on the way to one destination; more of them are a loop


def resolve(
    argv: Sequence[str],
    *,
    origins: Sequence[str] | None = None,
    caller: CallerEnvironment | None = None,
    default_host: str | None = None,
    strict: bool = True,
    program: Program = OPENSSH_10,
) -> Settings:
    """What ssh would do for this command line.

    *argv*: the command line without the program's name, usually ending in the destination; *default_host* stands in for a
    missing one.
    *origins*: where each word comes from, for messages ("ssh_args", "ansible_port" ...); default "command line". Words from
    :data:`DEFAULTED` are read, and count for nothing. *caller*: default this process. *strict*: a word that is refused
    raises; False leaves it to ``Settings.report``, where its finding is ``fatal``.
    Raises UsageError: the word, where it stands, and what to write instead.
    """
    settings = settings_from(resolve_words(argv, origins, caller, default_host, program))
    for finding in settings.report:
        if finding.fatal and strict:
            raise UsageError(f"{finding.origin}: {finding.option}: {finding.why}")
    return settings


def resolve_hop(
    hop: JumpHop, parent: Settings | None = None, *, caller: CallerEnvironment | None = None, strict: bool = True
) -> Settings:
    """The hop's own settings, as the ssh that ``ssh -J`` starts would have them.

    Such an ssh is given the hop's user and port, and the destination's ``-F`` and ``-v``, but no other word of its command line;
    a hop that stems from a ProxyCommand has the words of that command line instead. *parent* is named in messages, and its caller
    is the hop's unless *caller* is given.
    """
    argv = list(hop.argv)
    if hop.user is not None:
        argv += ["-l", hop.user]
    if hop.port is not None:
        argv += ["-p", str(hop.port)]
    words = [*argv, "--", hop.host]
    origin = f"jump host {hop.host}" + (f" of {parent.originalhost}" if parent else "")
    return resolve(words, origins=[origin] * len(words), caller=caller or (parent and parent.caller), strict=strict)


def route(settings: Settings, *, strict: bool = True) -> tuple[Settings, ...]:
    """The settings of every hop in travelling order, the destination's own last.

    The first hop named may itself be behind others by its own configuration; those come before it. Only the first of the
    result may have a ProxyCommand. Raises UsageError also for a loop.
    """
    chain = [settings]
    ahead = settings
    while ahead.proxyjump:
        hops = [resolve_hop(hop, ahead, strict=strict) for hop in ahead.proxyjump]
        chain[:0] = hops
        if len(chain) > MAX_HOPS:
            raise UsageError(f"{settings.originalhost}: ProxyJump: more than {MAX_HOPS} hops: their configuration is a loop")
        ahead = hops[0]
    return tuple(chain)
