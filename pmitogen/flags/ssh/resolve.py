"""Resolve ssh command lines: an argument vector in, Settings out.

:func:`resolve` resolves a destination, :func:`resolve_hop` one of its jump hosts. They read the configuration files, run the
commands of ``Match exec`` and query the resolver if CanonicalizeHostname is set; they have no other effect. Call them on any
thread. They raise only :class:`pmitogen.errors.UsageError`.
"""

from __future__ import annotations

from collections.abc import Sequence

from pmitogen.errors import UsageError
from pmitogen.flags.ssh.build_settings import build_settings
from pmitogen.flags.ssh.forwardings import OPTIONS as FORWARDING_OPTIONS
from pmitogen.flags.ssh.forwardings import forwardings
from pmitogen.flags.ssh.match_criteria import RequestedSession
from pmitogen.flags.ssh.openssh_version import OPENSSH_10, Program
from pmitogen.flags.ssh.resolve_keywords import ANSIBLE_DEFAULT_ORIGIN, PMITOGEN_SESSION, resolve_keywords
from pmitogen.flags.ssh.settings import JumpHop, Settings
from pmitogen.util.caller import CallerEnvironment

__all__ = ["ANSIBLE_DEFAULT_ORIGIN", "MAX_HOPS", "PMITOGEN_SESSION", "resolve", "resolve_hop"]

MAX_HOPS = 16  # jump hosts of one destination; more are a loop


def resolve(
    argv: Sequence[str],
    *,
    origins: Sequence[str] | None = None,
    caller: CallerEnvironment | None = None,
    default_host: str | None = None,
    strict: bool = True,
    program: Program = OPENSSH_10,
    default_session: RequestedSession | None = None,
    forwards: bool = False,
) -> Settings:
    """Return the settings that ssh would use for this command line.

    *argv*: the command line without the program's name, usually ending in the destination; *default_host* replaces a
    missing one.
    *origins*: the origin of each argument, for messages ("ssh_args", "ansible_port" ...); default "command line". Arguments with
    the origin :data:`ANSIBLE_DEFAULT_ORIGIN` are parsed and have no effect.
    *caller*: the directory and environment to use; default: this process's.
    *default_session*: for Match, where the command line requests no session; default: a shell, as with ssh.
    *forwards*: the caller starts the forwardings of the command line, which are refused otherwise: see ``Settings.forwardings``.
    *strict*: raise for a refused option; False leaves it to ``Settings.report``, where its finding is ``fatal``.
    Raises UsageError: the place, the option and what to use instead.
    """
    resolution = resolve_keywords(argv, origins, caller, default_host, program, default_session)
    settings = build_settings(resolution)
    if forwards:
        settings = settings._replace(forwardings=forwardings(resolution, explicit_only=True))
    for finding in settings.report:
        if finding.fatal and strict and not (forwards and finding.option.lower() in FORWARDING_OPTIONS):
            raise UsageError(f"{finding.option}: {finding.reason}", finding.origin)
    return settings


def resolve_hop(
    hop: JumpHop, parent: Settings | None = None, *, caller: CallerEnvironment | None = None, strict: bool = True
) -> Settings:
    """Return a jump host's settings: those of the ssh process that ``ssh -J`` starts for it.

    That ssh gets the hop's user and port, and the destination's ``-F`` and ``-v``, but no other argument; by ``-W`` it requests
    no session. For a hop that stems from a ProxyCommand it gets the arguments of that command.
    *parent*: the destination, named in messages.
    *caller*: default: the parent's.
    """
    argv = list(hop.argv)
    if hop.user is not None:
        argv += ["-l", hop.user]
    if hop.port is not None:
        argv += ["-p", str(hop.port)]
    arguments = [*argv, "--", hop.host]
    origin = f"jump host {hop.host}" + (f" of {parent.originalhost}" if parent else "")
    return resolve(
        arguments,
        origins=[origin] * len(arguments),
        caller=caller or (parent and parent.caller),
        default_session=RequestedSession("exec", hop.command) if hop.command else RequestedSession("none"),
        strict=strict,
    )
